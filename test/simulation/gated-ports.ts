/** Puts a gate in front of and behind every call of every port: where simulations look, crash and break things. */
import type { WorkerPorts } from '../../src/worker/ports.ts';

export interface PortCall {
  /** Such as `seed.putPages`, `catalog.create`, `log.delete`, `topic.send`. */
  readonly name: string;
  readonly args: readonly unknown[];
  /** For a call of a seed or a lease: the call that opened it. */
  readonly opener?: PortCall;
}

export interface Gate {
  /** Throwing here: the call never reached storage. */
  before(call: PortCall): void | Promise<void>;
  /** Throwing here: storage did it, and the answer was lost. */
  after(call: PortCall): void | Promise<void>;
}

type Ports = Pick<WorkerPorts, 'logStore' | 'seeds' | 'copies' | 'catalog' | 'topic'>;

/** Stands between a caller and a port: calls `perform` when, as often and with what arguments it likes. */
export type Around = (call: PortCall, perform: (args: readonly unknown[]) => Promise<unknown>) => Promise<unknown>;

export function gatePorts<P extends Ports>(ports: P, gate: Gate): P {
  return interceptPorts(ports, async (call, perform) => {
    await gate.before(call);
    const result = await perform(call.args);
    await gate.after(call);
    return result;
  });
}

export function interceptPorts<P extends Ports>(ports: P, around: Around): P {
  return {
    ...ports,
    logStore: intercepted(ports.logStore, 'log', around),
    seeds: intercepted(ports.seeds, 'seeds', around),
    copies: intercepted(ports.copies, 'copies', around),
    catalog: intercepted(ports.catalog, 'catalog', around),
    topic: intercepted(ports.topic, 'topic', around),
  };
}

/** Results that are ports themselves. */
const INNER: Readonly<Record<string, string>> = {
  'seeds.open': 'seed',
  'seeds.reader': 'seed',
  'copies.open': 'seed',
  'copies.reader': 'seed',
  'catalog.takeLease': 'lease',
};

function intercepted<T extends object>(port: T, role: string, around: Around, opener?: PortCall): T {
  return new Proxy(port, {
    get(target, key) {
      const member: unknown = Reflect.get(target, key, target);
      if (typeof member !== 'function') return member;
      const name = `${role}.${String(key)}`;
      const inner = INNER[name];
      return (...args: unknown[]): unknown => {
        const call: PortCall = { name, args, ...(opener !== undefined && { opener }) };
        const wrap = (result: unknown): unknown =>
          inner !== undefined && typeof result === 'object' && result !== null
            ? intercepted(result, inner, around, call)
            : result;
        if (name === 'seeds.reader' || name === 'copies.reader') return wrap(member.apply(target, args));
        return around(call, async (given) => member.apply(target, [...given])).then(wrap);
      };
    },
  });
}

/** Calls that change something: between them are the named crash points. */
export const MUTATING: ReadonlySet<string> = new Set([
  'log.delete',
  'seeds.open',
  'copies.copy',
  'copies.open',
  'copies.remove',
  'seed.putPages',
  'seed.clearPages',
  'seed.snapshot',
  'seed.deleteSnapshot',
  'seed.close',
  'catalog.create',
  'catalog.replace',
  'catalog.delete',
  'catalog.takeLease',
  'lease.release',
  'topic.send',
]);

export class Crash extends Error {
  override readonly name = 'Crash';
}

/** A process that dies at its `atCall`-th mutating call, before or after storage did it; from then on it does nothing at all. */
export class CrashingGate implements Gate {
  readonly #atCall: number;
  readonly #side: 'before' | 'after';
  /** The call whose answer it does not live to see; others may begin in between. */
  #fatal: PortCall | undefined;
  /** Mutating calls so far. */
  calls = 0;
  dead = false;

  constructor(atCall: number, side: 'before' | 'after') {
    this.#atCall = atCall;
    this.#side = side;
  }

  before(call: PortCall): void {
    if (this.dead) throw new Crash(`dead before ${call.name}`);
    if (!MUTATING.has(call.name)) return;
    if (++this.calls !== this.#atCall) return;
    if (this.#side === 'before') this.#die(call);
    this.#fatal = call;
  }

  after(call: PortCall): void {
    if (this.dead) throw new Crash(`dead after ${call.name}`);
    if (call === this.#fatal) this.#die(call);
  }

  #die(call: PortCall): void {
    this.dead = true;
    throw new Crash(`${this.#side} ${call.name}`);
  }
}
