/**
 * Writes what a plan says, and nothing over what is there.
 *
 *   policy ─▶ manifests, oldest first ─▶ progress document ─▶ group document
 *
 * The group's document is what workers and commands go by, so it comes last: a worker that starts before finds no group, and one that
 * starts after finds one that is disabled. Whoever comes after a crash finds what is written, and goes on.
 */
import { createHash } from 'node:crypto';
import { createDocument, readDocument } from '../catalog/documents.ts';
import { groupDocumentSchema } from '../catalog/groups.ts';
import { policyDocumentSchema } from '../catalog/policies.ts';
import { TidemarkError } from '../errors.ts';
import { catalogName, diskLabel } from '../model/names.ts';
import { decodeChanges } from '../points/changes-file.ts';
import { totalBytes } from '../coalesce/change-list.ts';
import { manifestSchema, type Manifest } from '../points/manifest.ts';
import { progressSchema } from '../worker/progress.ts';
import type { RebuildPorts } from './look.ts';
import { fingerprintOf, manifestOf } from './manifests.ts';
import type { GroupPlan } from './plan.ts';
import type { ProvenPoint } from './prove.ts';

export interface ExecuteOptions {
  readonly ports: Pick<RebuildPorts, 'catalog' | 'survey'>;
  readonly signal: AbortSignal;
}

/**
 * @returns the names of the documents written, in order
 * @throws TidemarkError CONFLICT when the group was changed, or taken by a worker, since it was looked at; what is written stays, and
 * the next run goes on from there
 */
export async function executeRebuild(plan: GroupPlan, options: ExecuteOptions): Promise<readonly string[]> {
  const { group, policy, points, progress, document } = plan;
  const { catalog } = options.ports;
  const { signal } = options;
  const written: string[] = [];
  const write = async (name: string, create: () => Promise<string | undefined>): Promise<boolean> => {
    const isNew = (await create()) !== undefined;
    if (isNew) written.push(name);
    return isNew;
  };
  if (plan.refusal !== undefined) return written;
  if (policy !== undefined) {
    const name = catalogName.policy(policy.policy);
    // Another group may have brought it back meanwhile.
    await write(name, () => createDocument(catalog, name, policyDocumentSchema, { version: 1, ...policy }, signal));
  }
  for (const { action, proven } of points) {
    if (action === 'exists') continue;
    await requireAsFound(plan, options);
    const manifest = manifestOf(proven, await changesDigest(proven, options));
    const name = catalogName.manifest(group, proven.id);
    const isNew = await write(name, () => createDocument(catalog, name, manifestSchema, manifest, signal));
    if (!isNew) await requireSameManifest(name, manifest, options);
  }
  if (progress !== undefined) {
    const name = catalogName.progress(group);
    const isNew = await write(name, () => createDocument(catalog, name, progressSchema, progress, signal));
    if (!isNew) throw changed(`${name} was made by somebody else`);
  }
  await requireAsFound(plan, options);
  if (document === undefined) return written;
  const name = catalogName.group(group);
  const isNew = await write(name, () => createDocument(catalog, name, groupDocumentSchema, document, signal));
  if (!isNew) throw changed(`${name} was made by somebody else`);
  return written;
}

const changed = (what: string): TidemarkError => new TidemarkError('CONFLICT', `${what} while the catalog was rebuilt`);

/** The group is still one that no worker touches. */
async function requireAsFound({ group, document }: GroupPlan, { ports, signal }: ExecuteOptions): Promise<void> {
  const { catalog, survey } = ports;
  if (await survey.isLeased(catalogName.progress(group), signal)) throw changed(`group ${group} was taken by a worker`);
  const stored = await readDocument(catalog, catalogName.group(group), groupDocumentSchema, signal);
  const isAsFound = document === undefined ? stored?.value.wanted === 'disabled' : stored === undefined;
  if (!isAsFound) throw changed(`group ${group} was changed`);
}

async function requireSameManifest(name: string, manifest: Manifest, { ports, signal }: ExecuteOptions): Promise<void> {
  const stored = await readDocument(ports.catalog, name, manifestSchema, signal);
  if (stored !== undefined && fingerprintOf(stored.value) === fingerprintOf(manifest)) return;
  throw changed(`${name} was made by somebody else`);
}

/**
 * The digest of the changes list when it has survived and is the one of this point: as many bytes of each disk as its snapshots say.
 * Without it the point is whole, but for its checksums.
 */
async function changesDigest(
  { id, head, disks }: ProvenPoint,
  { ports, signal }: ExecuteOptions,
): Promise<string | null> {
  const blob = await ports.catalog.read(catalogName.changes(head.group, id), signal);
  if (blob === undefined) return null;
  const lists = readList(blob.bytes);
  if (lists === undefined) return null;
  const listed = new Map(lists.map((list) => [diskLabel(list), totalBytes(list.extents)]));
  for (const { facts } of disks) {
    const wanted = facts.point === id ? facts.changedBytes : 0;
    if (wanted !== (listed.get(diskLabel(facts)) ?? 0)) return null;
    listed.delete(diskLabel(facts));
  }
  return listed.size > 0 ? null : createHash('sha256').update(blob.bytes).digest('hex');
}

/** Undefined when it is no changes list: of a catalog that was lost in part, anything may be left. */
function readList(bytes: Buffer): ReturnType<typeof decodeChanges> | undefined {
  try {
    return decodeChanges(bytes);
  } catch {
    return undefined;
  }
}
