/** One group in this worker's hands: opened, worked on cycle by cycle, closed. */
import type { FairSlots } from '../apply/fair-slots.ts';
import { isFailedOver, type GroupDocument } from '../catalog/groups.ts';
import { TidemarkError } from '../errors.ts';
import type { Verification } from '../points/verify-point.ts';
import type { Policy } from '../retention/policy.ts';
import type { DrainCounters } from './disk-drain.ts';
import { GroupDrain, type GroupDrainOptions } from './group-drain.ts';
import { openGroup, type OwnedGroup } from './group-owner.ts';
import { keepLeases, type KeptLeases, RELEASE_LIMIT_MS } from './lease-keeper.ts';
import { hasUninspected, inspectNext } from './inspection.ts';
import type { OnDemandOptions } from './on-demand.ts';
import type { Clock, WorkerPorts, WorkerSettings } from './ports.ts';
import { prune, reportDamage, reportHealth, trimLog, type UpkeepOptions } from './upkeep.ts';

/** After so many points of a backlog (an hour's), old ones are pruned, the log is trimmed and messages are sent. */
const POINTS_BETWEEN_UPKEEP = 12;

export interface SessionOptions {
  readonly document: GroupDocument;
  readonly policy: Policy;
  readonly ports: WorkerPorts;
  readonly settings: WorkerSettings;
  readonly account: FairSlots;
  readonly payloadBudgetBytes: number;
  readonly counters: DrainCounters;
  readonly onEvents: GroupDrainOptions['onEvents'];
  readonly signal: AbortSignal;
}

export interface CycleResult {
  /** Whether another cycle has something to do at once. */
  readonly hasMore: boolean;
  /** The error of what may wait: messages that could not be sent, or a point that could not be inspected. The work itself is done. */
  readonly deferred: unknown;
}

export class GroupSession {
  readonly #owned: OwnedGroup;
  readonly #leases: KeptLeases;
  readonly #drain: GroupDrain;
  readonly #upkeep: UpkeepOptions;
  readonly #isFailedOver: boolean;

  private constructor(options: SessionOptions, owned: OwnedGroup) {
    const { ports, policy } = options;
    this.#owned = owned;
    this.#isFailedOver = isFailedOver(options.document);
    const leases = [owned.lease, ...owned.disks.map(({ drain }) => drain.seed)];
    this.#leases = keepLeases({ group: owned.group, leases }, ports.clock, options.signal);
    this.#drain = new GroupDrain({ ...options, owned, signal: this.#leases.signal });
    const paceBytesPerSecond = pace(options.counters, ports.clock);
    this.#upkeep = { owned, drain: this.#drain, ports, policy, paceBytesPerSecond, signal: this.#leases.signal };
  }

  static async open(options: SessionOptions): Promise<GroupSession> {
    return new GroupSession(options, await openGroup(options));
  }

  get needsResync(): boolean {
    return this.#drain.needsResync;
  }

  /** What is due now, or what of it is done before `goOn` says no. After an error the session must be closed. */
  async cycle(goOn: () => boolean): Promise<CycleResult> {
    let hasMore: boolean;
    try {
      hasMore = await this.#drainWhile(goOn);
    } catch (error) {
      // A missing key stops the drain, not the clock: the growing RPO must be told all the same.
      if (error instanceof TidemarkError && error.class === 'operator') await this.#report();
      throw error;
    }
    await this.#tidy();
    // On the side: what it fails with must neither hold up the drain nor the report.
    const uninspected = await inspectNext(this.#upkeep);
    const deferred = (await this.#report()) ?? uninspected;
    return { hasMore: hasMore || (uninspected === undefined && hasUninspected(this.#owned)), deferred };
  }

  async #drainWhile(goOn: () => boolean): Promise<boolean> {
    let points = 0;
    const afterPoint = async (): Promise<void> => {
      if (++points % POINTS_BETWEEN_UPKEEP !== 0) return;
      await this.#tidy();
      await this.#report();
    };
    return this.#drain.drain(afterPoint, goOn);
  }

  /** A step of a point on demand. Messages that cannot be sent now wait in the outbox. */
  async onDemand<T>(step: (options: OnDemandOptions) => Promise<T>): Promise<T> {
    const result = await step({ ...this.#upkeep, drainAll: async () => void (await this.#drainWhile(() => true)) });
    await this.#flush();
    return result;
  }

  /** Prunes and nothing else. */
  async prune(): Promise<Awaited<ReturnType<typeof prune>>> {
    const plan = await prune(this.#upkeep);
    await this.#drain.flushOutbox();
    return plan;
  }

  /** Reports damaged points and nothing else. */
  async reportDamage(results: readonly Verification[]): Promise<void> {
    await reportDamage(this.#upkeep, results);
    await this.#drain.flushOutbox();
  }

  async #tidy(): Promise<void> {
    // In a failover the group is opened for a point that was asked for: everything else stays as it is.
    if (this.#isFailedOver) return;
    await prune(this.#upkeep);
    await trimLog(this.#upkeep);
  }

  /** @returns why messages could not be sent, if so; they wait in the outbox */
  async #report(): Promise<unknown> {
    if (!this.#isFailedOver) await reportHealth(this.#upkeep);
    return this.#flush();
  }

  /** @returns as report */
  async #flush(): Promise<unknown> {
    try {
      await this.#drain.flushOutbox();
      return undefined;
    } catch (error) {
      if (error instanceof TidemarkError && error.code === 'MESSAGING_UNAVAILABLE') return error;
      throw error;
    }
  }

  /** Gives the leases back; what cannot be given back expires. */
  async close(): Promise<void> {
    await this.#leases.stop();
    await this.#owned.close(AbortSignal.timeout(RELEASE_LIMIT_MS)).catch(() => undefined);
  }
}

/** Bytes of log per second since the last call; undefined when none were drained. */
function pace(counters: DrainCounters, clock: Clock): () => number | undefined {
  let { logBytes } = counters;
  let atMs = clock.nowMs();
  return () => {
    const bytes = counters.logBytes - logBytes;
    const seconds = Math.max(1, clock.nowMs() - atMs) / 1000;
    logBytes = counters.logBytes;
    atMs = clock.nowMs();
    return bytes === 0 ? undefined : Math.round(bytes / seconds);
  };
}
