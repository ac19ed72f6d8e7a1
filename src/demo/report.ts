/** Pure. What a demo shows when it is done: lines for people, and the same as one JSON document. */
import { table } from '../cli/output.ts';
import { formatBytes, MIB } from '../model/sizes.ts';
import { isoFromUs } from '../model/time.ts';
import type { PruneItem, PrunePlan } from '../retention/plan.ts';
import { type DemoResult, PLAN_AHEAD_HOURS } from './scenario.ts';
import type { VerifiedPoint } from './verify.ts';

/** Hex digits of a SHA-256 that a table shows. */
const SHOWN_DIGITS = 12;

export function demoJson(result: DemoResult): Record<string, unknown> {
  const { group, policy, startUs, finalUs, stretch, points, prune, messages, shipped, worker, verifyMs } = result;
  return {
    group,
    policy,
    start: isoFromUs(startUs),
    end: isoFromUs(finalUs),
    stretch,
    points: points.map(({ point, ...rest }) => ({ id: point, ...rest })),
    prune: { now: prune.now, later: { afterHours: PLAN_AHEAD_HOURS, ...prune.later } },
    messages,
    figures: {
      ...shipped,
      ...worker.counters,
      ...requestFigures(result),
      drainMs: Math.round(worker.drainMs),
      logMibPerSecond: round(mibPerSecond(worker.counters.logBytes, worker.drainMs)),
      payloadMibPerSecond: round(mibPerSecond(worker.counters.payloadBytes, worker.drainMs)),
      liveShare: round(worker.counters.liveBytes / worker.counters.payloadBytes),
      peakMemoryBytes: worker.peakMemoryBytes,
      verifyMs: Math.round(verifyMs),
    },
  };
}

export function demoLines(result: DemoResult): string[] {
  return [...pointLines(result), '', ...pruneLines(result), '', ...messageLines(result), '', ...figureLines(result)];
}

function pointLines({ points }: DemoResult): string[] {
  const wrong = points.filter(({ verified }) => !verified).length;
  const changed = alignRight(['changed', ...points.map(({ changedBytes }) => formatBytes(changedBytes))]);
  const rows = points.map((point, index) => [
    point.kind,
    point.cut,
    changed[index + 1] ?? '',
    point.sha256.slice(0, SHOWN_DIGITS),
    verdict(point),
  ]);
  return [
    `Recovery points: ${points.length}, ${wrong === 0 ? 'all verified byte by byte' : `${wrong} WRONG`}`,
    ...indented(table(['kind', 'cut', changed[0] ?? '', 'sha-256', 'verified by'], rows)),
  ];
}

function verdict({ verified, firstDifferenceBytes, recordedSha256 }: VerifiedPoint): string {
  if (firstDifferenceBytes !== null) return `NOT VERIFIED: differs from the replay at byte ${firstDifferenceBytes}`;
  if (!verified) return 'NOT VERIFIED: not the hash of the recording';
  return recordedSha256 === null ? 'replay' : 'replay, hash of the recording';
}

function pruneLines({ policy, prune }: DemoResult): string[] {
  const { retentionHours, appConsistentHours } = policy;
  return [
    `Pruning: retention ${retentionHours} h, app-consistent points every ${appConsistentHours} h`,
    ...planLines([
      ['now', prune.now],
      [`${PLAN_AHEAD_HOURS} h on`, prune.later],
    ]),
  ];
}

/** One line per reason. */
function planLines(plans: readonly (readonly [when: string, plan: PrunePlan])[]): string[] {
  const lines = plans.flatMap(([when, { keep, remove }]) =>
    [...byReason('keep', keep), ...byReason('remove', remove)].map((line, index) => ({
      ...line,
      when: index === 0 ? when : '',
    })),
  );
  const counts = alignRight(lines.map(({ count }) => String(count)));
  return lines.map(
    ({ when, decision, reason }, index) => `  ${when.padEnd(8)}${decision.padEnd(8)}${counts[index] ?? ''}  ${reason}`,
  );
}

function byReason(
  decision: string,
  items: readonly PruneItem[],
): { readonly decision: string; readonly reason: string; readonly count: number }[] {
  const counts = new Map<string, number>();
  for (const { reason } of items) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return [...counts].map(([reason, count]) => ({ decision, reason, count }));
}

function messageLines({ messages }: DemoResult): string[] {
  const counts = alignRight(Object.values(messages).map(String));
  const total = Object.values(messages).reduce((sum, count) => sum + count, 0);
  return [
    `Monitoring messages: ${total}`,
    ...Object.keys(messages).map((type, index) => `  ${counts[index] ?? ''}  ${type}`),
  ];
}

function figureLines(result: DemoResult): string[] {
  const { counters, drainMs, peakMemoryBytes } = result.worker;
  const { naiveRequests, avoidedRequests } = requestFigures(result);
  const { startUs, finalUs, stretch, shipped } = result;
  const line = (label: string, text: string): string => `  ${label.padEnd(16)}${text}`;
  const rate = (bytes: number): string => `${mibPerSecond(bytes, drainMs).toFixed(1)} MiB/s`;
  return [
    'Figures',
    line('source', `${Math.round((finalUs - startUs) / 60e6)} min of source time (the trace's, times ${stretch})`),
    line('log shipped', `${count(shipped.segments)} segments, ${count(shipped.records)} records`),
    line('log drained', `${formatBytes(counters.logBytes)} in ${seconds(drainMs)}, ${rate(counters.logBytes)}`),
    line('writes in it', `${formatBytes(counters.payloadBytes)}, ${rate(counters.payloadBytes)}`),
    line('live of those', `${formatBytes(counters.liveBytes)}, ${percent(counters.liveBytes, counters.payloadBytes)}`),
    line('Put Page', `${count(counters.putRequests)} requests, ${formatBytes(counters.putBytes)}`),
    line('Clear Pages', `${count(counters.clearRequests)} requests, ${formatBytes(counters.clearBytes)}`),
    line('avoided', `${count(avoidedRequests)} of ${count(naiveRequests)} requests (one per write or discard)`),
    line('worker memory', `${formatBytes(peakMemoryBytes)} at the most`),
  ];
}

/** A naive drain would send one request per write or discard. */
function requestFigures({ worker: { counters } }: DemoResult): {
  readonly requests: number;
  readonly naiveRequests: number;
  readonly avoidedRequests: number;
} {
  const requests = counters.putRequests + counters.clearRequests;
  return { requests, naiveRequests: counters.changes, avoidedRequests: counters.changes - requests };
}

const mibPerSecond = (bytes: number, ms: number): number => (ms > 0 ? bytes / MIB / (ms / 1000) : 0);
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
const percent = (part: number, whole: number): string => `${whole > 0 ? Math.round((part / whole) * 100) : 0} %`;
const count = (value: number): string => value.toLocaleString('en-US');
const round = (value: number): number => Math.round(value * 1000) / 1000;

const indented = (text: string): string[] => text.split('\n').map((line) => `  ${line}`);

function alignRight(cells: readonly string[]): string[] {
  const width = Math.max(0, ...cells.map(({ length }) => length));
  return cells.map((cell) => cell.padStart(width));
}
