/**
 * How much of what repeats is run: `npm test` has each rule once or a few times, `npm run test:full` has more seeds, more kills, longer
 * traces and an export of every point (docs/simulation.md, docs/crash-tests.md). The one place that reads `TIDEMARK_TESTS`.
 */
const wanted = process.env['TIDEMARK_TESTS'] ?? 'quick';
if (wanted !== 'quick' && wanted !== 'full') throw new Error(`TIDEMARK_TESTS is quick or full, not ${wanted}`);

export const isFullRun = wanted === 'full';

export const extent = <T>({ quick, full }: { readonly quick: T; readonly full: T }): T => (isFullRun ? full : quick);
