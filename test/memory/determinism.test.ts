import { expect, it } from 'vitest';
import { createMemoryStorage } from '../../src/memory/memory-storage.ts';
import { live, pattern } from '../contracts/support.ts';

/** Ids and ETags of a fixed run of calls. */
async function run(): Promise<unknown[]> {
  const { seeds, catalog } = createMemoryStorage();
  const key = { group: 'g', machine: 'm', disk: 'd' };
  const disk = await seeds.open(key, 1_048_576, pattern(1, 512), live);
  await disk.putPages(0, pattern(2, 512), live);
  const etag = await catalog.create('a', pattern(3, 9), live);
  const lease = await catalog.takeLease('a', live);
  const replaced = await catalog.replace('a', pattern(4, 9), etag ?? '', lease, live);
  return [etag, lease.id, replaced, await disk.snapshot({}, live), await disk.snapshot({}, live), seeds.peek(key)];
}

it('gives the same ids, ETags and bytes for the same calls', async () => {
  const first = await run();
  expect(await run()).toEqual(first);
  expect(first.slice(3, 5)).toEqual(['2000-01-01T00:00:00.0000005Z', '2000-01-01T00:00:00.0000006Z']);
});
