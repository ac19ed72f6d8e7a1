/** What may go wrong between a worker and its storage, by chance of a seed: every call goes through here. */
import { TidemarkError } from '../../src/errors.ts';
import type { SegmentRef } from '../../src/drain/log-store.ts';
import type { OutgoingMessage } from '../../src/monitoring/message-topic.ts';
import { MUTATING, type Around, type PortCall } from './gated-ports.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';

/** Probabilities per call. */
export interface FaultRates {
  /** 429 or 503: nothing was done. */
  readonly unavailable: number;
  /** Done, and the answer was lost. */
  readonly lostAnswer: number;
  /** The caller gives up, and the request arrives later, or never. */
  readonly late: number;
  /** The call takes seconds to minutes. */
  readonly slow: number;
  /** A listing of a log leaves out new segments, or one in the middle. */
  readonly listLag: number;
  /** The process dies at a call, before or after storage did it. */
  readonly crash: number;
  /** The topic takes nothing, or a part, or all and the answer is lost. */
  readonly topic: number;
}

export const NO_FAULTS: FaultRates = {
  unavailable: 0,
  lostAnswer: 0,
  late: 0,
  slow: 0,
  listLag: 0,
  crash: 0,
  topic: 0,
};

/** A late request arrives within so many milliseconds of its sending. */
const LATEST_MS = 40_000;
const SLOW_MS = { min: 1000, max: 100_000 } as const;

type Fate = 'well' | 'unavailable' | 'lost-answer' | 'late' | 'never' | 'crash-before' | 'crash-after' | 'partial';

/** A worker's process: once it is dead nothing of it goes on, but its requests under way may still arrive. */
export interface Process {
  readonly name: string;
  isAlive: boolean;
}

export interface NetworkOptions {
  readonly scheduler: Scheduler;
  readonly random: Random;
  /** Asked at every call, so that faults can end. */
  readonly rates: () => FaultRates;
  /** Told of each request that storage has done, with its result, before anybody else can act. */
  readonly landed: (call: PortCall, result: unknown) => Promise<void>;
  readonly trace: (line: string) => void;
}

export class Network {
  readonly #options: NetworkOptions;
  /** How often each fate was met. */
  readonly fates = new Map<string, number>();

  constructor(options: NetworkOptions) {
    this.#options = options;
  }

  /** The way of all calls of one process. */
  around(process: Process): Around {
    return (call, perform) =>
      new Promise((resolve, reject) => {
        new Request({ ...this.#options, process, call, perform, resolve, reject, note: (f) => this.#note(f) }).send();
      });
  }

  #note(fate: string): void {
    this.fates.set(fate, (this.fates.get(fate) ?? 0) + 1);
  }
}

interface RequestOptions extends NetworkOptions {
  readonly process: Process;
  readonly call: PortCall;
  readonly perform: (args: readonly unknown[]) => Promise<unknown>;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly note: (fate: string) => void;
}

/** One call on its way: it is sent, it arrives or not, and its caller has an answer or has given up. */
class Request {
  readonly #options: RequestOptions;
  readonly #signal: AbortSignal;
  #isAnswered = false;
  readonly #onAbort = (): void => this.#answer(() => this.#options.reject(this.#signal.reason));

  constructor(options: RequestOptions) {
    this.#options = options;
    this.#signal = signalOf(options.call.args);
  }

