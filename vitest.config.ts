import { defineConfig } from 'vitest/config';

/**
 * Folders whose tests start no process and keep nothing outside of themselves: their files share a worker and the modules in it, which
 * spares loading the Azure SDKs and zod for each of them.
 */
const SHARED = [
  'api',
  'apply',
  'catalog',
  'coalesce',
  'cuts',
  'docs',
  'failover',
  'inspect',
  'log',
  'memory',
  'monitoring',
  'nbd',
  'plans',
  'points',
  'retention',
  'seed',
  'serve',
  'source',
  'worker',
].map((folder) => `test/${folder}/**/*.test.ts`);

export default defineConfig({
  test: {
    // Two cores: more workers only make Azurite's answers slower.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ['default', './test/support/closing-line.ts'],
    projects: [
      { extends: true, test: { name: 'shared', include: SHARED, isolate: false } },
      { extends: true, test: { name: 'alone', include: ['test/**/*.test.ts'], exclude: SHARED } },
    ],
  },
});
