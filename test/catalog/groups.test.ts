import { describe, expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { updateDocument } from '../../src/catalog/documents.ts';
import {
  disableGroup,
  getGroup,
  groupDocumentSchema,
  holdsOf,
  listGroupDocuments,
  listGroups,
  pauseGroup,
  pinPoint,
  protectGroup,
  resumeGroup,
  setGroupPolicy,
  unpinPoint,
} from '../../src/catalog/groups.ts';
import { deletePolicy, setPolicy } from '../../src/catalog/policies.ts';
import { catalogName } from '../../src/model/names.ts';
import { MAX_DISK_BYTES, MIB } from '../../src/model/sizes.ts';
import { HOUR_US } from '../../src/model/time.ts';
import { contents, failure, interrupted, live, newCatalog, NOW_US, request } from './support.ts';

async function withGold(): Promise<Catalog> {
  const catalog = newCatalog();
  await setPolicy(catalog, 'gold', {}, live());
  return catalog;
}

async function withShop(): Promise<Catalog> {
  const catalog = await withGold();
  await protectGroup(catalog, request(), live());
  return catalog;
}

const disksOf = (count: number) => Array.from({ length: count }, (_, i) => ({ disk: `disk${i}`, sizeBytes: MIB }));
const machinesOf = (count: number, disks = 1) =>
  Array.from({ length: count }, (_, i) => ({ machine: `m${i}`, disks: disksOf(disks) }));
const keep = { keepPoints: true, nowUs: NOW_US };
const discard = { keepPoints: false, nowUs: NOW_US };
const epochs = (group: { machines: readonly { disks: readonly { epoch: number }[] }[] }) =>
  group.machines.map(({ disks }) => disks.map(({ epoch }) => epoch));

describe('protectGroup', () => {
  it('stores the machines in the order given, in epoch 1', async () => {
    const catalog = await withShop();
    expect((await contents(catalog))['groups/shop.json']).toBe(
      '{"version":1,"group":"shop","policy":"gold","wanted":"active","machines":[{"machine":"db","disks":[{"disk":"disk0","sizeBytes":67108864,"epoch":1}]}],"pins":[],"createdAt":"2026-11-23T04:30:00.000000Z"}\n',
    );
  });

  it.each([
    ['16 machines', machinesOf(16)],
    ['64 disks', machinesOf(1, 64)],
    ['the same disk name on two machines', machinesOf(2)],
    ['the largest disk', [{ machine: 'm', disks: [{ disk: 'a', sizeBytes: MAX_DISK_BYTES }] }]],
  ])('accepts %s', async (_, machines) => {
    const catalog = await withGold();
    const group = await protectGroup(catalog, request({ machines }), live());
    expect(await getGroup(catalog, 'shop', live())).toEqual(group);
    expect(group.machines.map(({ machine }) => machine)).toEqual(machines.map(({ machine }) => machine));
  });

  it.each([
    ['no machine', [], 'GROUP_INVALID: group shop has 0 machines, but must have 1 to 16'],
    ['17 machines', machinesOf(17), 'GROUP_INVALID: group shop has 17 machines, but must have 1 to 16'],
    ['no disk', machinesOf(1, 0), 'GROUP_INVALID: machine m0 has 0 disks, but must have 1 to 64'],
    ['65 disks', machinesOf(1, 65), 'GROUP_INVALID: machine m0 has 65 disks, but must have 1 to 64'],
    ['a machine twice', [...machinesOf(1), ...machinesOf(1)], 'GROUP_INVALID: group shop names machine m0 twice'],
    [
      'a disk twice',
      [{ machine: 'm', disks: [...disksOf(2), ...disksOf(1)] }],
      'GROUP_INVALID: machine m names disk disk0 twice',
    ],
    [
      'an odd size',
      [{ machine: 'm', disks: [{ disk: 'a', sizeBytes: MIB + 512 }] }],
      'GROUP_INVALID: disk m/a has 1049088 bytes',
    ],
    [
      'a disk too large',
      [{ machine: 'm', disks: [{ disk: 'a', sizeBytes: MAX_DISK_BYTES + MIB }] }],
      'GROUP_INVALID: disk m/a has',
    ],
    ['a bad machine name', [{ machine: 'a/b', disks: disksOf(1) }], 'NAME_INVALID: "a/b" is no valid machine name'],
    [
      'a bad disk name',
      [{ machine: 'a', disks: [{ disk: '..', sizeBytes: MIB }] }],
      'NAME_INVALID: ".." is no valid disk name',
    ],
  ])('refuses %s', async (_, machines, message) => {
    const catalog = await withGold();
    const before = await contents(catalog);
    expect(await failure(protectGroup(catalog, request({ machines }), live()))).toContain(message);
    expect(await contents(catalog)).toEqual(before);
  });

  it('needs its policy', async () => {
    const catalog = newCatalog();
    expect(await failure(protectGroup(catalog, request(), live()))).toBe('POLICY_NOT_FOUND: there is no policy gold');
    expect(await contents(catalog)).toEqual({});
  });

  it('refuses a group that is active or paused', async () => {
    const catalog = await withShop();
    expect(await failure(protectGroup(catalog, request(), live()))).toBe(
      'GROUP_EXISTS: group shop is protected already (active)',
    );
    await pauseGroup(catalog, 'shop', live());
    expect(await failure(protectGroup(catalog, request(), live()))).toContain('(paused)');
  });

  it('refuses a disabled group while something of its points is in Azure', async () => {
    const catalog = await withShop();
    await disableGroup(catalog, 'shop', keep, live());
    const drill = { state: 'tested' as const, job: 'j', point: null, made: ['j'], since: '2026-11-23T04:00:00Z' };
    const name = catalogName.group('shop');
    await updateDocument(catalog, name, groupDocumentSchema, (group) => ({ ...group, drill }), live());
    expect(await failure(protectGroup(catalog, request(), live()))).toContain('FAILOVER_STATE');
  });

  it('takes a lost answer to its own write for success', async () => {
    const catalog = await withGold();
    const lossy: Catalog = {
      ...interrupted(catalog, { step: 'list', name: 'never', when: 'before', act: async () => undefined }),
      create: async (name, bytes, signal) => {
        await catalog.create(name, bytes, signal);
        return catalog.create(name, bytes, signal); // what a retry below the port sees
      },
    };
    expect((await protectGroup(lossy, request(), live())).wanted).toBe('active');
  });

  it('goes on in a new epoch after the group was disabled, above that of every disk', async () => {
    const catalog = await withShop();
    await disableGroup(catalog, 'shop', keep, live());
    const second = await protectGroup(catalog, request({ machines: machinesOf(2) }), live());
    expect(epochs(second)).toEqual([[2], [2]]);
    await disableGroup(catalog, 'shop', keep, live());
    expect(epochs(await protectGroup(catalog, request(), live()))).toEqual([[3]]);
  });

  it('refuses another size while points of the disk are kept, and takes it when they are given up', async () => {
    const catalog = await withShop();
    const machines = [{ machine: 'db', disks: [{ disk: 'disk0', sizeBytes: 65 * MIB }] }];
    await disableGroup(catalog, 'shop', keep, live());
    expect(await failure(protectGroup(catalog, request({ machines }), live()))).toContain(
      'GROUP_INVALID: disk db/disk0 has kept points with 67108864 bytes',
    );
    await disableGroup(catalog, 'shop', discard, live());
    expect(epochs(await protectGroup(catalog, request({ machines }), live()))).toEqual([[2]]);
  });

  it('puts a disabled group back when its policy vanishes meanwhile', async () => {
    const catalog = await withShop();
    await disableGroup(catalog, 'shop', keep, live());
    const before = (await contents(catalog))['groups/shop.json'];
    const act = () => deletePolicy(catalog, 'gold', live());
    const raced = interrupted(catalog, { step: 'replace', name: 'groups/', when: 'before', act });
    expect(await failure(protectGroup(raced, request(), live()))).toBe('POLICY_NOT_FOUND: there is no policy gold');
    expect(await contents(catalog)).toEqual({ 'groups/shop.json': before });
  });
});

describe('reading groups', () => {
  it('lists names without reading documents', async () => {
    const catalog = await withGold();
    for (const group of ['web', 'shop']) await protectGroup(catalog, request({ group }), live());
    await catalog.create('groups/broken.json', Buffer.from('{'), live());
    expect(await listGroups(catalog, live())).toEqual(['broken', 'shop', 'web']);
    expect(await failure(listGroupDocuments(catalog, live()))).toBe(
      'DOCUMENT_INVALID: groups/broken.json: is no JSON text',
    );
    await catalog.delete('groups/broken.json', undefined, live());
    expect((await listGroupDocuments(catalog, live())).map(({ group }) => group)).toEqual(['shop', 'web']);
  });

  it('refuses the document of another group', async () => {
    const catalog = await withShop();
    const copy = (await contents(catalog))['groups/shop.json'] ?? '';
    await catalog.create('groups/web.json', Buffer.from(copy), live());
    expect(await failure(getGroup(catalog, 'web', live()))).toBe(
      'DOCUMENT_INVALID: groups/web.json: group: is the document of shop',
    );
  });

  it('names the field that is wrong', async () => {
    const catalog = await withShop();
    const text = ((await contents(catalog))['groups/shop.json'] ?? '').replace('67108864', '67108865');
    await catalog.create('groups/odd.json', Buffer.from(text), live());
    expect(await failure(getGroup(catalog, 'odd', live()))).toContain(
      'groups/odd.json: machines[0].disks[0].sizeBytes: ',
    );
  });
});

describe('pause, resume, disable', () => {
  it('are idempotent, and a disabled group is neither paused nor resumed', async () => {
    const catalog = await withShop();
    for (const change of [pauseGroup, resumeGroup]) {
      const once = await change(catalog, 'shop', live());
      const before = await catalog.read('groups/shop.json', live());
      expect(await change(catalog, 'shop', live())).toEqual(once);
      expect((await catalog.read('groups/shop.json', live()))?.etag).toBe(before?.etag);
    }
    expect((await pauseGroup(catalog, 'shop', live())).wanted).toBe('paused');
    expect((await resumeGroup(catalog, 'shop', live())).wanted).toBe('active');
    await disableGroup(catalog, 'shop', keep, live());
    expect(await failure(pauseGroup(catalog, 'shop', live()))).toBe('GROUP_DISABLED: group shop is disabled');
    expect(await failure(resumeGroup(catalog, 'shop', live()))).toBe('GROUP_DISABLED: group shop is disabled');
  });

  it('need a group', async () => {
    const catalog = await withGold();
    for (const call of [
      pauseGroup(catalog, 'shop', live()),
      resumeGroup(catalog, 'shop', live()),
      disableGroup(catalog, 'shop', keep, live()),
      setGroupPolicy(catalog, 'shop', 'gold', live()),
      unpinPoint(catalog, 'shop', 'p', live()),
    ]) {
      expect(await failure(call)).toBe('GROUP_NOT_FOUND: there is no group shop');
    }
  });

  it('keep the points, or mark every epoch so far for deletion', async () => {
    const catalog = await withShop();
    const kept = await disableGroup(catalog, 'shop', keep, live());
    expect([kept.wanted, kept.discardBeforeEpoch]).toEqual(['disabled', undefined]);
    const given = await disableGroup(catalog, 'shop', discard, live());
    expect([given.wanted, given.discardBeforeEpoch]).toEqual(['disabled', 2]);
    expect(await disableGroup(catalog, 'shop', keep, live())).toEqual(given);
    const again = await protectGroup(catalog, request(), live());
    expect([epochs(again), again.discardBeforeEpoch]).toEqual([[[2]], 2]);
  });

  it('do not give up points that are pinned', async () => {
    const catalog = await withShop();
    const pin = { group: 'shop', point: 'p1', owner: 'ada', reason: 'audit', expiresAtUs: NOW_US + 1, nowUs: NOW_US };
    await pinPoint(catalog, pin, live());
    expect(await failure(disableGroup(catalog, 'shop', discard, live()))).toBe(
      'GROUP_PINNED: group shop has pinned points: p1 by ada: audit',
    );
    expect((await getGroup(catalog, 'shop', live())).wanted).toBe('active');
    const later = await disableGroup(catalog, 'shop', { keepPoints: false, nowUs: NOW_US + 1 }, live());
    expect([later.wanted, later.pins]).toEqual(['disabled', []]);
    expect(await failure(pinPoint(catalog, { ...pin, expiresAtUs: null }, live()))).toContain('GROUP_DISABLED');
  });
});

describe('setGroupPolicy', () => {
  it('moves a group to another policy that exists', async () => {
    const catalog = await withShop();
    expect(await failure(setGroupPolicy(catalog, 'shop', 'silver', live()))).toBe(
      'POLICY_NOT_FOUND: there is no policy silver',
    );
    await setPolicy(catalog, 'silver', {}, live());
    expect((await setGroupPolicy(catalog, 'shop', 'silver', live())).policy).toBe('silver');
    await deletePolicy(catalog, 'gold', live());
    expect(await failure(deletePolicy(catalog, 'silver', live()))).toContain('POLICY_IN_USE');
  });

  it('leaves the group where it was when the new policy vanishes meanwhile', async () => {
    const catalog = await withShop();
    await setPolicy(catalog, 'silver', {}, live());
    const act = () => deletePolicy(catalog, 'silver', live());
    const raced = interrupted(catalog, { step: 'replace', name: 'groups/', when: 'before', act });
    expect(await failure(setGroupPolicy(raced, 'shop', 'silver', live()))).toBe(
      'POLICY_NOT_FOUND: there is no policy silver',
    );
    expect((await getGroup(catalog, 'shop', live())).policy).toBe('gold');
  });
});

describe('pins', () => {
  const pin = { group: 'shop', point: 'p1', owner: 'ada', reason: 'audit', expiresAtUs: null, nowUs: NOW_US };

  it('become holds of the retention plan', async () => {
    const catalog = await withShop();
    await pinPoint(catalog, { ...pin, expiresAtUs: NOW_US + HOUR_US }, live());
    const group = await pinPoint(catalog, { ...pin, owner: 'bob' }, live());
    expect(holdsOf(group)).toEqual([
      { point: 'p1', kind: 'pin', owner: 'ada', reason: 'audit', expiresAtUs: NOW_US + HOUR_US },
      { point: 'p1', kind: 'pin', owner: 'bob', reason: 'audit', expiresAtUs: null },
    ]);
  });

  it('are replaced by a second one of the same owner, and expired ones go', async () => {
    const catalog = await withShop();
    await pinPoint(catalog, { ...pin, expiresAtUs: NOW_US + HOUR_US }, live());
    await pinPoint(catalog, { ...pin, point: 'p2', expiresAtUs: NOW_US + 1 }, live());
    const group = await pinPoint(catalog, { ...pin, reason: 'trial', nowUs: NOW_US + 1 }, live());
    expect(group.pins.map(({ point, reason }) => [point, reason])).toEqual([['p1', 'trial']]);
  });

  it('are taken off whoever set them; done already counts as done', async () => {
    const catalog = await withShop();
    for (const owner of ['ada', 'bob']) await pinPoint(catalog, { ...pin, owner }, live());
    await pinPoint(catalog, { ...pin, point: 'p2' }, live());
    for (let time = 0; time < 2; time++) {
      const group = await unpinPoint(catalog, 'shop', 'p1', live());
      expect(group.pins.map(({ point }) => point)).toEqual(['p2']);
    }
  });

  it.each([
    [{ reason: '' }, 'PIN_INVALID: the reason of a pin'],
    [{ reason: ' ' }, 'PIN_INVALID: the reason of a pin'],
    [{ reason: 'a\nb' }, 'PIN_INVALID: the reason of a pin'],
    [{ owner: 'x'.repeat(201) }, 'PIN_INVALID: the owner of a pin'],
    [{ expiresAtUs: NOW_US }, 'PIN_INVALID: the pin would end at 2026-11-23T04:30:00.000000Z, which is over'],
    [{ point: '../p' }, 'NAME_INVALID: "../p" is no valid point name'],
  ])('refuse %j', async (changes, message) => {
    const catalog = await withShop();
    const before = await contents(catalog);
    expect(await failure(pinPoint(catalog, { ...pin, ...changes }, live()))).toContain(message);
    expect(await contents(catalog)).toEqual(before);
  });

  it('have a limit', async () => {
    const catalog = await withShop();
    const group = await getGroup(catalog, 'shop', live());
    const pins = Array.from({ length: 1000 }, (_, i) => ({
      point: `p${i}`,
      owner: 'ada',
      reason: 'audit',
      expiresAt: null,
      createdAt: group.createdAt,
    }));
    const stored = await catalog.read('groups/shop.json', live());
    await catalog.replace(
      'groups/shop.json',
      Buffer.from(JSON.stringify({ ...group, pins })),
      stored?.etag ?? '',
      undefined,
      live(),
    );
    expect(await failure(pinPoint(catalog, { ...pin, point: 'p1000' }, live()))).toBe(
      'PIN_INVALID: group shop has 1000 pins, and 1000 is the limit',
    );
    expect((await pinPoint(catalog, { ...pin, reason: 'again' }, live())).pins.length).toBe(1000);
  });
});
