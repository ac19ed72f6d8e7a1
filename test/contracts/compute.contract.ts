/** What holds for every {@link Compute}, whatever is behind it. */
import { describe, expect, it } from 'vitest';
import type { Compute, DiskSpec, MachineSpec, ManagedDisk, Resumable } from '../../src/failover/compute.ts';
import { MIB } from '../../src/model/sizes.ts';
import { vhdFooter } from '../../src/seed/vhd-footer.ts';
import { expectAborts, expectBytes, expectCode, freshName, live, pattern } from './support.ts';

export interface ComputeWorld {
  readonly compute: Compute;
  /** Puts a page blob with these bytes where an import finds it. @returns its URL */
  readonly putSource: (bytes: Buffer) => Promise<string>;
  /** Changes bytes of the source behind a URL. */
  readonly changeSource: (url: string, offsetBytes: number, bytes: Buffer) => Promise<void>;
  /** All bytes of a disk with its footer, past the port. */
  readonly readDisk: (name: string) => Promise<Buffer>;
}

const SIZE_BYTES = 2 * MIB;
const KEY = { group: 'g', machine: 'm', disk: 'd' };
const NIC = '/subscriptions/s/resourceGroups/r/providers/Microsoft.Network/networkInterfaces/nic0';

/** Sparse: data at both ends and in the middle, nothing between. */
export function sampleVhd(seed: number, sizeBytes = SIZE_BYTES): Buffer {
  const disk = Buffer.alloc(sizeBytes);
  pattern(seed, 4096).copy(disk, 0);
  pattern(seed + 1, 512).copy(disk, sizeBytes / 2);
  pattern(seed + 2, 1024).copy(disk, sizeBytes - 1024);
  return Buffer.concat([disk, vhdFooter(KEY, sizeBytes)]);
}

export const sampleRanges = (sizeBytes = SIZE_BYTES) => [
  { offsetBytes: 0, lengthBytes: 4096 },
  { offsetBytes: sizeBytes / 2, lengthBytes: 512 },
  { offsetBytes: sizeBytes - 1024, lengthBytes: 1024 },
];

export const diskSpec = (change: Partial<DiskSpec> = {}): DiskSpec => ({
  name: freshName('disk'),
  sizeBytes: SIZE_BYTES,
  sku: 'StandardSSD_LRS',
  zone: null,
  diskEncryptionSetId: null,
  osType: null,
  hyperVGeneration: null,
  tags: { 'tidemark-group': 'g', 'tidemark-job': 'j1', stage: 'test' },
  ...change,
});

export const machineSpec = (
  osDisk: ManagedDisk,
  dataDisks: readonly ManagedDisk[] = [],
  change: Partial<MachineSpec> = {},
): MachineSpec => ({
  name: freshName('vm'),
  size: 'Standard_D2s_v5',
  zone: null,
  networkInterfaceIds: [NIC],
  osDisk: { id: osDisk.id, osType: 'Linux' },
  dataDisks: dataDisks.map(({ id }, lun) => ({ id, lun })),
  tags: { 'tidemark-group': 'g', 'tidemark-job': 'j1' },
  ...change,
});

/** Keeps the newest token, as a job's journal does. */
export function journal(token: string | null = null): Resumable & { readonly tokens: string[] } {
  const tokens: string[] = [];
  return { token, tokens, persist: async (next) => void tokens.push(next) };
}

/** The source of an upload: slices of one buffer, and which of them were asked for. */
export function uploadSource(bytes: Buffer, ranges = sampleRanges(bytes.length - 512)) {
  const reads: { readonly offsetBytes: number; readonly lengthBytes: number }[] = [];
  return {
    ranges,
    reads,
    read: async (offsetBytes: number, lengthBytes: number) => {
      reads.push({ offsetBytes, lengthBytes });
      return Buffer.from(bytes.subarray(offsetBytes, offsetBytes + lengthBytes));
    },
  };
}

