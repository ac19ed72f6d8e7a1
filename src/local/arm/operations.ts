/** Long-running operations: begun by a request, asked for by their status, continued after a restart of the emulator. */
import { randomUUID } from 'node:crypto';
import { asArmError } from './arm-error.ts';
import type { FaultAction } from './faults.ts';
import type { ArmState, Operation } from './state.ts';

/** A status request waits so long for the end of the operation, so that quick ones are over at the first look. */
const LOOK_MS = 250;

export type Change = Parameters<ArmState['change']>[0];

export interface OperationsOptions {
  readonly state: ArmState;
  /** Does the work of an operation, anew from its beginning when an earlier process was interrupted, and says what has changed by it. */
  readonly perform: (operation: Operation, signal: AbortSignal) => Promise<Change>;
  /** What changes when an operation fails. */
  readonly undo: (operation: Operation) => Change;
}

export class Operations {
  readonly #options: OperationsOptions;
  readonly #closing = new AbortController();
  /** Operations that do their work now. */
  readonly #working = new Map<string, Promise<void>>();

  constructor(options: OperationsOptions) {
    this.#options = options;
    for (const operation of options.state.unfinished) this.#work(operation);
  }

  /** Notes the operation together with `change`, then begins its work. */
  begin(
    wanted: Pick<Operation, 'kind' | 'target'> & Partial<Pick<Operation, 'access'>>,
    fault: FaultAction | undefined,
    change: Change = {},
  ): Operation {
    const operation: Operation = {
      access: null,
      ...wanted,
      id: randomUUID(),
      status: 'InProgress',
      startedAt: new Date().toISOString(),
      error: null,
      pollsLeft: fault?.kind === 'slow' ? fault.polls : 0,
      failure: fault?.kind === 'fail' ? { code: fault.code, message: fault.message } : null,
    };
    this.#options.state.change({ ...change, operations: [operation] });
    this.#work(operation);
    return operation;
  }

  /** Its present state, after a moment; undefined when there is no such operation. */
  async look(id: string): Promise<Operation | undefined> {
    const { state } = this.#options;
    const operation = state.operation(id);
    if (operation?.status !== 'InProgress') return operation;
    if (operation.pollsLeft > 0) {
      const later = { ...operation, pollsLeft: operation.pollsLeft - 1 };
      state.change({ operations: [later] });
      this.#work(later);
      return operation;
    }
    const { promise: moment, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, LOOK_MS);
    await Promise.race([this.#working.get(id), moment]);
    clearTimeout(timer);
    return state.operation(id);
  }

  #work(operation: Operation): void {
    if (operation.pollsLeft > 0) return;
    const { state, perform, undo } = this.#options;
    const signal = this.#closing.signal;
    const work = async (): Promise<void> => {
      try {
        if (operation.failure !== null) throw Object.assign(new Error(operation.failure.message), operation.failure);
        const change = await perform(operation, signal);
        if (!signal.aborted) state.change({ ...change, operations: [{ ...operation, status: 'Succeeded' }] });
      } catch (cause) {
        // Stopped in the middle: the next process does it again.
        if (signal.aborted) return;
        const error = operation.failure ?? asArmError(cause);
        const { code, message } = error;
        const failed: Operation = { ...operation, status: 'Failed', error: { code, message } };
        state.change({ ...undo(operation), operations: [failed] });
      }
    };
    this.#working.set(
      operation.id,
      work().finally(() => this.#working.delete(operation.id)),
    );
  }

  /** Leaves unfinished operations as they are. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#working.values());
  }
}
