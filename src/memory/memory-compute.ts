import { assert, TidemarkError } from '../errors.ts';
import {
  assertDisk,
  assertMachine,
  assertRanges,
  assertSource,
  assertTags,
  requireSameOwner,
  requireSameSize,
  requireTags,
  type Tags,
} from '../failover/compute-guards.ts';
import type { Compute, DiskSpec, MachineSpec, ManagedDisk, Resumable, VirtualMachine } from '../failover/compute.ts';
import { MIB, SECTOR_BYTES } from '../model/sizes.ts';
import { readVhdFooter } from '../seed/read-vhd-footer.ts';
import { FOOTER_BYTES } from '../seed/vhd-footer.ts';
import { PageImage } from './page-image.ts';

type Source = Parameters<Compute['uploadDisk']>[1];

/** A page blob as an import finds it; undefined when there is none. */
export type ImportSource = (sourceUrl: string) => Promise<(Source & { readonly blobBytes: number }) | undefined>;

interface StoredDisk {
  readonly disk: ManagedDisk;
  readonly image: PageImage;
  readonly zone: string | null;
  /** Name of the machine that it is attached to. */
  attachedTo: string | undefined;
}

interface StoredMachine {
  readonly machine: VirtualMachine;
  readonly tags: Tags;
}

const PIECE_BYTES = 4 * MIB;
const ID_PREFIX = '/subscriptions/memory/resourceGroups/memory/providers/Microsoft.Compute';
const NETWORK_INTERFACE =
  /^\/subscriptions\/[^/]+\/resourceGroups\/[^/]+\/providers\/Microsoft\.Network\/networkInterfaces\/[^/]+$/i;
const TOKEN = 'memory';

/** Disks and machines in memory; every operation is over at once, and its token is good for nothing but being kept. */
export class MemoryCompute implements Compute {
  readonly #sources: ImportSource;
  readonly #disks = new Map<string, StoredDisk>();
  readonly #machines = new Map<string, StoredMachine>();

  constructor(sources: ImportSource) {
    this.#sources = sources;
  }

  async importDisk(spec: DiskSpec, sourceUrl: string, resumable: Resumable, signal: AbortSignal): Promise<ManagedDisk> {
    assertDisk(spec);
    assertSource(sourceUrl);
    signal.throwIfAborted();
    const present = this.#present(spec);
    if (present !== undefined) return present;
    const source = await this.#sources(sourceUrl);
    if (source === undefined) throw refused(`create disks/${spec.name}`, 'BlobNotFound');
    const footer = await source.read(source.blobBytes - FOOTER_BYTES, FOOTER_BYTES, signal);
    const sizeBytes = requireFixedVhd(spec.name, source.blobBytes, footer);
    await resumable.persist(TOKEN);
    const image = await filled(source, sizeBytes, signal);
    const disk = this.#keep(spec, sizeBytes, image);
    requireSameSize(`disk ${spec.name}`, spec.sizeBytes, sizeBytes);
    return disk;
  }

  async uploadDisk(spec: DiskSpec, source: Source, resumable: Resumable, signal: AbortSignal): Promise<ManagedDisk> {
    assertDisk(spec);
    assertRanges(spec, source.ranges);
    signal.throwIfAborted();
    const present = this.#present(spec);
    if (present !== undefined) return present;
    await resumable.persist(TOKEN);
    const image = await filled(source, spec.sizeBytes, signal);
    requireFixedVhd(spec.name, spec.sizeBytes + FOOTER_BYTES, image.read(spec.sizeBytes, FOOTER_BYTES));
    return this.#keep(spec, spec.sizeBytes, image);
  }