export function computeContract(name: string, world: () => Promise<ComputeWorld>): void {
  const importSample = async ({ compute, putSource }: ComputeWorld, seed = 1): Promise<ManagedDisk> =>
    compute.importDisk(diskSpec(), await putSource(sampleVhd(seed)), journal(), live);

  describe(`disks of ${name}`, () => {
    it('imports a VHD as a disk with the same bytes, its size and its tags', async () => {
      const { compute, putSource, readDisk } = await world();
      const spec = diskSpec({ osType: 'Linux', hyperVGeneration: 'V2' });
      const kept = journal();
      const disk = await compute.importDisk(spec, await putSource(sampleVhd(1)), kept, live);
      expect(disk).toMatchObject({ name: spec.name, sizeBytes: SIZE_BYTES, tags: spec.tags, isWhole: true });
      expect(disk.id).toMatch(new RegExp(`/providers/Microsoft.Compute/disks/${spec.name}$`));
      expect(kept.tokens).toHaveLength(1);
      expectBytes(await readDisk(spec.name), sampleVhd(1));
      expect(await compute.findDisk(spec.name, live)).toEqual(disk);
      expect(await compute.findDisk(freshName('none'), live)).toBeUndefined();
    });

    it('gives a disk that shares nothing with its source', async () => {
      const { compute, putSource, changeSource, readDisk } = await world();
      const url = await putSource(sampleVhd(2));
      const { name } = await compute.importDisk(diskSpec(), url, journal(), live);
      await changeSource(url, 0, pattern(9, 4096));
      expectBytes(await readDisk(name), sampleVhd(2));
    });

    it('takes what is there for the result of a repetition, whatever the token says', async () => {
      const { compute, putSource, readDisk } = await world();
      const spec = diskSpec();
      const url = await putSource(sampleVhd(3));
      const first = journal();
      const disk = await compute.importDisk(spec, url, first, live);
      const other = await putSource(sampleVhd(4));
      for (const token of [null, first.tokens[0] ?? '', 'nonsense', '{"version":1}']) {
        expect(await compute.importDisk(spec, other, journal(token), live)).toEqual(disk);
      }
      expectBytes(await readDisk(spec.name), sampleVhd(3));
    });

    it('does not take, change or delete what belongs to somebody else', async () => {
      const { compute, putSource, readDisk } = await world();
      const spec = diskSpec();
      const url = await putSource(sampleVhd(5));
      await compute.importDisk(spec, url, journal(), live);
      const tags = { ...spec.tags, 'tidemark-job': 'j2' };
      const strangers = { ...spec, tags };
      await expectCode(compute.importDisk(strangers, url, journal(), live), 'COMPUTE_CONFLICT');
      await expectCode(compute.uploadDisk(strangers, uploadSource(sampleVhd(6)), journal(), live), 'COMPUTE_CONFLICT');
      await expectCode(compute.deleteDisk(spec.name, tags, journal(), live), 'COMPUTE_CONFLICT');
      const more = { ...spec.tags, 'tidemark-machine': 'm' };
      await expectCode(compute.importDisk({ ...spec, tags: more }, url, journal(), live), 'COMPUTE_CONFLICT');
      await expectCode(compute.importDisk({ ...spec, sizeBytes: 4 * MIB }, url, journal(), live), 'COMPUTE_CONFLICT');
      expectBytes(await readDisk(spec.name), sampleVhd(5));
    });

    it.each([
      ['without a footer', () => Buffer.alloc(SIZE_BYTES + 512), 'InvalidVhd'],
      [
        'with a wrong checksum',
        () => {
          const vhd = sampleVhd(7);
          vhd.writeUInt8(1, SIZE_BYTES + 100);
          return vhd;
        },
        'InvalidVhd',
      ],
      [
        'of another size than its footer',
        () => Buffer.concat([Buffer.alloc(MIB), vhdFooter(KEY, 2 * MIB)]),
        'InvalidVhd',
      ],
    ])('refuses a source %s', async (_what, bytes, code) => {
      const { compute, putSource } = await world();
      const spec = diskSpec();
      const refusal = await expectCode(
        compute.importDisk(spec, await putSource(bytes()), journal(), live),
        'COMPUTE_REFUSED',
      );
      expect(refusal.details['code']).toBe(code);
      expect(await compute.findDisk(spec.name, live)).toBeUndefined();
    });

    it('refuses a source that is not there', async () => {
      const { compute, putSource } = await world();
      const url = await putSource(sampleVhd(1));
      const missing = compute.importDisk(diskSpec(), `${url}.none`, journal(), live);
      expect((await expectCode(missing, 'COMPUTE_REFUSED')).details['code']).toBe('BlobNotFound');
    });

    it('takes no source with a secret or a snapshot in its URL', async () => {
      const { compute, putSource } = await world();
      const url = await putSource(sampleVhd(1));
      for (const query of ['?sig=secret', '?snapshot=2026-01-01T00:00:00.0000000Z']) {
        await expectCode(compute.importDisk(diskSpec(), `${url}${query}`, journal(), live), 'ASSERTION');
      }
    });

    it('uploads the given ranges and the footer, and nothing else', async () => {
      const { compute, readDisk } = await world();
      const spec = diskSpec();
      const kept = journal();
      const source = uploadSource(sampleVhd(8));
      const disk = await compute.uploadDisk(spec, source, kept, live);
      expect(disk).toMatchObject({ name: spec.name, sizeBytes: SIZE_BYTES, tags: spec.tags, isWhole: true });
      expect(kept.tokens).toHaveLength(1);
      expectBytes(await readDisk(spec.name), sampleVhd(8));
      const asked = source.reads.toSorted((a, b) => a.offsetBytes - b.offsetBytes);
      expect(asked).toEqual([...sampleRanges(), { offsetBytes: SIZE_BYTES, lengthBytes: 512 }]);
      // Repeated with other bytes: what is there is the result.
      expect(await compute.uploadDisk(spec, uploadSource(sampleVhd(9)), journal(kept.tokens[0]), live)).toEqual(disk);
      expectBytes(await readDisk(spec.name), sampleVhd(8));
    });

    it('begins an interrupted upload anew, and takes no part of it for a disk', async () => {
      const { compute, readDisk } = await world();
      const spec = diskSpec();
      const kept = journal();
      const broken = { ...uploadSource(sampleVhd(1)), read: () => Promise.reject(new Error('source is gone')) };
      await expect(compute.uploadDisk(spec, broken, kept, live)).rejects.toThrow('source is gone');
      expect((await compute.findDisk(spec.name, live))?.isWhole ?? false).toBe(false);
      await compute.uploadDisk(spec, uploadSource(sampleVhd(2)), journal(kept.tokens[0]), live);
      expectBytes(await readDisk(spec.name), sampleVhd(2));
    });

    it('deletes an upload that never ended', async () => {
      const { compute } = await world();
      const spec = diskSpec();
      const broken = { ...uploadSource(sampleVhd(1)), read: () => Promise.reject(new Error('source is gone')) };
      await expect(compute.uploadDisk(spec, broken, journal(), live)).rejects.toThrow('source is gone');
      await compute.deleteDisk(spec.name, spec.tags, journal(), live);
      expect(await compute.findDisk(spec.name, live)).toBeUndefined();
    });

    it('refuses ranges outside the disk, and resources without an owner', async () => {
      const { compute } = await world();
      const outside = uploadSource(sampleVhd(1), [{ offsetBytes: SIZE_BYTES, lengthBytes: 1024 }]);
      await expectCode(compute.uploadDisk(diskSpec(), outside, journal(), live), 'ASSERTION');
      await expectCode(compute.uploadDisk(diskSpec({ tags: { a: 'b' } }), outside, journal(), live), 'ASSERTION');
    });

    it('deletes once; done already counts as done', async () => {
      const compute = await world();
      const { name, tags } = await importSample(compute);
      const kept = journal();
      await compute.compute.deleteDisk(name, tags, kept, live);
      expect(await compute.compute.findDisk(name, live)).toBeUndefined();
      await compute.compute.deleteDisk(name, tags, journal(kept.tokens[0]), live);
    });

    it('heeds the signal', async () => {
      const { compute, putSource } = await world();
      const url = await putSource(sampleVhd(1));
      const spec = diskSpec();
      await expectAborts((signal) => compute.importDisk(spec, url, journal(), signal));
      await expectAborts((signal) => compute.uploadDisk(spec, uploadSource(sampleVhd(1)), journal(), signal));
      await expectAborts((signal) => compute.findDisk(spec.name, signal));
      await expectAborts((signal) => compute.deleteDisk(spec.name, spec.tags, journal(), signal));
      await expectAborts((signal) => compute.findMachine(spec.name, signal));
      await expectAborts((signal) => compute.deleteMachine(spec.name, spec.tags, journal(), signal));
      expect(await compute.findDisk(spec.name, live)).toBeUndefined();
    });
  });

  describe(`machines of ${name}`, () => {
    it('attaches disks that exist, and holds on to them', async () => {
      const compute = await world();
      const [os, data] = [await importSample(compute, 1), await importSample(compute, 2)];
      const spec = machineSpec(os, [data]);
      const kept = journal();
      const machine = await compute.compute.createMachine(spec, kept, live);
      expect(machine).toMatchObject({ name: spec.name, provisioningState: 'Succeeded' });
      expect(kept.tokens).toHaveLength(1);
      expect(await compute.compute.findMachine(spec.name, live)).toEqual(machine);
      expect(await compute.compute.createMachine(spec, journal(), live)).toEqual(machine);
      const refusal = await expectCode(
        compute.compute.deleteDisk(data.name, data.tags, journal(), live),
        'COMPUTE_REFUSED',
      );
      expect(refusal.details['code']).toBe('OperationNotAllowed');
      const second = compute.compute.createMachine(machineSpec(os), journal(), live);
      expect((await expectCode(second, 'COMPUTE_REFUSED')).details['code']).toBe('ConflictingUserInput');

      const stranger = { 'tidemark-group': 'g', 'tidemark-job': 'j2' };
      await expectCode(compute.compute.createMachine({ ...spec, tags: stranger }, journal(), live), 'COMPUTE_CONFLICT');
      await expectCode(compute.compute.deleteMachine(spec.name, stranger, journal(), live), 'COMPUTE_CONFLICT');
      await compute.compute.deleteMachine(spec.name, spec.tags, journal(), live);
      await compute.compute.deleteMachine(spec.name, spec.tags, journal(kept.tokens[0]), live);
      expect(await compute.compute.findMachine(spec.name, live)).toBeUndefined();
      await compute.compute.deleteDisk(data.name, data.tags, journal(), live);
    });

    it.each([
      [
        'a disk that is not there',
        { osDisk: { id: '/subscriptions/s/x', osType: 'Linux' as const } },
        'ResourceNotFound',
      ],
      ['a network interface that is no resource id', { networkInterfaceIds: ['nic0'] }, 'LinkedInvalidPropertyId'],
    ])('is refused with %s', async (_what, change, code) => {
      const compute = await world();
      const os = await importSample(compute);
      const spec = machineSpec(os, [], change);
      const refusal = await expectCode(compute.compute.createMachine(spec, journal(), live), 'COMPUTE_REFUSED');
      expect(refusal.details['code']).toBe(code);
      // Nothing holds the disk.
      await compute.compute.deleteDisk(os.name, os.tags, journal(), live);
    });

    it('is refused outside the zone of its disk', async () => {
      const { compute, putSource } = await world();
      const os = await compute.importDisk(diskSpec({ zone: '1' }), await putSource(sampleVhd(1)), journal(), live);
      await expectCode(compute.createMachine(machineSpec(os, [], { zone: '2' }), journal(), live), 'COMPUTE_REFUSED');
      const machine = await compute.createMachine(machineSpec(os, [], { zone: '1' }), journal(), live);
      expect(machine.provisioningState).toBe('Succeeded');
    });
  });
}
