/** Pure. Finds readers that go through a disk in order, also several at once, and says what they will want next. */

/** Our choice: as many readers in order as are told apart. */
const MAX_STREAMS = 8;
/** Reads in order before anything is read ahead of them. */
const MIN_READS = 2;

interface Stream {
  nextByte: number;
  reads: number;
  /** Everything before it was asked for already. */
  aheadTo: number;
}

export interface ReadAhead {
  /** Notes a read, and returns the range to fetch ahead of its reader; undefined when there is none. */
  note(offsetBytes: number, lengthBytes: number): { readonly from: number; readonly to: number } | undefined;
}

/** `windowBytes`: how far ahead. The next part is fetched when half of the window is used up. */
export function createReadAhead(windowBytes: number, sizeBytes: number): ReadAhead {
  /** The latest used last. */
  const streams: Stream[] = [];
  return {
    note(offsetBytes, lengthBytes) {
      const index = streams.findIndex(({ nextByte }) => nextByte === offsetBytes);
      const [stream = { nextByte: 0, reads: 0, aheadTo: 0 }] = index < 0 ? [] : streams.splice(index, 1);
      stream.nextByte = offsetBytes + lengthBytes;
      stream.reads++;
      streams.push(stream);
      if (streams.length > MAX_STREAMS) streams.shift();
      if (stream.reads < MIN_READS || stream.aheadTo - stream.nextByte >= windowBytes / 2) return undefined;
      const from = Math.max(stream.nextByte, stream.aheadTo);
      const to = Math.min(stream.nextByte + windowBytes, sizeBytes);
      stream.aheadTo = to;
      return from < to ? { from, to } : undefined;
    },
  };
}
