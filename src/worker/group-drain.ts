/**
 * The life of an owned group: apply, cut, make the point, prune, report. Its methods run one at a time.
 *
 * The order of durable steps (design, "Order of durable steps") is the order of the awaits below; every step writes the progress
 * document, with the events that report it, before the next one begins.
 */
import { replaceDocument } from '../catalog/documents.ts';
import type { GroupDocument } from '../catalog/groups.ts';
import { cutRules, decideCut, isSameMark, type CutDecision } from '../cuts/plan.ts';
import type { WalkLimits } from '../cuts/cursor.ts';
import { assert } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { catalogName } from '../model/names.ts';
import { boundaryAtOrAfter, FIVE_MINUTES_US } from '../model/time.ts';
import { nextBatch } from '../monitoring/cloud-event.ts';
import { acknowledge, enqueue } from '../monitoring/outbox.ts';
import type { MonitoringEvent } from '../monitoring/events.ts';
import { pointId, type Cut, type Manifest } from '../points/manifest.ts';
import type { Policy } from '../retention/policy.ts';
import { makeCutPoint } from './cut-point.ts';
import { appIntervalMissed, initialReplication, pointCreated, pointMissed, resyncRequired } from './facts.ts';
import type { OwnedDisk, OwnedGroup } from './group-owner.ts';
import type { WorkerPorts, WorkerSettings } from './ports.ts';
import { progressSchema, storedPosition, type ProgressDocument } from './progress.ts';

/** Messages of one batch that leaves the outbox; storage is written once per batch. */
const MESSAGES_PER_BATCH = 100;

export interface GroupDrainOptions {
  readonly owned: OwnedGroup;
  readonly document: GroupDocument;
  readonly policy: Policy;
  readonly ports: WorkerPorts;
  readonly settings: WorkerSettings;
  /** Part of the payload budget that this group may use now. */
  readonly payloadBudgetBytes: number;
  /** Told of events once they are queued durably. */
  readonly onEvents: ((group: string, events: readonly MonitoringEvent[]) => void) | undefined;
  readonly signal: AbortSignal;
}

/** What the progress document says of the group as a whole; the disks' part follows from their drains. */
type GroupFacts = Omit<ProgressDocument, 'version' | 'group' | 'disks' | 'outbox'>;

export class GroupDrain {
  readonly #options: GroupDrainOptions;
  readonly #owned: OwnedGroup;
  /** Saves queue up behind each other: disks that are applied at the same time share one document. */
  #saving: Promise<void> = Promise.resolve();
  /** A cut that was decided and whose point is not noted yet: nothing behind it may be applied. */
  #dueCut: CutDecision | undefined;
  /** Messages up to this sequence are stored with the facts that they report. */
  #storedThrough: number;

  constructor(options: GroupDrainOptions) {
    this.#options = options;
    this.#owned = options.owned;
    this.#storedThrough = options.owned.progress.outbox.nextSequence - 1;
  }

  /** Whether replication of the group has stopped until a resync. */
  get needsResync(): boolean {
    return this.#owned.disks.some((disk) => disk.state === 'resync-required');
  }

