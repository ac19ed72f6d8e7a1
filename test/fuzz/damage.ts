/** What somebody does to one disk's log in the cache. */
import { HEADER, writeU64 } from '../../src/log/layout.ts';
import { forge } from '../log/forge.ts';
import { anyGroup, VICTIM, type GroupLogs } from './hostile-world.ts';
import { mutate, mutatePlausibly } from './mutant.ts';
import type { Random } from './random.ts';
import { judge } from './reference-reader.ts';
import { encodeLog, KEY, placeOf, type SoundLog } from './sound-logs.ts';

export interface Damage {
  readonly what: readonly string[];
  /** The victim's log as it is in the cache: what is not here is missing. */
  readonly blobs: ReadonlyMap<number, Buffer>;
  /** The first sequence that is not what the source has sent. */
  readonly sequence: number;
}

interface Scene {
  readonly victim: GroupLogs;
  readonly bystander: GroupLogs;
  readonly disk: number;
}

const bytesOf = (log: SoundLog | undefined, sequence: number): Buffer =>
  log?.segments[sequence - 1]?.bytes ?? Buffer.alloc(0);

/** `blobs` is changed; the answer is the first sequence that is another one now. */
type WholeDamage = (blobs: Map<number, Buffer>, sequence: number, scene: Scene, random: Random) => number;

const put =
  (make: (scene: Scene, sequence: number, random: Random) => Buffer): WholeDamage =>
  (blobs, sequence, scene, random) => {
    blobs.set(sequence, make(scene, sequence, random));
    return sequence;
  };

const WHOLE: readonly (readonly [string, WholeDamage])[] = [
  [
    'missing',
    (blobs, sequence) => {
      blobs.delete(sequence);
      return sequence;
    },
  ],
  [
    'swapped',
    (blobs, sequence, { victim, disk }, random) => {
      const other = random.int(1, blobs.size);
      const log = victim.logs[disk];
      blobs.set(sequence, bytesOf(log, other)).set(other, bytesOf(log, sequence));
      return Math.min(sequence, other);
    },
  ],
  [
    'beyond the end',
    (blobs, sequence, { victim, disk }, random) => {
      const at = blobs.size + random.int(1, 3);
      blobs.set(at, bytesOf(victim.logs[disk], sequence));
      return at;
    },
  ],
  ['repeated', put(({ victim, disk }, sequence) => bytesOf(victim.logs[disk], Math.max(1, sequence - 1)))],
  ['other disk', put(({ victim, disk }, sequence) => bytesOf(victim.logs[1 - disk] ?? victim.logs[disk], sequence))],
  ['other group', put(({ bystander }, sequence) => bytesOf(bystander.logs[0], sequence))],
  ['other epoch', put(({ victim, disk }, sequence) => bytesOf(ofEpoch(victim.logs[disk], 2), sequence))],
  ['other history', put(({ victim, disk }, sequence, random) => bytesOf(otherHistory(victim, disk, random), sequence))],
  ['last byte', put(({ victim, disk }, sequence) => lastByteFlipped(bytesOf(victim.logs[disk], sequence)))],
  ['empty', put(() => Buffer.alloc(0))],
  ['giant', put(() => Buffer.alloc(16 * 1_048_576 + 1, 'TIDEMARK'))],
];
export const WHOLE_DAMAGES: readonly string[] = WHOLE.map(([name]) => name);

/** Damages the payload, where there is some. */
function lastByteFlipped(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(copy.length - 1) ^ 0x80, copy.length - 1);
  return copy;
}

function ofEpoch(log: SoundLog | undefined, epoch: number): SoundLog | undefined {
  if (log === undefined) return undefined;
  const segments = log.segments.map(({ tail }) => ({ entries: [], endUs: tail.endTimeUs }));
  return encodeLog({ ...log, stream: { ...log.stream, epoch }, segments });
}

const otherHistory = ({ logs }: GroupLogs, disk: number, random: Random): SoundLog | undefined =>
  anyGroup(VICTIM, random, { diskCount: logs.length, isSealed: logs[0]?.isSealed === true }).logs[disk];

/** Changes the victim's log in one place, and sometimes makes what follows fit, where that can be. */
export function anyDamage(scene: Scene, random: Random): Damage {
  const log = scene.victim.logs[scene.disk];
  if (log === undefined) throw new Error('the victim has such a disk');
  const blobs = new Map(log.segments.map(({ bytes }, index) => [index + 1, bytes]));
  const sequence = random.int(1, log.segments.length);
  if (random.chance(0.3)) {
    const [name, damage] = random.pick(WHOLE);
    return { what: [name], sequence: damage(blobs, sequence, scene, random), blobs };
  }
  const { bytes, mutations } = (random.chance(0.4) ? mutatePlausibly : mutate)(log, sequence, random);
  blobs.set(sequence, bytes);
  const isFollowed = random.chance(0.7) && makeFollow(blobs, sequence, log);
  return { what: isFollowed ? [...mutations, 'and what follows fits'] : mutations, sequence, blobs };
}

/** Forges the segments behind a sound mutant so that they follow it. */
function makeFollow(blobs: Map<number, Buffer>, mutant: number, log: SoundLog): boolean {
  let judged = judge(blobs.get(mutant) ?? Buffer.alloc(0), placeOf(log, mutant));
  if (!('sound' in judged)) return false;
  for (let sequence = mutant + 1; sequence <= log.segments.length && 'sound' in judged; sequence++) {
    const previous = judged.sound.tail;
    const bytes = forge(
      bytesOf(log, sequence),
      ({ head }) => {
        previous.digest.copy(head, HEADER.previousDigest);
        writeU64(head, previous.recordsThrough, HEADER.recordsBefore);
        writeU64(head, previous.endTimeUs, HEADER.firstTimeUs);
        writeU64(head, previous.streamStartUs, HEADER.streamStartUs);
      },
      log.isSealed ? KEY : undefined,
    );
    blobs.set(sequence, bytes);
    judged = judge(bytes, { ...placeOf(log, sequence), previous });
  }
  return true;
}