  #present(spec: DiskSpec): ManagedDisk | undefined {
    const found = this.#disks.get(spec.name)?.disk;
    if (found === undefined) return undefined;
    requireSameOwner(`disk ${spec.name}`, spec.tags, found.tags);
    requireSameSize(`disk ${spec.name}`, spec.sizeBytes, found.sizeBytes);
    return copyOf(found);
  }

  #keep(spec: DiskSpec, sizeBytes: number, image: PageImage): ManagedDisk {
    const { name, tags, zone } = spec;
    const disk: ManagedDisk = { name, id: `${ID_PREFIX}/disks/${name}`, sizeBytes, tags: { ...tags }, isWhole: true };
    this.#disks.set(name, { disk, image, zone, attachedTo: undefined });
    return copyOf(disk);
  }

  async createMachine(spec: MachineSpec, resumable: Resumable, signal: AbortSignal): Promise<VirtualMachine> {
    assertMachine(spec);
    signal.throwIfAborted();
    const present = this.#machines.get(spec.name);
    if (present !== undefined) {
      requireSameOwner(`machine ${spec.name}`, spec.tags, present.tags);
      return { ...present.machine };
    }
    const disks = [spec.osDisk, ...spec.dataDisks].map(({ id }) => this.#attachable(spec, id));
    for (const id of spec.networkInterfaceIds) {
      if (!NETWORK_INTERFACE.test(id)) throw refused(`create virtualMachines/${spec.name}`, 'LinkedInvalidPropertyId');
    }
    await resumable.persist(TOKEN);
    for (const disk of disks) disk.attachedTo = spec.name;
    const id = `${ID_PREFIX}/virtualMachines/${spec.name}`;
    const machine: VirtualMachine = { name: spec.name, id, provisioningState: 'Succeeded' };
    this.#machines.set(spec.name, { machine, tags: { ...spec.tags } });
    return { ...machine };
  }

  #attachable({ name, zone }: MachineSpec, id: string): StoredDisk {
    const action = `create virtualMachines/${name}`;
    const found = [...this.#disks.values()].find(({ disk }) => disk.id.toLowerCase() === id.toLowerCase());
    if (found === undefined) throw refused(action, 'ResourceNotFound');
    if (found.attachedTo !== undefined) throw refused(action, 'ConflictingUserInput');
    if (found.zone !== null && found.zone !== zone) throw refused(action, 'BadRequest');
    return found;
  }

  async findDisk(name: string, signal: AbortSignal): Promise<ManagedDisk | undefined> {
    signal.throwIfAborted();
    const found = this.#disks.get(name)?.disk;
    return found === undefined ? undefined : copyOf(found);
  }

  async findMachine(name: string, signal: AbortSignal): Promise<VirtualMachine | undefined> {
    signal.throwIfAborted();
    const found = this.#machines.get(name)?.machine;
    return found === undefined ? undefined : { ...found };
  }

  async deleteMachine(name: string, tags: Tags, resumable: Resumable, signal: AbortSignal): Promise<void> {
    assertTags(tags);
    signal.throwIfAborted();
    const found = this.#machines.get(name);
    if (found === undefined) return;
    requireTags(`machine ${name}`, tags, found.tags);
    await resumable.persist(TOKEN);
    this.#machines.delete(name);
    for (const disk of this.#disks.values()) if (disk.attachedTo === name) disk.attachedTo = undefined;
  }

  async deleteDisk(name: string, tags: Tags, resumable: Resumable, signal: AbortSignal): Promise<void> {
    assertTags(tags);
    signal.throwIfAborted();
    const found = this.#disks.get(name);
    if (found === undefined) return;
    requireTags(`disk ${name}`, tags, found.disk.tags);
    if (found.attachedTo !== undefined) throw refused(`delete disks/${name}`, 'OperationNotAllowed');
    await resumable.persist(TOKEN);
    this.#disks.delete(name);
  }

  /** The bytes of a disk with its footer, for oracles; undefined when there is none. */
  peek(name: string): Buffer | undefined {
    const found = this.#disks.get(name);
    return found?.image.read(0, found.disk.sizeBytes + FOOTER_BYTES);
  }
}

const copyOf = (disk: ManagedDisk): ManagedDisk => ({ ...disk, tags: { ...disk.tags } });

const refused = (action: string, code: string): TidemarkError =>
  new TidemarkError('COMPUTE_REFUSED', `${action}: ${code}`, { details: { status: 0, code } });

/** @returns the size of the disk @throws TidemarkError COMPUTE_REFUSED */
function requireFixedVhd(name: string, blobBytes: number, footer: Buffer): number {
  const found = readVhdFooter(blobBytes, footer);
  if ('sizeBytes' in found) return found.sizeBytes;
  throw refused(`create disks/${name}`, found.problem === 'size' ? 'UnsupportedVhdVirtualSize' : 'InvalidVhd');
}

/** An image of its own with the ranges of the source, and its footer. */
async function filled(source: Source, sizeBytes: number, signal: AbortSignal): Promise<PageImage> {
  const image = new PageImage();
  const footer = { offsetBytes: sizeBytes, lengthBytes: SECTOR_BYTES };
  for (const { offsetBytes, lengthBytes } of [...source.ranges, footer]) {
    const endBytes = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < endBytes; at += PIECE_BYTES) {
      signal.throwIfAborted();
      const bytes = await source.read(at, Math.min(PIECE_BYTES, endBytes - at), signal);
      assert(bytes.length === Math.min(PIECE_BYTES, endBytes - at), 'the source gives the bytes it was asked for');
      image.write(at, bytes);
    }
  }
  return image;
}
