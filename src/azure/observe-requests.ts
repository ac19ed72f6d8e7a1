/** Tells an observer of every HTTP request of a storage client. */
import type { BlobServiceClient } from '@azure/storage-blob';
import { assert } from '../errors.ts';
import type { AccountRole, StorageObserver } from '../telemetry/adapter-observer.ts';
import { storageOperation } from './storage-operation.ts';

/** The part of the SDK's pipeline that is used here. */
interface PipelineRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: { get(name: string): string | undefined };
}

type Send = (request: PipelineRequest) => Promise<{ readonly status: number }>;

interface CorePipeline {
  addPolicy(
    policy: { readonly name: string; sendRequest(request: PipelineRequest, next: Send): ReturnType<Send> },
    options: { readonly afterPhase: 'Sign' },
  ): void;
}

/**
 * Every client that is made from `service` shares its pipeline. The policy is the last one before the socket, so each repetition that any
 * other one makes counts. The SDK has no documented way to add a policy to a storage client; its version is pinned, and a test compares the
 * counts with those of a proxy.
 */
export function observeRequests(service: BlobServiceClient, account: AccountRole, observer: StorageObserver): void {
  const { storageClientContext } = service as unknown as {
    readonly storageClientContext?: { readonly pipeline?: CorePipeline };
  };
  const pipeline = storageClientContext?.pipeline;
  assert(
    typeof pipeline?.addPolicy === 'function',
    'a storage client keeps its pipeline where its pinned version does',
  );
  pipeline.addPolicy(
    {
      name: 'tidemarkObserver',
      async sendRequest(request, next) {
        const operation = storageOperation(head(request));
        const beganAtMs = performance.now();
        const tell = (status: number): void =>
          observer.onRequest({ account, operation, status, durationMs: performance.now() - beganAtMs });
        try {
          const response = await next(request);
          tell(response.status);
          return response;
        } catch (error) {
          tell(0);
          throw error;
        }
      },
    },
    { afterPhase: 'Sign' },
  );
}

const head = ({ method, url, headers }: PipelineRequest) => ({
  method,
  url,
  header: (name: string): string | undefined => headers.get(name),
});
