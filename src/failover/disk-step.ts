/** A managed disk from the copy of a point's disk: by Import, or by Upload where Azure does not import. */
import { getGroup } from '../catalog/groups.ts';
import { pointReader, type CopyName, type PointDisk } from '../copies/copy-store.ts';
import { assert, TidemarkError } from '../errors.ts';
import { FOOTER_BYTES, vhdFooter } from '../seed/vhd-footer.ts';
import type { Compute, ManagedDisk } from './compute.ts';
import { diskSpec } from './machine-spec.ts';
import { requireCompute } from './ports.ts';
import { jobTags } from './resource-names.ts';
import { noteStep, resumable, type StepContext } from './step-context.ts';

/**
 * Answers of Azure that hold for an upload as well: who asks, what is paid for, how the disk is described. Everything else of a refused
 * import has to do with the blob and its account, which an upload does not need.
 */
const UPLOAD_REFUSED_TOO: ReadonlySet<string> = new Set([
  'AuthorizationFailed',
  'LinkedAuthorizationFailed',
  'QuotaExceeded',
  'OperationNotAllowed',
  'SkuNotAvailable',
  'ResourceGroupNotFound',
  'SubscriptionNotFound',
  'RequestDisallowedByPolicy',
  'ScopeLocked',
]);

export async function importDisk(context: StepContext, source: PointDisk, copy: CopyName): Promise<ManagedDisk> {
  const { ports, run, step, signal } = context;
  const { machine, disk, sizeBytes } = source;
  const document = await getGroup(ports.catalog, source.group, signal);
  assert(step.resource !== null, `step ${step.name} names a disk`);
  const spec = diskSpec({ document, job: run.document, machine, disk, sizeBytes, name: step.resource });
  const record = run.document.steps.find(({ name }) => name === step.name);
  if (record?.via !== 'upload') {
    try {
      return await requireCompute(ports).importDisk(spec, ports.copies.url(copy), resumable(context), signal);
    } catch (error) {
      if (!isAvoidedByUpload(error)) throw error;
    }
    // What the import may have left has the name that the upload needs.
    const leftover = { token: null, persist: async () => undefined };
    await requireCompute(ports).deleteDisk(spec.name, jobTags(source.group, run.document.job), leftover, signal);
    await noteStep(run, step.name, { via: 'upload', token: null });
  }
  return requireCompute(ports).uploadDisk(spec, await uploadSource(context, source), resumable(context), signal);
}

function isAvoidedByUpload(error: unknown): boolean {
  if (!(error instanceof TidemarkError) || error.code !== 'COMPUTE_REFUSED') return false;
  return !UPLOAD_REFUSED_TOO.has(String(error.details['code']));
}

/** The disk's bytes from the snapshot, then the footer of a fixed VHD. */
async function uploadSource(
  { ports, signal }: StepContext,
  source: PointDisk,
): Promise<Parameters<Compute['uploadDisk']>[1]> {
  const { sizeBytes, snapshot } = source;
  const reader = pointReader(ports, source);
  const ranges = await reader.ranges(snapshot, sizeBytes, signal);
  const footer = vhdFooter(source, sizeBytes);
  return {
    ranges: [...ranges, { offsetBytes: sizeBytes, lengthBytes: FOOTER_BYTES }],
    read: async (offsetBytes, lengthBytes, either) => {
      const endBytes = offsetBytes + lengthBytes;
      const dataBytes = Math.max(0, Math.min(endBytes, sizeBytes) - offsetBytes);
      const data = dataBytes === 0 ? Buffer.alloc(0) : await reader.read(snapshot, offsetBytes, dataBytes, either);
      if (endBytes <= sizeBytes) return data;
      return Buffer.concat([data, footer.subarray(Math.max(0, offsetBytes - sizeBytes), endBytes - sizeBytes)]);
    },
  };
}
