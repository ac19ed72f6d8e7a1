import type { BlobClient, BlobLeaseClient } from '@azure/storage-blob';
import { LEASE_SECONDS, type Lease } from '../catalog/catalog.ts';
import { TidemarkError } from '../errors.ts';
import type { LeaseEvent } from '../telemetry/adapter-observer.ts';
import type { BlobAccount } from './blob-account.ts';
import { codeOf, isLeaseRefusal, isMissing } from './storage-errors.ts';
import { safeError } from './safe-error.ts';

/** Rounds of break and acquire before this owner gives way to others that take the lease at the same moment. */
const MAX_ROUNDS = 5;

/**
 * Takes the blob's lease away from whoever holds it: break at once, then acquire for {@link LEASE_SECONDS}.
 * @throws TidemarkError BLOB_MISSING, or OWNERSHIP_LOST when others take it faster
 */
export async function takeLease(account: BlobAccount, client: BlobClient, signal: AbortSignal): Promise<Lease> {
  for (let round = 1; ; round++) {
    const lease = client.getBlobLeaseClient();
    await account.call(
      { action: `Break the lease of ${client.name}`, urgent: true },
      signal,
      async ({ abortSignal }) => {
        try {
          await lease.breakLease(0, { abortSignal });
        } catch (error) {
          if (codeOf(error) !== 'LeaseNotPresentWithLeaseOperation') throw error;
        }
      },
    );
    try {
      await account.call({ action: `Acquire the lease of ${client.name}`, urgent: true }, signal, ({ abortSignal }) =>
        lease.acquireLease(LEASE_SECONDS, { abortSignal }),
      );
      account.noteLease(client.containerName, 'taken');
      return blobLease(account, client, lease.leaseId);
    } catch (error) {
      // Somebody else acquired it between our two requests.
      if (!(error instanceof TidemarkError) || error.code !== 'OWNERSHIP_LOST' || round >= MAX_ROUNDS) throw error;
    }
  }
}

function blobLease(account: BlobAccount, client: BlobClient, id: string): Lease {
  const lease = client.getBlobLeaseClient(id);
  const note = (event: LeaseEvent): void => account.noteLease(client.containerName, event);
  return {
    id,
    async renew(signal) {
      try {
        await renew(account, client, lease, signal);
      } catch (error) {
        if (error instanceof TidemarkError && error.code === 'OWNERSHIP_LOST') note('lost');
        throw error;
      }
      note('renewed');
    },
    async release(signal) {
      await account.call(
        { action: `Release the lease of ${client.name}`, urgent: true },
        signal,
        async ({ abortSignal }) => {
          try {
            await lease.releaseLease({ abortSignal });
          } catch (error) {
            if (!isLeaseRefusal(error) && !isMissing(error)) throw error;
          }
        },
      );
      note('released');
    },
  };
}

/** @throws TidemarkError OWNERSHIP_LOST */
async function renew(
  account: BlobAccount,
  client: BlobClient,
  lease: BlobLeaseClient,
  signal: AbortSignal,
): Promise<void> {
  await account.call({ action: `Renew the lease of ${client.name}`, urgent: true }, signal, async ({ abortSignal }) => {
    try {
      await lease.renewLease({ abortSignal });
    } catch (error) {
      if (!isMissing(error)) throw error;
      throw new TidemarkError('OWNERSHIP_LOST', `${client.name} is gone, and its lease with it`, {
        cause: safeError(error),
      });
    }
  });
}
