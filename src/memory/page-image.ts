/** Pure. The content of a sparse page blob, with snapshots that cost nothing until the disk is written again. */
import { KIB, SECTOR_BYTES } from '../model/sizes.ts';
import type { ByteRange } from '../seed/seed-store.ts';

/** What is copied when a page that a snapshot shares is written. */
const PAGE_BYTES = 64 * KIB;
const PAGE_SECTORS = PAGE_BYTES / SECTOR_BYTES;

interface Page {
  /** The image that may write this page in place; every other image that refers to it only reads. */
  readonly owner: symbol;
  readonly bytes: Buffer;
  /** Per sector: 1 when it was written since it was last cleared. */
  readonly written: Uint8Array;
}

export class PageImage {
  #owner = Symbol('owner');
  readonly #pages: Map<number, Page>;

  constructor(pages: ReadonlyMap<number, Page> = new Map()) {
    this.#pages = new Map(pages);
  }

  /** An independent image of the present content. */
  snapshot(): PageImage {
    // Neither side owns the shared pages any more, so both copy before they write.
    this.#owner = Symbol('owner');
    return new PageImage(this.#pages);
  }

  /** Copies `data`; whole sectors. */
  write(offsetBytes: number, data: Buffer): void {
    forEachPart(offsetBytes, data.length, (index, start, length, done) => {
      const page = this.#ownPage(index);
      data.copy(page.bytes, start, done, done + length);
      page.written.fill(1, start / SECTOR_BYTES, (start + length) / SECTOR_BYTES);
    });
  }

  /** Whole sectors. */
  clear(offsetBytes: number, lengthBytes: number): void {
    for (const index of this.#presentPages(offsetBytes, lengthBytes)) {
      const start = Math.max(0, offsetBytes - index * PAGE_BYTES);
      const end = Math.min(PAGE_BYTES, offsetBytes + lengthBytes - index * PAGE_BYTES);
      if (start === 0 && end === PAGE_BYTES) {
        this.#pages.delete(index);
        continue;
      }
      const page = this.#ownPage(index);
      page.bytes.fill(0, start, end);
      page.written.fill(0, start / SECTOR_BYTES, end / SECTOR_BYTES);
    }
  }

  /** Any alignment; what was never written or was cleared is zero. */
  read(offsetBytes: number, lengthBytes: number): Buffer {
    const target = Buffer.alloc(lengthBytes);
    forEachPart(offsetBytes, lengthBytes, (index, start, length, done) => {
      this.#pages.get(index)?.bytes.copy(target, done, start, start + length);
    });
    return target;
  }

  /** Written ranges below `endBytes`, ascending, neighbours merged. */
  ranges(endBytes: number): ByteRange[] {
    const merged: { offsetBytes: number; lengthBytes: number }[] = [];
    for (const index of this.#presentPages(0, endBytes)) {
      const written = this.#pages.get(index)?.written ?? [];
      for (const [sector, flag] of written.entries()) {
        const offsetBytes = index * PAGE_BYTES + sector * SECTOR_BYTES;
        if (flag === 0 || offsetBytes >= endBytes) continue;
        const last = merged.at(-1);
        if (last !== undefined && last.offsetBytes + last.lengthBytes === offsetBytes) last.lengthBytes += SECTOR_BYTES;
        else merged.push({ offsetBytes, lengthBytes: SECTOR_BYTES });
      }
    }
    return merged;
  }

  /** Indexes of the pages that exist in the range, ascending, found from the smaller side. */
  #presentPages(offsetBytes: number, lengthBytes: number): number[] {
    const first = Math.floor(offsetBytes / PAGE_BYTES);
    const end = Math.ceil((offsetBytes + lengthBytes) / PAGE_BYTES);
    if (end - first < this.#pages.size) {
      return Array.from({ length: end - first }, (_, step) => first + step).filter((index) => this.#pages.has(index));
    }
    return [...this.#pages.keys()].filter((index) => index >= first && index < end).sort((a, b) => a - b);
  }

  #ownPage(index: number): Page {
    const present = this.#pages.get(index);
    if (present?.owner === this.#owner) return present;
    const page: Page = {
      owner: this.#owner,
      bytes: present === undefined ? Buffer.alloc(PAGE_BYTES) : Buffer.from(present.bytes),
      written: present === undefined ? new Uint8Array(PAGE_SECTORS) : Uint8Array.from(present.written),
    };
    this.#pages.set(index, page);
    return page;
  }
}

/** Calls `part` for the piece of the range in each page: its start in the page, its length, and the bytes before it in the range. */
function forEachPart(
  offsetBytes: number,
  lengthBytes: number,
  part: (index: number, start: number, length: number, done: number) => void,
): void {
  for (let done = 0; done < lengthBytes;) {
    const index = Math.floor((offsetBytes + done) / PAGE_BYTES);
    const start = offsetBytes + done - index * PAGE_BYTES;
    const length = Math.min(PAGE_BYTES - start, lengthBytes - done);
    part(index, start, length, done);
    done += length;
  }
}
