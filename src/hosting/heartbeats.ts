/** When each loop of this process went round last: what liveness is judged by. */

/**
 * A loop that is older than this hangs. It is more than a round takes whose storage or queue does not answer: a scheduler gives up a round
 * after 45 s and pauses for 30 s at the most, the accept loop asks for 25 s and pauses as long.
 */
export const BEAT_LIMIT_MS = 90_000;

export interface LoopState {
  readonly loop: string;
  readonly ageMs: number;
  readonly isLate: boolean;
}

export class Heartbeats {
  readonly #nowMs: () => number;
  readonly #lastMs = new Map<string, number>();

  /** `nowMs` may only grow. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** From now on the loop is expected to beat. */
  beat(loop: string): void {
    this.#lastMs.set(loop, this.#nowMs());
  }

  states(): readonly LoopState[] {
    const nowMs = this.#nowMs();
    return [...this.#lastMs].map(([loop, lastMs]) => {
      const ageMs = nowMs - lastMs;
      return { loop, ageMs, isLate: ageMs > BEAT_LIMIT_MS };
    });
  }
}
