import { beforeAll, describe, expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { pointCopyName, type CopyStore } from '../../src/copies/copy-store.ts';
import { MIB } from '../../src/model/sizes.ts';
import type { ReplicaSurvey } from '../../src/rebuild/survey.ts';
import type { SeedStore } from '../../src/seed/seed-store.ts';
import { vhdFooter } from '../../src/seed/vhd-footer.ts';
import { freshName, live } from './support.ts';

interface Surveyed {
  readonly survey: ReplicaSurvey;
  readonly seeds: SeedStore;
  readonly copies: CopyStore;
  readonly catalog: Catalog;
}

/** What ReplicaSurvey promises, run on every adapter. */
export function surveyContract(name: string, make: () => Promise<Surveyed>): void {
  describe(`${name}: survey of the replica account`, () => {
    let storage: Surveyed;
    beforeAll(async () => {
      storage = await make();
    });

    it('finds groups, their seed disks and copies, with sizes', async () => {
      const { survey, seeds, copies } = storage;
      const [group, longer] = [freshName('a'), `${freshName('a')}.b`];
      expect(await survey.seeds(group, live)).toEqual([]);
      expect(await survey.copies(group, live)).toEqual([]);
      for (const [key, sizeBytes] of [
        [{ group, machine: 'm', disk: 'two' }, 2 * MIB],
        [{ group, machine: 'm', disk: 'one' }, MIB],
        [{ group: longer, machine: 'm', disk: 'one' }, MIB],
      ] as const) {
        const seed = await seeds.open(key, sizeBytes, vhdFooter(key, sizeBytes), live);
        const snapshot = await seed.snapshot({ point: 'p' }, live);
        if (key.disk === 'two') {
          const source = { ...key, sizeBytes, snapshot, copy: null };
          await copies.copy(source, pointCopyName(key, 'p-at'), { signal: live });
        }
        await seed.close(live);
      }
      expect(await survey.groups(live)).toEqual(expect.arrayContaining([group, longer]));
      expect(await survey.seeds(group, live)).toEqual([
        { machine: 'm', disk: 'one', blobBytes: MIB + 512 },
        { machine: 'm', disk: 'two', blobBytes: 2 * MIB + 512 },
      ]);
      expect(await survey.copies(group, live)).toEqual([
        { copy: `point-disks/${group}/m/two/p-at.vhd`, blobBytes: 2 * MIB + 512 },
      ]);
    });

    it('tells whether a document is leased, and takes no lease', async () => {
      const { survey, catalog } = storage;
      const document = `progress/${freshName('g')}.json`;
      expect(await survey.isLeased(document, live)).toBe(false);
      await catalog.create(document, Buffer.from('{}'), live);
      expect(await survey.isLeased(document, live)).toBe(false);
      const lease = await catalog.takeLease(document, live);
      expect(await survey.isLeased(document, live)).toBe(true);
      await lease.renew(live);
      await lease.release(live);
      expect(await survey.isLeased(document, live)).toBe(false);
    });
  });
}
