import { describe, expect, it } from 'vitest';
import { disableGroup, getGroup, protectGroup } from '../../src/catalog/groups.ts';
import { deletePolicy, findPolicy, getPolicy, listPolicies, setPolicy } from '../../src/catalog/policies.ts';
import { contents, failure, interrupted, live, newCatalog, NOW_US, request } from './support.ts';

const GOLD = 'policies/gold.json';

describe('policies', () => {
  it('are created with the defaults and stored as one document each', async () => {
    const catalog = newCatalog();
    await setPolicy(catalog, 'gold', { retentionHours: 72 }, live());
    expect(await contents(catalog)).toEqual({
      [GOLD]:
        '{"version":1,"policy":"gold","retentionHours":72,"appConsistentHours":4,"rpoThresholdMinutes":15,"logRetentionHours":0}\n',
    });
  });

  it('keep the values that a change does not name', async () => {
    const catalog = newCatalog();
    await setPolicy(catalog, 'gold', { retentionHours: 360, appConsistentHours: 12 }, live());
    await setPolicy(catalog, 'gold', { rpoThresholdMinutes: 30 }, live());
    expect(await getPolicy(catalog, 'gold', live())).toEqual({
      version: 1,
      policy: 'gold',
      retentionHours: 360,
      appConsistentHours: 12,
      rpoThresholdMinutes: 30,
      logRetentionHours: 0,
    });
  });

  it('refuse bad values and names, and stay as they were', async () => {
    const catalog = newCatalog();
    await setPolicy(catalog, 'gold', {}, live());
    const before = await contents(catalog);
    expect(await failure(setPolicy(catalog, 'gold', { retentionHours: 361 }, live()))).toContain(
      'POLICY_INVALID: retentionHours is 361',
    );
    expect(await failure(setPolicy(catalog, '../gold', {}, live()))).toContain('NAME_INVALID');
    expect(await failure(setPolicy(catalog, 'new', { logRetentionHours: -1 }, live()))).toContain('POLICY_INVALID');
    expect(await contents(catalog)).toEqual(before);
  });

  it('are listed by name', async () => {
    const catalog = newCatalog();
    for (const name of ['silver', 'bronze', 'gold']) await setPolicy(catalog, name, {}, live());
    expect((await listPolicies(catalog, live())).map(({ policy }) => policy)).toEqual(['bronze', 'gold', 'silver']);
  });

  it('that are stored with a bad value are refused when read', async () => {
    const catalog = newCatalog();
    const stored = {
      version: 1,
      policy: 'gold',
      retentionHours: 4,
      appConsistentHours: 4,
      rpoThresholdMinutes: 15,
      logRetentionHours: 0,
    };
    await catalog.create(GOLD, Buffer.from(JSON.stringify(stored)), live());
    expect(await failure(findPolicy(catalog, 'gold', live()))).toContain(
      `DOCUMENT_INVALID: ${GOLD}: appConsistentHours: `,
    );
  });

  it('that do not exist are not found', async () => {
    const catalog = newCatalog();
    expect(await findPolicy(catalog, 'gold', live())).toBeUndefined();
    expect(await failure(getPolicy(catalog, 'gold', live()))).toBe('POLICY_NOT_FOUND: there is no policy gold');
    expect(await failure(deletePolicy(catalog, 'gold', live()))).toBe('POLICY_NOT_FOUND: there is no policy gold');
  });
});

describe('deletePolicy', () => {
  it('is refused while a group uses the policy, and done once the group is disabled', async () => {
    const catalog = newCatalog();
    await setPolicy(catalog, 'gold', {}, live());
    await setPolicy(catalog, 'silver', {}, live());
    for (const group of ['shop', 'web', 'a', 'b', 'c', 'd']) await protectGroup(catalog, request({ group }), live());
    await deletePolicy(catalog, 'silver', live());
    expect(await failure(deletePolicy(catalog, 'gold', live()))).toBe(
      'POLICY_IN_USE: policy gold is used by a, b, c, d, shop and 1 more',
    );
    for (const group of ['shop', 'web', 'a', 'b', 'c', 'd']) {
      await disableGroup(catalog, group, { keepPoints: true, nowUs: NOW_US }, live());
    }
    await deletePolicy(catalog, 'gold', live());
    expect(await listPolicies(catalog, live())).toEqual([]);
  });

  it('sees a group that is protected while it looks', async () => {
    const catalog = newCatalog();
    await setPolicy(catalog, 'gold', {}, live());
    const act = () => protectGroup(catalog, request(), live());
    const raced = interrupted(catalog, { step: 'list', name: 'groups/', when: 'after', act });
    expect(await failure(deletePolicy(raced, 'gold', live()))).toBe('POLICY_IN_USE: policy gold is used by shop');
    expect((await getGroup(catalog, 'shop', live())).policy).toBe('gold');
  });

  it('wins over a group that is protected at the same time, which then is not', async () => {
    const catalog = newCatalog();
    await setPolicy(catalog, 'gold', {}, live());
    const act = () => deletePolicy(catalog, 'gold', live());
    const raced = interrupted(catalog, { step: 'create', name: 'groups/', when: 'before', act });
    expect(await failure(protectGroup(raced, request(), live()))).toBe('POLICY_NOT_FOUND: there is no policy gold');
    expect(await contents(catalog)).toEqual({});
  });
});
