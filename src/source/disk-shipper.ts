/** One disk's way from records to visible segments: cut, chained, encoded, submitted. */
import { encodeSegment } from '../log/encode.ts';
import type { EncodeOptions } from '../log/encode.ts';
import { DIGEST_BYTES } from '../log/layout.ts';
import type { LogStream } from '../model/names.ts';
import { isoFromUs } from '../model/time.ts';
import { mismatch, skipShipped } from './bookmark.ts';
import type { Bookmark } from './bookmark.ts';
import { Segmenter } from './segmenter.ts';
import type { SegmentLimits, SegmentPlan } from './segmenter.ts';
import type { SegmentUploader } from './segment-uploader.ts';
import { sourceRecords } from './source-records.ts';
import type { SourceRecord } from './source-records.ts';
import type { TraceDisk } from './trace-folder.ts';

export interface ShipDisk {
  readonly stream: LogStream;
  readonly diskSizeBytes: number;
  readonly files: TraceDisk;
}

/** What one call has made visible of one disk; `watermarkUs` and `totalRecords` include earlier calls. */
export interface DiskShipment {
  readonly stream: LogStream;
  readonly segments: number;
  readonly records: number;
  /** Payload before compression. */
  readonly rawBytes: number;
  /** Segments as they are in the cache account. */
  readonly storedBytes: number;
  readonly totalRecords: number;
  readonly lastSequence: number;
  /** Undefined while nothing of the stream is visible. */
  readonly watermarkUs: number | undefined;
}

export interface DiskShipperOptions {
  readonly disk: ShipDisk;
  readonly bookmark: Bookmark | undefined;
  readonly startUs: number;
  readonly stretch: number;
  /** Records at this source time or later are left for another call. */
  readonly untilUs: number;
  readonly limits: SegmentLimits;
  readonly uploader: SegmentUploader;
  readonly encode: EncodeOptions;
  readonly committed: (shipment: DiskShipment) => void;
  readonly signal: AbortSignal;
}

const NO_DIGEST = Buffer.alloc(DIGEST_BYTES);

export class DiskShipper {
  readonly #options: DiskShipperOptions;
  readonly #records: AsyncGenerator<SourceRecord, void, undefined>;
  readonly #segmenter: Segmenter;
  #next: SourceRecord | undefined;
  #sequence: number;
  #recordsBefore: number;
  #previousDigest: Buffer;
  #shipment: DiskShipment;

  constructor(options: DiskShipperOptions) {
    const { disk, bookmark, startUs, stretch, signal } = options;
    const last = bookmark?.last;
    this.#options = options;
    this.#records = sourceRecords({ ...disk, startUs, stretch, signal });
    this.#segmenter = new Segmenter(last?.header.endTimeUs ?? startUs, options.limits);
    this.#sequence = last?.header.sequence ?? 0;
    this.#recordsBefore = bookmark?.records ?? 0;
    this.#previousDigest = last?.digest ?? NO_DIGEST;
    this.#shipment = {
      stream: disk.stream,
      segments: 0,
      records: 0,
      rawBytes: 0,
      storedBytes: 0,
      totalRecords: this.#recordsBefore,
      lastSequence: this.#sequence,
      watermarkUs: last?.header.endTimeUs,
    };
  }

  get shipment(): DiskShipment {
    return this.#shipment;
  }

  /** Source time of the next record; undefined when there is none before `untilUs`. */
  get nextTimeUs(): number | undefined {
    return this.#next?.record.timeUs;
  }

  /** Passes over what is shipped already. @throws TidemarkError SOURCE_MISMATCH */
  async open(): Promise<void> {
    const { disk, bookmark } = this.#options;
    if (bookmark !== undefined) await skipShipped(disk.stream, bookmark, this.#records);
    await this.#readNext();
    const watermarkUs = this.#shipment.watermarkUs ?? Number.NEGATIVE_INFINITY;
    if (this.#next !== undefined && this.#next.record.timeUs < watermarkUs) {
      const time = isoFromUs(this.#next.record.timeUs);
      throw mismatch(
        disk.stream,
        `the next record is of ${time}, and the log is complete through ${isoFromUs(watermarkUs)}`,
      );
    }
  }

  async #readNext(): Promise<void> {
    const next = await this.#records.next();
    this.#next = next.done === true || next.value.record.timeUs >= this.#options.untilUs ? undefined : next.value;
  }

  /** When the open segment has to be closed. */
  get deadlineUs(): number {
    return this.#segmenter.deadlineUs;
  }

  /** Moves the record behind `nextTimeUs` into the open segment. */
  async take(): Promise<void> {
    if (this.#next === undefined) return;
    await this.#submit(this.#segmenter.add(this.#next));
    await this.#readNext();
  }

  /** Closes the open segment at its deadline; an empty one is a heartbeat. */
  async closeByAge(): Promise<void> {
    await this.#submit(this.#segmenter.closeByAge());
  }

  /** Closes the last segment at the final watermark. */
  async finish(endTimeUs: number): Promise<void> {
    await this.#submit(this.#segmenter.finish(endTimeUs));
  }

  /** Frees the trace's files. */
  async close(): Promise<void> {
    await this.#records.return();
  }

  async #submit(plan: SegmentPlan | undefined): Promise<void> {
    if (plan === undefined) return;
    await this.#options.uploader.ready();
    const { disk, startUs, uploader, encode, committed } = this.#options;
    const sequence = ++this.#sequence;
    const { bytes, digest } = encodeSegment(
      {
        stream: disk.stream,
        diskSizeBytes: disk.diskSizeBytes,
        sequence,
        streamStartUs: startUs,
        recordsBefore: this.#recordsBefore,
        firstTimeUs: plan.firstTimeUs,
        endTimeUs: plan.endTimeUs,
        previousDigest: this.#previousDigest,
      },
      plan.entries,
      encode,
    );
    this.#previousDigest = digest;
    this.#recordsBefore += plan.entries.length;
    const { payloadBytes, endTimeUs, entries } = plan;
    const records = entries.length;
    uploader.submit({
      stream: disk.stream,
      sequence,
      bytes,
      committed: () => {
        const before = this.#shipment;
        this.#shipment = {
          stream: disk.stream,
          segments: before.segments + 1,
          records: before.records + records,
          rawBytes: before.rawBytes + payloadBytes,
          storedBytes: before.storedBytes + bytes.length,
          totalRecords: before.totalRecords + records,
          lastSequence: sequence,
          watermarkUs: endTimeUs,
        };
        committed(this.#shipment);
      },
    });
  }
}
