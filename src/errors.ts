/**
 * The one error catalogue. Every failure that leaves a module is a {@link TidemarkError} with a code from here.
 *
 * Classes say what the caller does with it:
 * - `retry`: the same call may succeed later; nothing was changed or the call is safe to repeat.
 * - `resync`: the log cannot be trusted from here on; the disk becomes `resync-required`.
 * - `operator`: a person must change something (an argument, a setting, a permission).
 * - `bug`: an assertion of ours failed; replication of the group stops.
 */
export type ErrorClass = 'retry' | 'resync' | 'operator' | 'bug';

interface CatalogueEntry {
  readonly class: ErrorClass;
  /** What to do about it, one sentence, for the person on call. */
  readonly hint: string;
}

export const ERROR_CATALOGUE = {
  // Arguments and documents
  USAGE: { class: 'operator', hint: 'run the command with --help for its arguments' },
  NAME_INVALID: {
    class: 'operator',
    hint: 'use 1-63 letters, digits, dots, dashes or underscores, starting and ending with a letter or digit',
  },
  DOCUMENT_INVALID: {
    class: 'operator',
    hint: 'the stored document does not match its schema; restore it or rebuild the catalog from the snapshots',
  },
  POLICY_INVALID: { class: 'operator', hint: 'correct the value named above; docs/policy.md lists the limits' },
  POLICY_NOT_FOUND: {
    class: 'operator',
    hint: 'create it with `tidemark policy set NAME`, or list what exists with `tidemark policy list`',
  },
  POLICY_IN_USE: { class: 'operator', hint: 'move its groups to another policy or disable them first' },
  GROUP_NOT_FOUND: {
    class: 'operator',
    hint: 'protect it with `tidemark group protect`, or list what exists with `tidemark group list`',
  },
  GROUP_EXISTS: { class: 'operator', hint: 'disable the group first, or choose another name' },
  GROUP_INVALID: { class: 'operator', hint: 'correct the machine or disk named above; a group has 1-16 machines' },
  POINT_NOT_FOUND: { class: 'operator', hint: 'list the points with `tidemark point list GROUP`' },
  DISK_NOT_FOUND: { class: 'operator', hint: 'the point lists its disks: `tidemark point show GROUP POINT`' },
  EXPORT_TARGET: {
    class: 'operator',
    hint: 'choose another --out: the file must be new or writable and its folder must exist',
  },
  CONFIRMATION_REQUIRED: { class: 'operator', hint: 'repeat the command with --yes, or look first with --dry-run' },
  // Storage
  CONFLICT: { class: 'retry', hint: 'somebody else changed the document; the next attempt reads it again' },
  OWNERSHIP_LOST: { class: 'retry', hint: 'another worker owns this group now; this one has stopped writing' },
  STORAGE_UNAVAILABLE: {
    class: 'retry',
    hint: 'check that the storage account answers and that the identity may use it',
  },
  STORAGE_TIMEOUT: {
    class: 'retry',
    hint: 'the storage account did not answer in time; the request is safe to repeat',
  },
  SEED_MISMATCH: {
    class: 'operator',
    hint: 'the seed blob does not have the size the group names; protect the disk under a new name',
  },
  SNAPSHOT_MISSING: {
    class: 'operator',
    hint: 'the snapshot behind this point is gone; the point cannot be used, choose another',
  },
  MESSAGING_UNAVAILABLE: {
    class: 'retry',
    hint: 'check that the Service Bus namespace answers; messages stay in the outbox until it does',
  },
  // Assertions
  ASSERTION: { class: 'bug', hint: 'this is a defect in Tidemark; keep the log and report the message above' },
} as const satisfies Record<string, CatalogueEntry>;

export type ErrorCode = keyof typeof ERROR_CATALOGUE;

export class TidemarkError extends Error {
  readonly code: ErrorCode;
  /** Machine-readable context: blob, offset, limits; never secrets. */
  readonly details: Readonly<Record<string, string | number>>;

  constructor(
    code: ErrorCode,
    message: string,
    options: { readonly cause?: unknown; readonly details?: Readonly<Record<string, string | number>> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'TidemarkError';
    this.code = code;
    this.details = options.details ?? {};
  }

  get class(): ErrorClass {
    return ERROR_CATALOGUE[this.code].class;
  }

  get hint(): string {
    return ERROR_CATALOGUE[this.code].hint;
  }
}

/** @throws TidemarkError ASSERTION when `condition` is false. A failed assertion stops the group; it never skips data. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new TidemarkError('ASSERTION', message);
}
