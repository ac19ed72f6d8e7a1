/** Pure. What an inspection says of one structure, and of a whole disk. */

/**
 * `clean`: nothing to do. `replay`: an operating system replays a journal when it mounts, by itself. `check`: it uses the structure and
 * asks for a repair. `damaged`: it refuses the structure, or a checksum fails. `unknown`: nothing here is known.
 */
export type StructureState = 'clean' | 'replay' | 'check' | 'damaged' | 'unknown';

export interface Finding {
  /** Such as `gpt`, `ext4`, `LVM2 PV`; empty when nothing is known. */
  readonly what: string;
  readonly state: StructureState;
  /** Such as `clean`, `needs journal replay`, `damaged (superblock checksum)`. */
  readonly text: string;
}

export interface LocatedFinding extends Finding {
  /** `p1` for the first partition; empty for the disk as a whole. */
  readonly where: string;
}

export const VERDICTS = ['ok', 'damaged', 'unknown'] as const;
/** `ok`: something is known and nothing damaged. `unknown`: no file system, volume or table of a known kind. */
export type Verdict = (typeof VERDICTS)[number];

export interface DiskFinding {
  readonly verdict: Verdict;
  /** One line: `gpt ok · p1 vfat clean · p2 ext4 needs journal replay`. */
  readonly text: string;
  readonly findings: readonly LocatedFinding[];
}

/** Reasons that a text spells out. */
const NAMED_REASONS = 3;

export function damaged(what: string, reasons: readonly string[]): Finding {
  const more = reasons.length > NAMED_REASONS ? `, and ${reasons.length - NAMED_REASONS} more` : '';
  return { what, state: 'damaged', text: `damaged (${reasons.slice(0, NAMED_REASONS).join(', ')}${more})` };
}

/** Damaged when there is a reason for it, else `otherwise`. */
export const judged = (what: string, reasons: readonly string[], otherwise: Omit<Finding, 'what'>): Finding =>
  reasons.length > 0 ? damaged(what, reasons) : { what, ...otherwise };

export const CLEAN = { state: 'clean', text: 'clean' } as const;
export const OK = { state: 'clean', text: 'ok' } as const;

/** Findings that a line spells out: a disk of 128 partitions still gives one that can be read. */
const NAMED_FINDINGS = 12;
/** Longest line kept; texts come from this code, never from the disk. */
export const MAX_FINDING_TEXT = 1000;

export function summarizeFindings(findings: readonly LocatedFinding[]): DiskFinding {
  const known = findings.filter(({ state }) => state !== 'unknown');
  const isDamaged = known.some(({ state }) => state === 'damaged');
  // An empty partition table says nothing of what is on the disk.
  const isKnown = known.some(({ where, what }) => where !== '' || !TABLES.has(what)) || isDamaged;
  const lines = findings.map(({ where, what, text }) => [where, what, text].filter((part) => part !== '').join(' '));
  const rest = lines.length - NAMED_FINDINGS;
  const text = [...lines.slice(0, NAMED_FINDINGS), ...(rest > 0 ? [`${rest} more`] : [])].join(' · ');
  return {
    verdict: isDamaged ? 'damaged' : isKnown ? 'ok' : 'unknown',
    text: text.slice(0, MAX_FINDING_TEXT),
    findings,
  };
}

/** Names of partition tables. */
const TABLES: ReadonlySet<string> = new Set(['mbr', 'gpt']);