  /**
   * Everything that is due now: applies what was received, and makes the point of every cut on the way.
   * @param afterPoint called after each point, for what has to keep pace with a long backlog
   * @param goOn asked between two cuts; when it says no, the rest is left for the next call
   * @returns whether something may be left
   */
  async drain(afterPoint: () => Promise<void>, goOn: () => boolean): Promise<boolean> {
    await this.finishDue();
    if (!this.#wantsAppMarks && this.#owned.progress.appMarks) await this.save({ appMarks: false });
    while (!this.needsResync) {
      if (!goOn()) return true;
      await this.#advance();
      await this.#beginBoundaries();
      const decision = await this.#decide();
      if (decision.do === 'wait' && (await this.#beginAppMarks())) continue;
      if (decision.do === 'wait') {
        await this.#reportDefects();
        return false;
      }
      if (decision.do === 'skip-mark') await this.#skipMark(decision);
      else {
        await this.#makePoint(decision);
        await afterPoint();
      }
    }
    return false;
  }

  /**
   * Makes the point of kind `latest` at a time that every disk's seed stands at: nothing of that time or later is on one.
   * From the first write on it is due: whoever owns the group next makes it before anything else.
   */
  async makeLatest(cutUs: number): Promise<Manifest> {
    assert(!this.needsResync, 'a group that needs a resync makes no points');
    await this.save({ latestUs: cutUs });
    const manifest = await this.finishDue();
    assert(manifest !== undefined, 'a due point was made');
    return manifest;
  }

  /**
   * What an owner has written down and may not have lived to do: the point that is due, and the report of one that was built.
   * @returns the point that was due
   */
  async finishDue(): Promise<Manifest | undefined> {
    const { disks, progress, manifests } = this.#owned;
    const built = manifests.find(({ point }) => point === progress.building?.point);
    if (built !== undefined) await this.save({ building: null }, [pointCreated(built)]);
    const { latestUs } = progress;
    if (latestUs === null) return undefined;
    if (disks.some(({ drain }) => drain.isDefectApplied)) {
      await this.save({ latestUs: null }); // nobody knows what changed since the newest point
      return undefined;
    }
    const manifest = await makeCutPoint(this.#options, { kind: 'latest', cutUs: latestUs, mark: null });
    const newestPoint = { id: manifest.point, cutUs: latestUs };
    await this.save({ latestUs: null, newestPoint }, [pointCreated(manifest)]);
    return manifest;
  }

  /** Writes the progress document with `facts` changed and `events` queued: one guarded write. */
  async save(facts: Partial<GroupFacts> = {}, events: readonly MonitoringEvent[] = []): Promise<void> {
    const write = this.#write(this.#saving, facts, events);
    this.#saving = write.catch(() => undefined); // the caller has the failure; the group is closed and opened anew
    await write;
  }

  async #write(after: Promise<void>, facts: Partial<GroupFacts>, events: readonly MonitoringEvent[]): Promise<void> {
    await after;
    const { ports, signal } = this.#options;
    const { group, disks, progress, etag, lease } = this.#owned;
    const value: ProgressDocument = {
      ...progress,
      ...facts,
      disks: disks.map(diskProgress),
      outbox: enqueue(progress.outbox, events, ports.clock.nowUs()),
    };
    const replacement = { name: catalogName.progress(group), schema: progressSchema, value, etag, lease };
    this.#owned.etag = await replaceDocument(ports.catalog, replacement, signal);
    this.#owned.progress = value;
    this.#storedThrough = value.outbox.nextSequence - 1;
    if (events.length > 0) this.#options.onEvents?.(group, events);
  }

  /** Sends what waits in the outbox. @throws TidemarkError MESSAGING_UNAVAILABLE; what was not sent stays queued. */
  async flushOutbox(): Promise<void> {
    const { topic } = this.#options.ports;
    for (;;) {
      const batch = nextBatch(this.#owned.progress.outbox, this.#owned.group, MESSAGES_PER_BATCH);
      if (batch === undefined) return;
      assert(batch.throughSequence <= this.#storedThrough, 'event after fact: a message is stored before it is sent');
      await topic.send(batch.messages, this.#options.signal);
      this.#owned.progress = {
        ...this.#owned.progress,
        outbox: acknowledge(this.#owned.progress.outbox, batch.throughSequence),
      };
      await this.save();
    }
  }

  get #wantsAppMarks(): boolean {
    return this.#options.policy.appConsistentHours > 0;
  }

  /**
   * Once all that is received is applied, and nothing can be on a seed that is not noted, app marks count.
   * @returns whether they do from now on, and did not until now
   */
  async #beginAppMarks(): Promise<boolean> {
    if (!this.#wantsAppMarks || this.#owned.progress.appMarks) return false;
    for (const { drain } of this.#owned.disks) {
      if (drain.atDefect || !(await drain.isSureOfSeed(this.#options.signal))) return false;
    }
    await this.save({ appMarks: true });
    return true;
  }

  #limits(): WalkLimits {
    const appMarks = this.#wantsAppMarks && this.#owned.progress.appMarks;
    return {
      rules: cutRules(this.#options.document.machines.length, appMarks),
      boundaryUs: this.#owned.progress.boundaryUs,
    };
  }

  /** Brings every disk to its next stop; as many at once as the payload budget allows. */
  async #advance(): Promise<void> {
    const { payloadBudgetBytes, settings, signal } = this.#options;
    const disks = this.#owned.disks;
    assert(this.#dueCut === undefined, 'cut before pass: the point of a due cut comes before what is behind it');
    const atOnce = Math.max(1, Math.min(disks.length, settings.requestsPerAccount));
    const limits = this.#limits();
    await mapAll(disks, atOnce, signal, async (disk, either) => {
      const wasComplete = disk.drain.place.baseCompleteUs !== null;
      await disk.drain.advance({
        limits,
        windowBytes: payloadBudgetBytes / atOnce / 2,
        holdsNothing: atOnce < disks.length,
        onApplied: (payloadBytes) => this.#onApplied(disk, payloadBytes, wasComplete),
        signal: either,
      });
    });
  }

  async #decide(): Promise<CutDecision> {
    const decide = (): CutDecision =>
      decideCut(
        this.#owned.disks.map(({ drain }) => ({ label: drain.label, stop: drain.stop })),
        this.#owned.progress.boundaryUs ?? Number.NaN,
      );
    const decision = decide();
    if (decision.do !== 'wait' || this.#owned.disks.some(({ drain }) => drain.stop.at === 'end')) return decision;
    for (const { drain } of this.#owned.disks) await drain.lookAhead(this.#limits(), this.#options.signal);
    return decide();
  }

  async #onApplied(disk: OwnedDisk, payloadBytes: number, wasComplete: boolean): Promise<void> {
    if (disk.state !== 'initial-replication') return this.save();
    disk.baseAppliedBytes += payloadBytes;
    if (!wasComplete && disk.drain.place.baseCompleteUs !== null) disk.state = 'protected';
    return this.save({}, initialReplication(disk, this.#owned.disks));
  }

  /** The first boundary of a group lies behind the initial copies of all its disks. */
  async #beginBoundaries(): Promise<void> {
    if (this.#owned.progress.boundaryUs !== null || !this.#limits().rules.boundaries) return;
    const completes = this.#owned.disks.map(({ drain }) => drain.place.baseCompleteUs);
    if (completes.some((timeUs) => timeUs === null)) return;
    // Points of an earlier epoch may be kept; the new ones come after them.
    const afterUs = (this.#owned.progress.newestPoint?.cutUs ?? -1) + 1;
    const boundaryUs = boundaryAtOrAfter(Math.max(afterUs, ...completes.map((timeUs) => timeUs ?? 0)));
    await this.save({ boundaryUs });
    await this.#advance();
  }

  async #makePoint(decision: Extract<CutDecision, { do: 'cut' }>): Promise<void> {
    const { policy } = this.#options;
    const { progress, disks } = this.#owned;
    const cut: Cut = { kind: decision.kind, cutUs: decision.cutUs, mark: decision.mark };
    this.#dueCut = decision;
    if (progress.newestPoint !== null && isPassed(cut, progress.newestPoint)) {
      return this.#passMarks(decision.mark, [
        pointMissed({ ...cut, reason: 'same-instant', missingOn: [], intervalHours: policy.appConsistentHours }),
      ]);
    }
    const manifest = await makeCutPoint(this.#options, cut);
    if (decision.mark !== null) for (const { drain } of disks) drain.passMark();
    const { facts, missed } = appIntervalMissed(progress, cut, policy.appConsistentHours);
    await this.save(
      {
        ...facts,
        newestPoint: { id: manifest.point, cutUs: cut.cutUs },
        boundaryUs: decision.mark === null ? cut.cutUs + FIVE_MINUTES_US : progress.boundaryUs,
      },
      [pointCreated(manifest), ...missed],
    );
    this.#dueCut = undefined;
  }

  /** The mark is not on all disks. Before the group's first cut nobody expects a point of it. */
  async #skipMark(decision: Extract<CutDecision, { do: 'skip-mark' }>): Promise<void> {
    const intervalHours = this.#options.policy.appConsistentHours;
    const protectedFromUs = Math.max(...this.#owned.disks.map(({ drain }) => drain.place.baseCompleteUs ?? 0));
    const events =
      decision.timeUs < protectedFromUs
        ? []
        : [
            pointMissed({
              kind: decision.kind,
              mark: decision.id,
              cutUs: decision.timeUs,
              reason: 'mark-missing',
              missingOn: decision.missingOn,
              intervalHours,
            }),
          ];
    for (const { drain } of this.#owned.disks) {
      if (drain.stop.at === 'mark' && isSameMark(drain.stop, decision)) drain.passMark();
    }
    await this.save({}, events);
  }

  async #passMarks(mark: string | null, events: readonly MonitoringEvent[]): Promise<void> {
    assert(mark !== null, 'two boundaries are never the same instant');
    for (const { drain } of this.#owned.disks) drain.passMark();
    await this.save({}, events);
    this.#dueCut = undefined;
  }

  /** A log that cannot be trusted stops the group where it was still sound; the points made so far stay. */
  async #reportDefects(): Promise<void> {
    const events: MonitoringEvent[] = [];
    for (const disk of this.#owned.disks) {
      const { defect, atDefect } = disk.drain;
      if (!atDefect || defect === undefined) continue;
      disk.state = 'resync-required';
      const offset = defect.details['offset'];
      disk.defect = {
        code: defect.code,
        blob: String(defect.details['blob']),
        offset: typeof offset === 'number' ? offset : null,
        reason: defect.message,
      };
      events.push(resyncRequired(disk.drain.stream, disk.defect));
    }
    if (events.length > 0) await this.save({}, events);
  }
}

/**
 * Cuts of a group ascend; a second mark of one instant, or one whose time lies before kept points, makes no point. At one instant an
 * app-consistent point may follow another one, and none follows it: retention takes it for the later one.
 */
const isPassed = (cut: Cut, newest: { readonly id: string; readonly cutUs: number }): boolean =>
  cut.cutUs < newest.cutUs || pointId(cut) === newest.id || pointId({ ...cut, kind: 'app' }) === newest.id;

function diskProgress({ drain, state, cut, baseAppliedBytes, trimmedThrough, defect }: OwnedDisk) {
  const { machine, disk, epoch } = drain.stream;
  return {
    machine,
    disk,
    epoch,
    state,
    applied: storedPosition(drain.place.position),
    cut,
    baseCompleteUs: drain.place.baseCompleteUs,
    watermarkUs: drain.place.watermarkUs,
    baseAppliedBytes,
    snapshot: drain.snapshot,
    trimmedThrough,
    defect,
  };
}
