/** Pure. The records of a replication log, as the rest of the code sees them. */

export type MarkKind = 'crash' | 'app';

interface RecordTime {
  /** Source time in microseconds; never decreases within a stream. */
  readonly timeUs: number;
}

/** `lengthBytes` of payload go to `offsetBytes` of the disk; both are multiples of 512. */
export interface WriteRecord extends RecordTime {
  readonly kind: 'write';
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** The range reads as zeroes afterwards; both numbers are multiples of 512. */
export interface DiscardRecord extends RecordTime {
  readonly kind: 'discard';
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** A bookmark put into every disk's stream of a group at one coordinated moment; `id` is the same in all of them. */
export interface MarkRecord extends RecordTime {
  readonly kind: 'mark';
  readonly markKind: MarkKind;
  readonly id: string;
}

/** The initial copy of the disk is complete: all records before this one and the disk's zeroes are the whole disk. */
export interface BaseCompleteRecord extends RecordTime {
  readonly kind: 'base-complete';
}

export type LogRecord = WriteRecord | DiscardRecord | MarkRecord | BaseCompleteRecord;
