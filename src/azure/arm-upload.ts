/** The bytes of an upload disk, over its write SAS. */
import { TidemarkError } from '../errors.ts';
import type { Compute, DiskSpec } from '../failover/compute.ts';
import { mapAll } from '../map-all.ts';
import { MIB, SECTOR_BYTES } from '../model/sizes.ts';
import { BlobAccount } from './blob-account.ts';
import { safeCause } from './arm-errors.ts';

/** The largest Put Page (Azure, "Put Page"). */
const PIECE_BYTES = 4 * MIB;
/** Together with a piece's size it bounds the memory: 16 MiB. */
const PARALLEL = 4;

/** A write access lives an hour, and besides as long as the data takes at a rate that even a Standard HDD exceeds several times. */
const ACCESS = { leastSeconds: 3600, bytesPerSecond: 16 * MIB } as const;

type Source = Parameters<Compute['uploadDisk']>[1];

/**
 * Writes the ranges, then the footer.
 * @param sasUrl a secret: it is in no error of this function
 * @throws TidemarkError COMPUTE_UNAVAILABLE when storage does not answer, COMPUTE_REFUSED when it refuses; what `source.read` throws
 */
export async function writePages(spec: DiskSpec, sasUrl: string, source: Source, signal: AbortSignal): Promise<void> {
  const { account, container, blob } = openSas(spec.name, sasUrl);
  const client = account.container(container).getPageBlobClient(blob);
  const write = async (offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<void> => {
    const bytes = await source.read(offsetBytes, lengthBytes, signal);
    const action = `Put Page at ${offsetBytes} of disk ${spec.name}`;
    await withoutSecrets(() =>
      account.call({ action }, signal, async ({ abortSignal }) => {
        await client.uploadPages(bytes, offsetBytes, lengthBytes, { abortSignal });
      }),
    );
  };
  try {
    await mapAll(pieces(source.ranges, spec.sizeBytes), PARALLEL, signal, ({ offsetBytes, lengthBytes }, signal) =>
      write(offsetBytes, lengthBytes, signal),
    );
    await write(spec.sizeBytes, SECTOR_BYTES, signal);
  } finally {
    account.close();
  }
}

/** How long a write access is asked for; a failed upload is done anew, with another one. Azure's limit is 60 days. */
export function accessSeconds(ranges: Source['ranges']): number {
  const bytes = ranges.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  return ACCESS.leastSeconds + Math.ceil(bytes / ACCESS.bytesPerSecond);
}

/** Azure's URL is `https://HOST/CONTAINER/BLOB?SAS`; the emulator's has the account before the container. */
function openSas(name: string, sasUrl: string): { account: BlobAccount; container: string; blob: string } {
  const url = URL.canParse(sasUrl) ? new URL(sasUrl) : undefined;
  const path = url?.pathname.slice(1).split('/') ?? [];
  const [blob, container] = [path.at(-1), path.at(-2)];
  if (url === undefined || blob === undefined || container === undefined) {
    throw new TidemarkError('COMPUTE_UNAVAILABLE', `Azure gave no usable write access to disk ${name}`);
  }
  const endpoint = [url.origin, ...path.slice(0, -2)].join('/');
  const account = new BlobAccount({
    connectionString: `BlobEndpoint=${endpoint};SharedAccessSignature=${url.search.slice(1)}`,
  });
  return { account, container: decodeURIComponent(container), blob: decodeURIComponent(blob) };
}

/** What lies within the data, in pieces of one request each. */
function* pieces(
  ranges: Source['ranges'],
  sizeBytes: number,
): Generator<{ readonly offsetBytes: number; readonly lengthBytes: number }> {
  for (const range of ranges) {
    const endBytes = Math.min(range.offsetBytes + range.lengthBytes, sizeBytes);
    for (let offsetBytes = range.offsetBytes; offsetBytes < endBytes; offsetBytes += PIECE_BYTES) {
      yield { offsetBytes, lengthBytes: Math.min(PIECE_BYTES, endBytes - offsetBytes) };
    }
  }
}

/** Errors of storage hold the request, and with it the SAS. */
async function withoutSecrets(run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    const refused = error.class === 'bug' ? error.code : 'COMPUTE_REFUSED';
    // A SAS that was ended, or has expired: the repetition is given a new one.
    const passes = error.class === 'retry' || error.code === 'ACCESS_DENIED';
    const code = passes ? 'COMPUTE_UNAVAILABLE' : refused;
    throw new TidemarkError(code, error.message, { cause: safeCause(error), details: error.details });
  }
}
