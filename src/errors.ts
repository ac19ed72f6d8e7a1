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
  SERVE_PORT_TAKEN: {
    class: 'operator',
    hint: 'choose another --port, or --port 0 for any free one; --host must be an address of this machine',
  },
  SCRATCH_UNUSABLE: {
    class: 'operator',
    hint: 'choose another --scratch: a file that is new, or holds changes to the same disk of the same point, with space for more',
  },
  CONFIRMATION_REQUIRED: { class: 'operator', hint: 'repeat the command with --yes, or look first with --dry-run' },
  // Catalog
  DOCUMENT_TOO_LARGE: {
    class: 'operator',
    hint: 'a catalog document has at most 4 MiB; remove what fills it: pins, or messages that the Service Bus did not take',
  },
  GROUP_DISABLED: { class: 'operator', hint: 'protect the group again with `tidemark group protect`' },
  GROUP_PINNED: {
    class: 'operator',
    hint: 'unpin the points named above with `tidemark point unpin`, or disable the group with --keep-points',
  },
  PIN_INVALID: { class: 'operator', hint: 'correct the pin as the message says; docs/retention.md lists the limits' },
  // Storage
  CONFLICT: { class: 'retry', hint: 'somebody else changed the document; the next attempt reads it again' },
  OWNERSHIP_LOST: { class: 'retry', hint: 'another worker owns this group now; this one has stopped writing' },
  STORAGE_UNAVAILABLE: {
    class: 'retry',
    hint: 'check that the storage account answers, and that this machine reaches it',
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
  // Source side: trace folders and shipping
  TRACE_NOT_FOUND: {
    class: 'operator',
    hint: 'give --trace a readable folder with diskK.log.zst and diskK.times.csv.zst; docs/source.md lists its files',
  },
  TRACE_INVALID: {
    class: 'operator',
    hint: 'the file named above is no dm-log-writes trace that Tidemark can read; record or copy it again',
  },
  TRACE_TRUNCATED: { class: 'operator', hint: 'the trace file named above ends too early; copy it again, whole' },
  TRACE_TIMES_INVALID: {
    class: 'operator',
    hint: 'the times file must hold one row per log entry, in order, with times that never decrease; copy it again',
  },
  TRACE_OUTSIDE_DISK: {
    class: 'operator',
    hint: 'protect the disk with the size it had when the trace was recorded, or map another disk with --disk ID=FILE',
  },
  TRACE_DISK_UNMATCHED: {
    class: 'operator',
    hint: 'map a protected disk to a trace disk with --disk ID=disk0; `tidemark group show GROUP` lists the disks',
  },
  SOURCE_CONFLICT: {
    class: 'operator',
    hint: 'another source ships this disk; stop it, then run the same command again to go on from what is shipped',
  },
  SOURCE_MISMATCH: {
    class: 'operator',
    hint: 'repeat the arguments of the first shipment (--trace, --start, --stretch), or start a resync',
  },
  // Monitoring
  OUTBOX_FULL: {
    class: 'retry',
    hint: 'messages have not left for days and the group waits for them; make the Service Bus topic reachable again',
  },
  MESSAGING_REFUSED: {
    class: 'operator',
    hint: 'check the names of the topic and its subscription `all`, and that the identity may send and receive there',
  },
  MESSAGE_TOO_LARGE: {
    class: 'bug',
    hint: 'a message is larger than the topic takes (256 KB on the Standard tier); report the message above',
  },
  // Storage adapters
  CONNECTION_INVALID: {
    class: 'operator',
    hint: 'correct the storage connection string or account URL; `tidemark local env` prints those of the local stack',
  },
  BLOB_MISSING: {
    class: 'operator',
    hint: 'the blob or container named above was deleted by somebody else; restore it, or protect the disk again',
  },
  SNAPSHOT_LIMIT: {
    class: 'operator',
    hint: 'a disk has at most 4,999 snapshots; shorten the retention, and delete snapshots that no point uses',
  },
  LOG_TOO_LARGE: {
    class: 'resync',
    hint: 'the segment is larger than the limit of its format; keep it for inspection and resynchronize the disk',
  },
  // Identity
  SIGN_IN_FAILED: {
    class: 'operator',
    hint: 'give this machine a managed identity and set its client id, or sign in as a developer (`az login`); see docs/identity.md',
  },
  ACCESS_DENIED: {
    class: 'operator',
    hint: 'assign the role that docs/identity.md names to the identity at the place named above; that takes effect after minutes',
  },
  // Configuration and local stack
  CONFIG_MISSING: {
    class: 'operator',
    hint: 'start the local stack with `tidemark local up`, or set the variable (directly or with --env FILE)',
  },
  CONFIG_INVALID: { class: 'operator', hint: 'correct the setting named above; docs/local-stack.md lists them all' },
  INTERRUPTED: { class: 'retry', hint: 'run the same command again to go on' },
  UNEXPECTED: { class: 'bug', hint: 'this is a defect in Tidemark; TIDEMARK_DEBUG=1 shows where it came from' },
  LOCAL_PORT_TAKEN: {
    class: 'operator',
    hint: 'stop the program on that port, or set TIDEMARK_PORT_BASE to a free range such as 21000',
  },
  LOCAL_ALREADY_RUNNING: {
    class: 'operator',
    hint: 'use it (`tidemark local env`), stop it (`tidemark local down`), or set TIDEMARK_HOME to another folder',
  },
  LOCAL_START_FAILED: {
    class: 'operator',
    hint: 'the file or folder named above says more; `tidemark local up --fresh` starts with empty data',
  },
  LOCAL_CHILD_EXITED: {
    class: 'operator',
    hint: 'read the log file named above, then start the stack again with `tidemark local up`',
  },
  LOCAL_NOT_RUNNING: { class: 'operator', hint: 'start the local stack with `tidemark local up --detach`' },
  LOCAL_STOP_FAILED: { class: 'operator', hint: 'end the processes named above by hand' },
  BROKER_CONFIG_INVALID: {
    class: 'operator',
    hint: "correct infra/service-bus/Config.json; it has the form of the Service Bus emulator's Config.json",
  },
  // Demo
  DEMO_TRACE_INVALID: {
    class: 'operator',
    hint: 'the demo takes a trace folder of one disk with an expect.json; leave out --trace to use the bundled one',
  },
  DEMO_POINTS_INCOMPLETE: {
    class: 'bug',
    hint: 'this is a defect in Tidemark; `npm start -- --keep` leaves the points and the log for inspection',
  },
  DEMO_POINT_DIFFERS: {
    class: 'bug',
    hint: 'this is a defect in Tidemark; `npm start -- --keep` leaves the point, and `tidemark point export` shows its bytes',
  },
  DEMO_WORKER_FAILED: {
    class: 'bug',
    hint: 'repeat with `npm start -- --keep`; then `tidemark status` and `tidemark worker run --once` say why',
  },
  // Replication log: damaged or hostile segments, and keys
  LOG_MAGIC: {
    class: 'resync',
    hint: 'the blob is no replication log segment; look at what wrote it, then resync the disk',
  },
  LOG_VERSION: {
    class: 'resync',
    hint: 'the source writes a newer segment format than this worker reads; upgrade the worker, then resync the disk',
  },
  LOG_FLAGS: {
    class: 'resync',
    hint: 'the segment uses features that its version does not have; upgrade the worker or resync the disk',
  },
  LOG_HEADER_CHECKSUM: {
    class: 'resync',
    hint: 'the header is damaged; keep the blob for inspection and resync the disk',
  },
  LOG_HEADER_FIELD: {
    class: 'resync',
    hint: 'the header holds a value that no source writes; keep the blob for inspection and resync the disk',
  },
  LOG_TRUNCATED: { class: 'resync', hint: 'the segment ends too early, so its upload was not whole; resync the disk' },
  LOG_TRAILING_BYTES: {
    class: 'resync',
    hint: 'bytes follow the end of the segment; keep the blob for inspection and resync the disk',
  },
  LOG_TABLE_DIGEST: {
    class: 'resync',
    hint: 'the record table is damaged; keep the blob for inspection and resync the disk',
  },
  LOG_TABLE_SEAL: {
    class: 'resync',
    hint: 'header or table were not written by a holder of the key; find out who may write the cache account, then resync',
  },
  LOG_TABLE_PAYLOAD: {
    class: 'resync',
    hint: 'records and chunks of the segment do not fit each other; keep the blob for inspection and resync the disk',
  },
  LOG_RECORD_KIND: {
    class: 'resync',
    hint: 'a record has an unknown kind; upgrade the worker when the source is newer, then resync the disk',
  },
  LOG_RECORD_FIELD: {
    class: 'resync',
    hint: 'a record holds a value that no source writes; keep the blob for inspection and resync the disk',
  },
  LOG_RECORD_RANGE: {
    class: 'resync',
    hint: "a record lies outside the disk or has no valid length; check the disk's size at the source, then resync",
  },
  LOG_RECORD_ALIGNMENT: {
    class: 'resync',
    hint: 'a record is not aligned to 512-byte sectors; keep the blob for inspection and resync the disk',
  },
  LOG_RECORD_TIME: {
    class: 'resync',
    hint: "a record's time breaks the order or the watermark of its segment; check the source's clock, then resync",
  },
  LOG_MARK_TEXT: {
    class: 'resync',
    hint: "a mark's id is empty, too long or no UTF-8; keep the blob for inspection and resync the disk",
  },
  LOG_TIME_BACKWARDS: {
    class: 'resync',
    hint: "the source's time went backwards between segments; check the source's clock, then resync the disk",
  },
  LOG_TIME_LEAP: {
    class: 'resync',
    hint: "the source's time leapt forward; check the source's clock, then resync the disk",
  },
  LOG_CHUNK_CHECKSUM: { class: 'resync', hint: 'payload is damaged; keep the blob for inspection and resync the disk' },
  LOG_CHUNK_SIZE: {
    class: 'resync',
    hint: 'a chunk does not have the size the table names; keep the blob for inspection and resync the disk',
  },
  LOG_CHUNK_CODEC: {
    class: 'resync',
    hint: 'a chunk cannot be decompressed; keep the blob for inspection and resync the disk',
  },
  LOG_CHUNK_SEAL: {
    class: 'resync',
    hint: 'payload was not sealed with this key for this place; find out who may write the cache account, then resync',
  },
  LOG_WRONG_GROUP: {
    class: 'resync',
    hint: 'the segment belongs to another group; check what the source was set up with, then resync the disk',
  },
  LOG_WRONG_MACHINE: {
    class: 'resync',
    hint: 'the segment belongs to another machine; check what the source was set up with, then resync the disk',
  },
  LOG_WRONG_DISK: {
    class: 'resync',
    hint: 'the segment belongs to another disk; check what the source was set up with, then resync the disk',
  },
  LOG_WRONG_EPOCH: {
    class: 'resync',
    hint: 'the segment belongs to another epoch of this disk; stop the older source, then resync the disk',
  },
  LOG_WRONG_SEQUENCE: {
    class: 'resync',
    hint: "the segment lies under another one's name; keep both for inspection and resync the disk",
  },
  LOG_DISK_SIZE: {
    class: 'resync',
    hint: 'the disk has another size at the source; protect it with the new size, or correct it and resync',
  },
  LOG_CHAIN: {
    class: 'resync',
    hint: 'the segment does not follow the one before it, so one of the two was replaced; resync the disk',
  },
  LOG_RECORD_COUNT: { class: 'resync', hint: 'records are missing or repeated between two segments; resync the disk' },
  LOG_SEQUENCE_GAP: {
    class: 'resync',
    hint: 'a segment is missing while later ones are there; restore it from the cache account, or resync the disk',
  },
  LOG_SEGMENT_MISSING: {
    class: 'resync',
    hint: 'a segment vanished while it was wanted; find out what deletes from the cache account, then resync the disk',
  },
  LOG_NOT_SEALED: {
    class: 'operator',
    hint: 'a key is set but the log is not sealed; remove the key, or seal at the source and resync',
  },
  LOG_KEY_MISSING: { class: 'operator', hint: 'the log is sealed; give the worker the key that the source seals with' },
  LOG_KEY_WRONG: {
    class: 'operator',
    hint: 'the log is sealed with another key; give the worker the key that the source seals with',
  },
  LOG_KEY_INVALID: { class: 'operator', hint: 'a log key is exactly 32 random bytes' },
  // Failover
  FAILOVER_STATE: {
    class: 'operator',
    hint: 'give one of the commands that the message allows now; docs/failover.md has the whole table',
  },
  JOB_NOT_FOUND: { class: 'operator', hint: 'list the jobs with `tidemark job list GROUP`' },
  IDEMPOTENCY_CONFLICT: {
    class: 'operator',
    hint: 'the key belongs to another command; choose a new key for a new command',
  },
  TARGET_INVALID: {
    class: 'operator',
    hint: 'correct the fields named above; docs/failover.md lists those of a target',
  },
  POINT_UNREACHABLE: {
    class: 'operator',
    hint: 'the log no longer reaches that moment; choose a later one, or keep more log with --log-retention-hours',
  },
  COMPUTE_UNAVAILABLE: {
    class: 'retry',
    hint: 'Azure Compute did not answer or asked for patience; the same step is safe to repeat',
  },
  COMPUTE_REFUSED: {
    class: 'operator',
    hint: "correct what Azure's message above names: a quota, a permission, a size, or the machine's target settings",
  },
  COMPUTE_CONFLICT: {
    class: 'operator',
    hint: 'a resource of that name belongs to somebody else; rename or remove it, then run the job again',
  },
  // Recovery plans
  PLAN_INVALID: { class: 'operator', hint: 'correct the places named above; docs/plans.md describes the file' },
  PLAN_RUN_NOT_FOUND: { class: 'operator', hint: 'list the runs with `tidemark plan list`' },
  PLAN_STATE: {
    class: 'operator',
    hint: 'look at the run with `tidemark plan status RUN`; docs/plans.md has its states',
  },
  PLAN_SECRET_MISSING: {
    class: 'operator',
    hint: 'set the variable, or write the file, on the machine that executes the plan',
  },
  PLAN_STEP_FAILED: {
    class: 'operator',
    hint: 'correct what the step complains about, then go on with `tidemark plan resume RUN`',
  },
  PLAN_STEP_TIMEOUT: {
    class: 'operator',
    hint: 'find out why it takes so long or raise its timeoutMinutes, then go on with `tidemark plan resume RUN`',
  },
  // Doors: HTTP and messages
  UNAUTHENTICATED: {
    class: 'operator',
    hint: 'send `Authorization: Bearer TOKEN` with a token that docs/api.md describes; get a new one when it has expired',
  },
  FORBIDDEN: {
    class: 'operator',
    hint: 'give the caller the app role or scope Tidemark.Read, or Tidemark.Command for commands, in Entra ID',
  },
  ROUTE_NOT_FOUND: { class: 'operator', hint: 'GET /openapi.json lists all routes' },
  METHOD_NOT_ALLOWED: { class: 'operator', hint: 'use a method that the Allow header names' },
  REQUEST_INVALID: { class: 'operator', hint: 'correct the header, parameter or body named above; see /openapi.json' },
  COMMAND_INVALID: { class: 'operator', hint: 'correct the field named above; docs/commands.md lists all commands' },
  REQUEST_TOO_LARGE: { class: 'operator', hint: 'a command has at most 16 KiB; send nothing but the command' },
  MEDIA_TYPE: { class: 'operator', hint: 'send the command as application/json' },
  BUSY: { class: 'retry', hint: 'too many requests or jobs are under way here; send the same request again later' },
  REQUEST_TIMEOUT: {
    class: 'retry',
    hint: 'the request took too long; send it again with the same Idempotency-Key, or look for the job',
  },
  IDENTITY_UNAVAILABLE: {
    class: 'retry',
    hint: 'Entra ID, or the identity endpoint of this machine, does not answer; check that the authority of its cloud is reached',
  },
  API_HOST_INSECURE: {
    class: 'operator',
    hint: 'listen on 127.0.0.1, or say --insecure-http when something in front of it speaks TLS',
  },
  API_PORT_TAKEN: { class: 'operator', hint: 'stop the program on that port, or choose another with --port' },
  REPLY_MISSING: {
    class: 'retry',
    hint: 'is a worker running? the job may go on: `tidemark job list GROUP`; the same --key never makes a second one',
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
