import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lunsOf } from '../../src/failover/machine-spec.ts';
import {
  managedDiskName,
  MAX_DISK_NAME_CHARS,
  MAX_MACHINE_NAME_CHARS,
  virtualMachineName,
} from '../../src/failover/resource-names.ts';
import { DEFAULT_TARGET, parseTarget } from '../../src/failover/set-target.ts';

const NIC = '/subscriptions/s/resourceGroups/r/providers/Microsoft.Network/networkInterfaces/web';
const MACHINE = {
  machine: 'web',
  disks: ['os', 'data', 'log'].map((disk) => ({ disk, sizeBytes: 2 ** 20, epoch: 1 })),
};
const VALID = {
  osDisk: { disk: 'os', osType: 'Linux' },
  luns: { log: 5 },
  virtualMachine: { size: 'Standard_D2s_v5', networkInterfaceIds: [NIC] },
};

describe('a target', () => {
  it('has defaults for what is left out', () => {
    expect(DEFAULT_TARGET).toMatchObject({ sku: 'StandardSSD_LRS', zone: null, virtualMachine: null, osDisk: null });
    expect(parseTarget(VALID, MACHINE)).toMatchObject({
      osDisk: { hyperVGeneration: 'V2' },
      virtualMachine: { testNetworkInterfaceIds: [] },
      tags: {},
    });
  });

  it.each([
    [{ ...VALID, sku: 'Ultra' }, 'sku: '],
    [{ ...VALID, colour: 1 }, 'target: '],
    [{ ...VALID, osDisk: null }, 'osDisk: a virtual machine needs a disk to boot from'],
    [{ ...VALID, osDisk: { disk: 'c', osType: 'Windows' } }, 'osDisk.disk: the machine has no disk c'],
    [{ ...VALID, luns: { swap: 1 } }, 'luns.swap: the machine has no such disk'],
    [{ ...VALID, luns: { os: 1 } }, 'luns.os: the disk to boot from has no logical unit number'],
    [{ ...VALID, luns: { log: 1, data: 1 } }, 'luns: two disks have the same number'],
    [{ ...VALID, tags: { 'Tidemark-Job': 'x' } }, "tags.Tidemark-Job: names with tidemark- are Tidemark's own"],
    [{ ...VALID, virtualMachine: { size: 'x', networkInterfaceIds: [] } }, 'virtualMachine.networkInterfaceIds: '],
  ])('is refused when it does not fit: %j', (target, problem) => {
    expect(() => parseTarget(target, MACHINE)).toThrow(
      expect.objectContaining({ code: 'TARGET_INVALID', message: expect.stringContaining(problem) as string }),
    );
  });

  it('gives free numbers to the disks that it names none for', () => {
    expect(lunsOf(['a', 'b', 'c', 'd'], { b: 0, d: 2 })).toEqual([1, 0, 3, 2]);
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.string({ minLength: 1 }), { maxLength: 20 }),
        fc.uniqueArray(fc.nat(63), { maxLength: 20 }),
        (disks, numbers) => {
          const given = Object.fromEntries(
            numbers.slice(0, disks.length).map((lun, index) => [disks[index] ?? '', lun]),
          );
          const luns = lunsOf(disks, given);
          expect(new Set(luns).size).toBe(disks.length);
          for (const [index, disk] of disks.entries())
            if (Object.hasOwn(given, disk)) expect(luns[index]).toBe(given[disk]);
        },
      ),
    );
  });
});

const nameArb = fc.stringMatching(/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/);
const madeByArb = fc.record({ job: fc.stringMatching(/^[a-z0-9-]{1,40}$/), isTest: fc.boolean() });

describe('names of resources', () => {
  it('are valid in Azure, and the same for the same disk', () => {
    fc.assert(
      fc.property(nameArb, nameArb, madeByArb, (machine, disk, madeBy) => {
        const name = managedDiskName({ machine, disk }, madeBy);
        expect(name).toMatch(/^[A-Za-z0-9][A-Za-z0-9_-]*[A-Za-z0-9_]$/);
        expect(name.length).toBeLessThanOrEqual(MAX_DISK_NAME_CHARS);
        expect(name.endsWith('-test')).toBe(madeBy.isTest);
        expect(managedDiskName({ machine, disk }, madeBy)).toBe(name);
        const virtual = virtualMachineName(machine, madeBy.isTest);
        expect(virtual.length).toBeLessThanOrEqual(MAX_MACHINE_NAME_CHARS);
      }),
    );
  });

  it('tell disks apart whose readable parts are the same', () => {
    const madeBy = { job: 'j', isTest: false };
    const long = 'x'.repeat(63);
    const names = [
      managedDiskName({ machine: 'a-b', disk: 'c' }, madeBy),
      managedDiskName({ machine: 'a', disk: 'b-c' }, madeBy),
      managedDiskName({ machine: 'a.b', disk: 'c' }, madeBy),
      managedDiskName({ machine: 'a-b', disk: 'c' }, { ...madeBy, job: 'k' }),
      managedDiskName({ machine: long, disk: `${long.slice(1)}1` }, madeBy),
      managedDiskName({ machine: long, disk: `${long.slice(1)}2` }, madeBy),
    ];
    expect(new Set(names.map((name) => name.toLowerCase())).size).toBe(names.length);
    expect(virtualMachineName('web', true)).toBe('web-test');
    const [one, other] = ['a', 'b'].map((end) => virtualMachineName(`${long.slice(1)}${end}`, true));
    expect(one).not.toBe(other);
  });
});
