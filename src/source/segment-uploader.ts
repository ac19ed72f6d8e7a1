/** Sends segments of several disks at once, and makes them visible in sequence order per disk. */
import PQueue from 'p-queue';
import { TidemarkError } from '../errors.ts';
import type { LogStore, LogUpload } from '../drain/log-store.ts';
import { MAX_SEGMENT_BYTES } from '../log/limits.ts';
import { segmentName } from '../model/names.ts';
import type { LogStream } from '../model/names.ts';

export interface UploadJob {
  readonly stream: LogStream;
  readonly sequence: number;
  readonly bytes: Buffer;
  /** Called once the segment is visible. */
  readonly committed: () => void;
}

export interface SegmentUploaderOptions {
  readonly upload: LogUpload;
  readonly log: Pick<LogStore, 'read'>;
  /** Segments that are being staged or wait for their turn to be committed, over all disks. */
  readonly inFlight: number;
  readonly signal: AbortSignal;
}

/**
 * Holds at most `inFlight` segments and one that waits. The first failure stops everything: nothing is committed after it, and
 * every later call throws it.
 */
export class SegmentUploader {
  readonly #upload: LogUpload;
  readonly #log: Pick<LogStore, 'read'>;
  readonly #queue: PQueue;
  readonly #caller: AbortSignal;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  /** Per stream: settles when the newest segment given to `submit` is committed. */
  readonly #tails = new Map<LogStream, Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(options: SegmentUploaderOptions) {
    this.#upload = options.upload;
    this.#log = options.log;
    this.#queue = new PQueue({ concurrency: options.inFlight });
    this.#caller = options.signal;
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal]);
  }

  #throwIfFailed(): void {
    this.#caller.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Waits until another segment may be submitted. @throws TidemarkError the first failure of any upload */
  async ready(): Promise<void> {
    await this.#queue.onSizeLessThan(1);
    this.#throwIfFailed();
  }

  /** Starts sending a segment. The caller submits a stream's segments in sequence order, each after `ready`. */
  submit(job: UploadJob): void {
    const previous = this.#tails.get(job.stream) ?? Promise.resolve();
    const tail = this.#queue.add(() => this.#send(job, previous));
    this.#tails.set(job.stream, tail);
    tail.catch((error: unknown) => {
      this.#failure ??= { error };
      this.#stop.abort();
    });
  }

  async #send(job: UploadJob, previous: Promise<void>): Promise<void> {
    this.#signal.throwIfAborted();
    const staged = await this.#upload.stage(job.stream, job.sequence, job.bytes, this.#signal);
    await previous;
    this.#signal.throwIfAborted();
    if ((await staged.commit(this.#signal)) === 'exists') await this.#requireOurs(job);
    job.committed();
  }

  /** A commit whose answer was lost finds its own segment on the second attempt. */
  async #requireOurs(job: UploadJob): Promise<void> {
    const visible = await this.#log.read(job.stream, job.sequence, MAX_SEGMENT_BYTES, this.#signal);
    if (visible !== undefined && visible.equals(job.bytes)) return;
    const name = segmentName(job.stream, job.sequence);
    throw new TidemarkError('SOURCE_CONFLICT', `segment ${name} was written by another source`, {
      details: { segment: name },
    });
  }

  /** Waits until everything submitted is visible. @throws TidemarkError the first failure of any upload */
  async finish(): Promise<void> {
    await this.#queue.onIdle();
    this.#throwIfFailed();
  }

  /** Gives up what is under way, and returns when nothing runs any more. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#queue.onIdle();
  }
}
