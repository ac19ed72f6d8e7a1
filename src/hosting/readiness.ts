/** Whether what this process depends on answers. */
import { TidemarkError, type ErrorCode } from '../errors.ts';
import type { Runtime } from '../runtime.ts';

/** Answers are given again for so long: probes, however many, cost one look. */
const CACHE_MS = 5000;
/** Below the five seconds that a probe waits. */
const LOOK_LIMIT_MS = 3000;

export interface Dependency {
  readonly name: string;
  /** One cheap request. */
  readonly look: (signal: AbortSignal) => Promise<unknown>;
  /** When it does not answer in time. */
  readonly lateCode: ErrorCode;
}

export type DependencyState = { readonly state: 'ok' } | { readonly state: 'failed'; readonly code: string };

export class Readiness {
  readonly #dependencies: readonly Dependency[];
  readonly #nowMs: () => number;
  #last: { readonly atMs: number; readonly states: Promise<Readonly<Record<string, DependencyState>>> } | undefined;

  constructor(dependencies: readonly Dependency[], nowMs: () => number) {
    this.#dependencies = dependencies;
    this.#nowMs = nowMs;
  }

  /** By name; codes only, since messages may quote what is nobody's business. Never throws, and takes no longer than {@link LOOK_LIMIT_MS}. */
  states(): Promise<Readonly<Record<string, DependencyState>>> {
    const nowMs = this.#nowMs();
    if (this.#last === undefined || nowMs - this.#last.atMs >= CACHE_MS) {
      this.#last = { atMs: nowMs, states: this.#look() };
    }
    return this.#last.states;
  }

  async #look(): Promise<Readonly<Record<string, DependencyState>>> {
    const states = this.#dependencies.map(async (dependency) => [dependency.name, await lookAt(dependency)] as const);
    return Object.fromEntries(await Promise.all(states));
  }
}

async function lookAt({ name, look, lateCode }: Dependency): Promise<DependencyState> {
  const late = new AbortController();
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const reason = new TidemarkError(lateCode, `${name} did not answer within ${LOOK_LIMIT_MS} ms`);
    late.abort(reason);
    reject(reason);
  }, LOOK_LIMIT_MS);
  try {
    await Promise.race([look(late.signal), promise]);
    return { state: 'ok' };
  } catch (error) {
    return { state: 'failed', code: error instanceof TidemarkError ? error.code : 'UNEXPECTED' };
  } finally {
    clearTimeout(timer);
  }
}

/** Storage and Service Bus, the latter by a connection of its own. */
export function openDependencies({ ports, openCommandQueue }: Pick<Runtime, 'ports' | 'openCommandQueue'>): {
  readonly dependencies: readonly Dependency[];
  close(): Promise<void>;
} {
  const queue = openCommandQueue();
  return {
    dependencies: [
      // No such document: an answer that there is none is as good as any.
      { name: 'storage', look: (signal) => ports.catalog.read('health', signal), lateCode: 'STORAGE_TIMEOUT' },
      { name: 'serviceBus', look: (signal) => queue.isEmpty(signal), lateCode: 'MESSAGING_UNAVAILABLE' },
    ],
    close: () => queue.close(),
  };
}