  send(): void {
    const { scheduler, random, process, call } = this.#options;
    if (!process.isAlive) return;
    if (this.#signal.aborted) return this.#onAbort();
    this.#signal.addEventListener('abort', this.#onAbort, { once: true });
    const fate = this.#fate();
    if (fate !== 'well') this.#options.note(fate);
    this.#options.trace(`${process.name} ${call.name} ${textOf(call)}${fate === 'well' ? '' : ` [${fate}]`}`);
    const delayMs = this.#delayMs();
    switch (fate) {
      case 'well':
        return scheduler.after(delayMs, () => this.#arrive((error, result) => this.#respond(error, result)));
      case 'unavailable':
        return scheduler.after(delayMs, () => this.#fail('unavailable'));
      case 'lost-answer':
        return scheduler.after(delayMs, () => this.#arrive(() => this.#fail('unavailable')));
      case 'partial':
        return scheduler.after(delayMs, () => this.#arrive(() => this.#fail('unavailable'), halfOf(call.args)));
      case 'late':
        scheduler.after(delayMs, () => this.#fail('timeout'));
        return scheduler.after(delayMs + random.int(1, LATEST_MS), () => this.#arrive(() => undefined));
      case 'never':
        return scheduler.after(delayMs, () => this.#fail('timeout'));
      case 'crash-before':
        process.isAlive = false;
        return;
      case 'crash-after':
        return scheduler.after(delayMs, () => this.#arrive(() => (process.isAlive = false)));
    }
  }

  #fate(): Fate {
    const { random, call } = this.#options;
    const { unavailable, lostAnswer, late, crash, topic } = this.#options.rates();
    if (random.chance(crash * this.#weight)) return random.pick(['crash-before', 'crash-after']);
    if (call.name === 'topic.send') {
      return random.chance(topic) ? random.pick(['unavailable', 'lost-answer', 'partial']) : 'well';
    }
    const roll = random.next() / this.#weight;
    if (roll < unavailable) return 'unavailable';
    if (roll < unavailable + lostAnswer) return 'lost-answer';
    if (roll < unavailable + lostAnswer + late) return random.pick(['late', 'late', 'never']);
    return 'well';
  }

  /** Most calls only read, and most of what can go wrong goes wrong at the others. */
  get #weight(): number {
    const { name } = this.#options.call;
    if (name === 'catalog.create') return 6;
    return MUTATING.has(name) ? 3 : 0.3;
  }

  #delayMs(): number {
    const { random } = this.#options;
    return random.chance(this.#options.rates().slow * this.#weight)
      ? random.int(SLOW_MS.min, SLOW_MS.max)
      : random.int(1, 20);
  }

  /** Storage does it, unless the request was lost with its sender. */
  #arrive(then: (error: unknown, result: unknown) => unknown, args = this.#options.call.args): void {
    const { process, random, call, perform, landed, trace } = this.#options;
    if ((this.#isAnswered || !process.isAlive) && random.chance(0.3)) return;
    if (this.#isAnswered || !process.isAlive) trace(`${process.name} ${call.name} ${textOf(call)} arrives late`);
    // Storage knows nothing of the caller's signal.
    void perform(args.map((arg) => withSignal(arg, NEVER)))
      .then(async (result) => {
        if (MUTATING.has(call.name)) await landed({ ...call, args }, result);
        return result;
      })
      .then(
        (result) => then(undefined, result),
        (error: unknown) => then(error, undefined),
      );
  }

  #respond(error: unknown, result: unknown): void {
    const { random, scheduler, resolve, reject } = this.#options;
    const answer = (): void => this.#answer(() => (error === undefined ? resolve(this.#seen(result)) : reject(error)));
    if (random.chance(0.9)) answer();
    else scheduler.after(random.int(1, 20), answer);
  }

  #seen(result: unknown): unknown {
    const { call, random } = this.#options;
    if (call.name !== 'log.list' || !random.chance(this.#options.rates().listLag)) return result;
    this.#options.note('list-lag');
    const refs = [...(result as readonly SegmentRef[])];
    if (random.chance(0.5)) refs.splice(random.int(0, refs.length));
    else refs.splice(random.int(0, refs.length), 1);
    return refs;
  }

  #fail(how: 'unavailable' | 'timeout'): void {
    const { name } = this.#options.call;
    const code = how === 'timeout' ? 'STORAGE_TIMEOUT' : 'STORAGE_UNAVAILABLE';
    const topical = name === 'topic.send' ? 'MESSAGING_UNAVAILABLE' : code;
    this.#answer(() => this.#options.reject(new TidemarkError(topical, `${name} failed by chance`)));
  }

  #answer(tell: () => void): void {
    if (this.#isAnswered) return;
    this.#isAnswered = true;
    this.#signal.removeEventListener('abort', this.#onAbort);
    if (this.#options.process.isAlive) tell();
  }
}

const NEVER = new AbortController().signal;

const isOptions = (arg: unknown): arg is { readonly signal: AbortSignal } =>
  typeof arg === 'object' && arg !== null && 'signal' in arg && arg.signal instanceof AbortSignal;

/** A call's signal: an argument of its own, or one of its options. */
function signalOf(args: readonly unknown[]): AbortSignal {
  const given = args.findLast((arg) => arg instanceof AbortSignal || isOptions(arg));
  if (given instanceof AbortSignal) return given;
  if (isOptions(given)) return given.signal;
  throw new Error('every call has a signal');
}

function withSignal(arg: unknown, signal: AbortSignal): unknown {
  if (arg instanceof AbortSignal) return signal;
  return isOptions(arg) ? { ...arg, signal } : arg;
}

const halfOf = ([messages, signal]: readonly unknown[]): unknown[] => {
  const all = messages as readonly OutgoingMessage[];
  return [all.slice(0, Math.floor(all.length / 2)), signal];
};

/** The arguments that tell one call from another. */
function textOf({ args }: PortCall): string {
  const plain = args.filter((arg) => typeof arg === 'string' || typeof arg === 'number');
  return plain.join(' ');
}
