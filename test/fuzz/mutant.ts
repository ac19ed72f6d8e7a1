/** One number, one mutant. */
import { BYTE_MUTATIONS } from './byte-mutations.ts';
import { anySkill, draftOf, finish } from './draft.ts';
import { FIELD_MUTATIONS } from './field-mutations.ts';
import { KEEPS_LENGTHS, PAYLOAD_MUTATIONS } from './payload-mutations.ts';
import { createRandom, type Random } from './random.ts';
import type { ReferencePlace } from './reference-reader.ts';
import { anyLargeKind, anySmallLog, largeLogOf, MASTER, placeOf, type LargeKind, type SoundLog } from './sound-logs.ts';

export interface Mutant {
  readonly bytes: Buffer;
  /** Names of the mutations, and the skill of the writer. */
  readonly mutations: readonly string[];
}

const STRUCTURE = [...FIELD_MUTATIONS, ...PAYLOAD_MUTATIONS];
export const MUTATION_NAMES: readonly string[] = [...STRUCTURE, ...BYTE_MUTATIONS].map(([name]) => name);

const sourceOf = (log: SoundLog, sequence: number): Buffer => log.segments[sequence - 1]?.bytes ?? Buffer.alloc(0);

/** Segment `sequence` of `log`, with one to three things changed. */
export function mutate(log: SoundLog, sequence: number, random: Random): Mutant {
  if (random.chance(0.25)) return mutateBytes(log, sequence, random);
  const skill = anySkill(random, log);
  const draft = draftOf(log, sequence, skill === 'key' && random.chance(0.7));
  const mutations: string[] = [skill];
  const wanted = random.pick([1, 1, 1, 2, 3]);
  for (let tries = 0; mutations.length <= wanted && tries < 40; tries++) {
    const [name, mutation] = random.pick(random.chance(0.7) ? FIELD_MUTATIONS : PAYLOAD_MUTATIONS);
    if (mutation(draft, random)) mutations.push(name);
  }
  const fitsLengths = !mutations.some((name) => KEEPS_LENGTHS.has(name));
  return { bytes: finish(draft, skill, fitsLengths), mutations };
}

const OFTEN_SOUND = new Set([
  'record: move range',
  'record: move time',
  'record: swap',
  'record: change kind',
  'record.markKind',
  'texts: change',
  'body: other payload',
  'body: level 19',
  'write: grow',
  'header: watermark',
]);

/** One change by somebody who makes everything fit, of a kind that may well give another sound segment. */
export function mutatePlausibly(log: SoundLog, sequence: number, random: Random): Mutant {
  const skill = log.isSealed ? 'key' : 'chunks';
  const draft = draftOf(log, sequence, log.isSealed);
  const mutations: string[] = ['plausibly'];
  for (let tries = 0; mutations.length === 1 && tries < 40; tries++) {
    const [name, mutation] = random.pick(STRUCTURE.filter(([name]) => OFTEN_SOUND.has(name)));
    if (mutation(draft, random)) mutations.push(name);
  }
  return { bytes: finish(draft, skill, true), mutations };
}

function mutateBytes(log: SoundLog, sequence: number, random: Random): Mutant {
  let bytes = sourceOf(log, sequence);
  const other = sourceOf(log, random.int(1, log.segments.length));
  const mutations: string[] = [];
  for (let i = random.pick([1, 1, 2]); i > 0; i--) {
    const [name, mutation] = random.pick(BYTE_MUTATIONS);
    bytes = mutation(bytes, other, random);
    mutations.push(name);
  }
  return { bytes, mutations };
}

export interface CodecMutant extends Mutant {
  readonly seed: number;
  /** What the reader expects in this place. */
  readonly place: ReferencePlace;
}

/** A mutant of a segment in the place of that segment, or of another one in its place. */
export function codecMutant(seed: number): CodecMutant {
  const random = createRandom(seed);
  if (random.chance(1 / 150)) return atLimit(seed, random);
  const log = anySmallLog(random);
  const sequence = random.int(1, log.segments.length);
  const place = reader(placeOf(log, sequence), random);
  if (random.chance(0.03)) return { seed, ...wholeSegment(log, random), place };
  return { seed, ...mutate(log, sequence, random), place };
}

/** The change that brings a large segment beyond the limit it stands at, or any other. */
const BEYOND: Readonly<Record<LargeKind, string>> = {
  records: 'record: repeat',
  chunks: 'chunk: repeat',
  payload: 'write: grow',
  ids: 'table: grow',
};

function atLimit(seed: number, random: Random): CodecMutant {
  const kind = anyLargeKind(random);
  const log = largeLogOf(kind);
  const place = placeOf(log, 1);
  if (random.chance(0.3)) return { seed, ...mutate(log, 1, random), place };
  const draft = draftOf(log, 1, false);
  const [name, mutation] = STRUCTURE.find(([name]) => name === BEYOND[kind]) ?? random.pick(STRUCTURE);
  mutation(draft, random);
  return { seed, bytes: finish(draft, 'chunks', true), mutations: [kind, name], place };
}

/** Some readers know nothing of the segment before, and some have no key, or one that the log is not sealed with. */
function reader({ previous, master, ...place }: ReferencePlace, random: Random): ReferencePlace {
  const knowsPrevious = previous !== undefined && random.chance(0.9);
  const hasKey = random.chance(0.03) ? master === undefined : master !== undefined;
  return { ...place, ...(knowsPrevious && { previous }), ...(hasKey && { master: MASTER }) };
}

function wholeSegment(log: SoundLog, random: Random): Mutant {
  if (random.chance(0.3))
    return { bytes: Buffer.alloc(16 * 1_048_576 + random.int(1, 2)), mutations: ['whole: giant'] };
  const from = random.chance(0.5) ? log : anySmallLog(random);
  return { bytes: sourceOf(from, random.int(1, from.segments.length)), mutations: ['whole: another'] };
}
