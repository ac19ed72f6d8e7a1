/** Real disks in the middle of their work: at every recorded mark and cut the verdict is that of the kernel that wrote them. */
import { expect, it } from 'vitest';
import { expectations, TRACE_NAMES, TraceReplay, tracePath, type TraceName } from '../support/trace-oracle.ts';
import { look } from './image.ts';

/** The states of each file system that its frozen moments and its others may have. */
const STATES = {
  // A freeze empties the journal and takes the mark for replay away.
  ext4: { frozen: ['ext4 clean'], other: ['ext4 clean', 'ext4 needs journal replay', 'ext4 mounted, journal empty'] },
  // A freeze leaves XFS dirty on purpose, so that files without a name are removed after a crash.
  xfs: { frozen: ['xfs needs log replay'], other: ['xfs needs log replay'] },
  btrfs: { frozen: ['btrfs clean'], other: ['btrfs clean', 'btrfs needs log replay'] },
} as const;

const kindOf = (name: TraceName): keyof typeof STATES =>
  name === 't3-xfs-churn' ? 'xfs' : name === 't5-btrfs-churn' ? 'btrfs' : 'ext4';

interface Moment {
  readonly entries: number;
  readonly isFrozen: boolean;
  readonly isUnmounted: boolean;
}

function momentsOf(name: TraceName, disk: number): Moment[] {
  const { marks, cuts } = expectations(tracePath(name));
  const moments = [
    ...marks.map(({ kind, text, idx }) => ({
      entries: idx[disk] ?? 0,
      isFrozen: (kind === 'app' || kind === 'fs') && text !== 'unmounted',
      // XFS writes an unmount record at mkfs too, and a mount alone leaves it there.
      isUnmounted: ['unmounted', 'trace-end', 'mkfs-done', 'mounted'].includes(text),
    })),
    ...cuts
      .filter((_, index) => index % 2 === 0)
      .map(({ entries }) => ({ entries: entries[disk] ?? 0, isFrozen: false, isUnmounted: false })),
  ];
  return moments.toSorted((a, b) => a.entries - b.entries);
}

it.each(TRACE_NAMES)(
  '%s',
  (name) => {
    const kind = kindOf(name);
    const seen = new Map<string, number>();
    for (const disk of expectations(tracePath(name)).disk_size.keys()) {
      const replay = new TraceReplay(tracePath(name), disk);
      for (const { entries, isFrozen, isUnmounted } of momentsOf(name, disk)) {
        replay.advance({ entries });
        const { verdict, text, reads, readBytes } = look(replay.image);
        const allowed: readonly string[] = isFrozen ? STATES[kind].frozen : STATES[kind].other;
        const clean = isUnmounted ? [`${kind} clean`, 'ext4 mounted, journal empty'] : [];
        expect({ verdict, known: [...allowed, ...clean] }, `entry ${entries}: ${text}`).toEqual({
          verdict: 'ok',
          known: expect.arrayContaining([text]),
        });
        expect(reads).toBeLessThan(30);
        expect(readBytes).toBeLessThan(512 * 1024);
        seen.set(text, (seen.get(text) ?? 0) + 1);
      }
    }
    // Both kinds of state were there, so neither answer is what is always said.
    expect(seen.size).toBeGreaterThanOrEqual(2);
  },
  60_000,
);
