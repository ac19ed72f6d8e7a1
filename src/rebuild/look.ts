/** Reads what is left of a group. Writes nothing and takes no lease. */
import type { Catalog } from '../catalog/catalog.ts';
import { documentNames, readDocument, type Versioned } from '../catalog/documents.ts';
import { groupDocumentSchema } from '../catalog/groups.ts';
import type { CopyStore } from '../copies/copy-store.ts';
import { pointCopyName, pointOfCopy } from '../copies/copy-store.ts';
import type { LogStore } from '../drain/log-store.ts';
import { TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { catalogName, diskOfSeedName, MAX_EPOCH, type DiskKey } from '../model/names.ts';
import { MAX_DISK_BYTES } from '../model/sizes.ts';
import { manifestSchema } from '../points/manifest.ts';
import { readSnapshotMetadata } from '../points/snapshot-metadata.ts';
import { isWholeMib, readVhdFooter } from '../seed/read-vhd-footer.ts';
import type { SeedReader, SeedStore } from '../seed/seed-store.ts';
import { FOOTER_BYTES, vhdFooter } from '../seed/vhd-footer.ts';
import { progressSchema } from '../worker/progress.ts';
import type { z } from 'zod';
import type { FoundCatalog, FoundDisk, FoundDocument, FoundGroup, FoundManifest, FoundSnapshot } from './found.ts';
import { fingerprintOf } from './manifests.ts';
import type { ReplicaSurvey } from './survey.ts';

/** Disks listed, and manifests read, at once: one listing is at most 5,000 entries. */
const IN_FLIGHT = 4;

export interface RebuildPorts {
  readonly survey: ReplicaSurvey;
  readonly seeds: Pick<SeedStore, 'reader'>;
  readonly copies: Pick<CopyStore, 'reader'>;
  readonly logStore: Pick<LogStore, 'listStreams'>;
  readonly catalog: Catalog;
}

/** @throws TidemarkError STORAGE_*, SNAPSHOT_LIMIT: what cannot be listed whole proves nothing */
export async function lookAtGroup(ports: RebuildPorts, group: string, signal: AbortSignal): Promise<FoundGroup> {
  // The catalog first: what a worker makes meanwhile is then found as a snapshot, at worst of a manifest that is there by now.
  const catalog = await lookAtCatalog(ports, group, signal);
  const seeds = await ports.survey.seeds(group, signal);
  const disks = await mapAll(seeds, IN_FLIGHT, signal, ({ machine, disk, blobBytes }, either) => {
    const key = { group, machine, disk };
    return lookAtDisk(ports.seeds.reader(key), { key, copy: null, blobBytes }, either);
  });
  const copies = (await ports.survey.copies(group, signal)).flatMap(({ copy, blobBytes }) => {
    const key = diskOfCopy(copy, group);
    return key === undefined ? [] : [{ key, copy, blobBytes }];
  });
  const built = await mapAll(copies, IN_FLIGHT, signal, (blob, either) =>
    lookAtDisk(ports.copies.reader(blob.copy), blob, either),
  );
  const streams = await ports.logStore.listStreams(group, signal);
  const logEpoch = Math.max(0, ...streams.map(({ epoch }) => epoch).filter((epoch) => epoch <= MAX_EPOCH));
  return { group, disks: [...disks, ...built], logEpoch, catalog };
}

interface Blob {
  readonly key: DiskKey;
  readonly copy: FoundDisk['copy'];
  readonly blobBytes: number;
}

/** The disk of a copy that a point was built on; undefined when its name is no such name. */
function diskOfCopy(copy: NonNullable<FoundDisk['copy']>, group: string): DiskKey | undefined {
  const [, , machine = '', disk = ''] = copy.split('/');
  const key = diskOfSeedName(`${group}/${machine}/${disk}.vhd`);
  return key !== undefined && pointCopyName(key, pointOfCopy(copy)) === copy ? key : undefined;
}

async function lookAtDisk(reader: SeedReader, { key, copy, blobBytes }: Blob, signal: AbortSignal): Promise<FoundDisk> {
  const infos = await reader.listSnapshots(signal);
  const sizeBytes = blobBytes - FOOTER_BYTES;
  const snapshots = infos.map(({ snapshot, metadata }): FoundSnapshot => ({
    snapshot,
    reading: readSnapshotMetadata(metadata),
  }));
  const about = { machine: key.machine, disk: key.disk, copy, sizeBytes, snapshots };
  if (!isWholeMib(sizeBytes) || sizeBytes > MAX_DISK_BYTES) {
    return { ...about, problem: `its ${blobBytes} bytes are no page blob of a disk and a footer` };
  }
  // The footer is written before the first snapshot, and never again: one look is enough.
  const newest = infos.at(-1)?.snapshot;
  const footer = newest === undefined ? undefined : await reader.read(newest, sizeBytes, FOOTER_BYTES, signal);
  return { ...about, problem: footer === undefined ? undefined : footerProblem(key, { blobBytes, footer }) };
}

function footerProblem(key: DiskKey, { blobBytes, footer }: { blobBytes: number; footer: Buffer }): string | undefined {
  const read = readVhdFooter(blobBytes, footer);
  if ('problem' in read) return `its footer: ${read.reason}`;
  return vhdFooter(key, read.sizeBytes).equals(footer) ? undefined : 'its footer is that of another disk';
}

async function lookAtCatalog(
  { survey, catalog }: RebuildPorts,
  group: string,
  signal: AbortSignal,
): Promise<FoundCatalog> {
  const isOwned = await survey.isLeased(catalogName.progress(group), signal);
  const document = await find(catalog, catalogName.group(group), groupDocumentSchema, signal);
  const progress = await find(catalog, catalogName.progress(group), progressSchema, signal);
  const policies = new Set(await documentNames(catalog, catalogName.policies, signal));
  const ids = await documentNames(catalog, catalogName.points(group), signal);
  const manifests = await mapAll(ids, IN_FLIGHT, signal, async (id, either) => {
    return [id, await findManifest(catalog, group, id, either)] as const;
  });
  return { document, progress, isOwned, policies, manifests: new Map(manifests.filter(isThere)) };
}

type Named = readonly [string, FoundManifest | undefined];
const isThere = (named: Named): named is readonly [string, FoundManifest] => named[1] !== undefined;

async function findManifest(
  catalog: Catalog,
  group: string,
  id: string,
  signal: AbortSignal,
): Promise<FoundManifest | undefined> {
  const found = await find(catalog, catalogName.manifest(group, id), manifestSchema, signal);
  if (found.is === 'missing') return undefined;
  if (found.is === 'unreadable') return found;
  const epoch = Math.max(...found.value.disks.map((disk) => disk.epoch));
  return { is: 'there', fingerprint: fingerprintOf(found.value), epoch };
}

async function find<T extends Versioned>(
  catalog: Catalog,
  name: string,
  schema: z.ZodType<T>,
  signal: AbortSignal,
): Promise<FoundDocument<T>> {
  try {
    const stored = await readDocument(catalog, name, schema, signal);
    return stored === undefined ? { is: 'missing' } : { is: 'there', value: stored.value };
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.code !== 'DOCUMENT_INVALID') throw error;
    return { is: 'unreadable', why: error.message };
  }
}
