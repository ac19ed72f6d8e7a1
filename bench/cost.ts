/**
 * What protecting a disk costs: `npm run cost -- [--prices FILE] [--cycle-seconds 60] [--churn-gib-day 10] [--retention-days 1]`.
 *
 * Counts the requests of a drain on the local stack, by kind: for a GiB of initial copy, for a GiB of churn, for a point, for a turn of an idle group; then
 * multiplies them by the price table. The counts are measured; what a month brings of each is arithmetic on the options.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { protectGroup } from '../src/catalog/groups.ts';
import { setPolicy } from '../src/catalog/policies.ts';
import { table } from '../src/cli/output.ts';
import { parseConfiguration } from '../src/config.ts';
import { startStack } from '../src/local/stack.ts';
import { GIB } from '../src/model/sizes.ts';
import { HOUR_US } from '../src/model/time.ts';
import { listPoints } from '../src/points/point-store.ts';
import { openRuntime, type Runtime } from '../src/runtime.ts';
import { shipTrace } from '../src/source/ship.ts';
import { openTraceFolder, traceEndUs } from '../src/source/trace-folder.ts';
import { Worker } from '../src/worker/worker.ts';
import {
  added,
  priceTableSchema,
  scaled,
  since,
  storageCost,
  total,
  type Counts,
  type PriceTable,
} from './cost-model.ts';

const TRACE = new URL('../src/demo/trace/', import.meta.url).pathname;
const DISK_BYTES = 160 * 1024 * 1024;
/** 04:00:01: nine boundaries in the trace's 45 minutes. */
const START_US = 1_795_406_401_000_000;
const STRETCH = 70;
const MINUTE_US = 60_000_000;
const HOURS_OF_MONTH = 730;
const DAYS_OF_MONTH = HOURS_OF_MONTH / 24;
/** Openings of a group of which nothing is heard, to report its lag. */
const IDLE_OPENINGS_PER_HOUR = 12;
/** Sent, received, settled, and the session taken. */
const MESSAGES_PER_TURN = 4;
/** Of the trace's own time: its initial copy is shipped by then, and hardly anything else. */
const BASE_UNTIL_US = 1;
const signal = new AbortController().signal;

const { values } = parseArgs({
  options: {
    prices: { type: 'string', default: new URL('./prices.json', import.meta.url).pathname },
    'cycle-seconds': { type: 'string', default: '60' },
    'churn-gib-day': { type: 'string', default: '10' },
    'retention-days': { type: 'string', default: '1' },
  },
});
const cycleSeconds = Number(values['cycle-seconds']);
const churnGiBDay = Number(values['churn-gib-day']);
const retentionDays = Number(values['retention-days']);

/** Counts of what was measured, and how much of it there was. */
interface Measured {
  readonly baseGiB: number;
  readonly base: Counts;
  readonly churnGiB: number;
  readonly logGiB: number;
  /** What grows with the data: pages, and the log's own account. */
  readonly churn: Counts;
  readonly points: number;
  /** The rest of the same turn, less an opening. */
  readonly pointing: Counts;
  /** A turn of an idle group, and one that opens it to report its lag. */
  readonly glance: Counts;
  readonly opening: Counts;
}

const PAGE_OPERATIONS = new Set(['PutPage', 'ClearPages']);

async function measure(environment: Readonly<Record<string, string>>): Promise<Measured> {
  const runtime = openRuntime(parseConfiguration(environment));
  let aheadUs = 0;
  const clock = { ...runtime.ports.clock, nowUs: () => START_US + HOUR_US + aheadUs };
  const worker = new Worker({
    ports: { ...runtime.ports, clock },
    settings: runtime.settings,
    groups: ['shop'],
    report: ({ error }) => {
      throw error;
    },
  });
  const turn = async (): Promise<{ readonly cache: Counts; readonly replica: Counts }> => {
    const before = runtime.requests.snapshot().storage;
    let hasMore = true;
    while (hasMore) ({ hasMore } = await worker.turn('shop', signal, signal));
    await worker.giveBack('shop');
    const after = runtime.requests.snapshot().storage;
    return { cache: since(after.cache, before.cache), replica: since(after.replica, before.replica) };
  };
  try {
    await protect(runtime);
    await ship(runtime, BASE_UNTIL_US);
    const base = await turn();
    const { payloadBytes: basePayloadBytes, liveBytes: baseBytes, logBytes: baseLogBytes } = { ...worker.counters };
    const glance = await turn();
    aheadUs = 6 * MINUTE_US;
    const opening = await turn();
    await ship(runtime);
    const whole = await turn();
    const { payloadBytes, logBytes } = worker.counters;
    const pages = Object.entries(whole.replica).filter(([operation]) => PAGE_OPERATIONS.has(operation));
    const churn = added(whole.cache, Object.fromEntries(pages));
    return {
      baseGiB: baseBytes / GIB,
      base: added(base.cache, base.replica),
      churnGiB: (payloadBytes - basePayloadBytes) / GIB,
      logGiB: (logBytes - baseLogBytes) / GIB,
      churn,
      points: (await listPoints(runtime.ports.catalog, 'shop', signal)).length,
      pointing: since(since(whole.replica, Object.fromEntries(pages)), opening.replica),
      glance: added(glance.cache, glance.replica),
      opening: added(opening.cache, opening.replica),
    };
  } finally {
    await runtime.close();
  }
}

async function protect({ ports }: Runtime): Promise<void> {
  await setPolicy(ports.catalog, 'p', {}, signal);
  const machines = [{ machine: 'm', disks: [{ disk: 'disk0', sizeBytes: DISK_BYTES }] }];
  await protectGroup(ports.catalog, { group: 'shop', policy: 'p', machines, nowUs: START_US }, signal);
}

/** The trace up to a time of its own, or what of it was not shipped yet. */
async function ship({ ports }: Runtime, untilUs?: number): Promise<void> {
  const trace = await openTraceFolder(TRACE);
  const stream = { group: 'shop', machine: 'm', disk: 'disk0', epoch: 1 };
  await shipTrace({
    disks: trace.disks.map((files) => ({ stream, diskSizeBytes: DISK_BYTES, files })),
    upload: ports.logUpload,
    log: ports.logStore,
    traceEndUs: await traceEndUs(trace.disks, signal),
    startUs: START_US,
    nowUs: () => START_US,
    stretch: STRETCH,
    ...(untilUs !== undefined && { untilUs }),
    signal,
  });
}

function printMeasured(measured: Measured): void {
  const { base, baseGiB, churn, churnGiB, pointing, points, glance, opening } = measured;
  const columns: readonly (readonly [string, Counts])[] = [
    ['GiB of copy', scaled(base, 1 / baseGiB)],
    ['GiB of churn', scaled(churn, 1 / churnGiB)],
    ['point', scaled(pointing, 1 / points)],
    ['idle turn', glance],
    ['opening', opening],
  ];
  const operations = Object.keys(added(...columns.map(([, counts]) => counts))).toSorted();
  const row = (name: string, of: (counts: Counts) => number) => [name, ...columns.map(([, c]) => of(c).toFixed(1))];
  const rows = operations.map((operation) => row(operation, (counts) => counts[operation] ?? 0));
  print(table(['requests per', ...columns.map(([head]) => head)], [...rows, row('all', total)]));
}

/** What a month of one group of one disk brings; see the options. */
function printMonth(
  { churn, churnGiB, logGiB, pointing, points, glance, opening }: Measured,
  prices: PriceTable,
): void {
  const { storage, currency } = prices;
  const turns = (HOURS_OF_MONTH * 3600) / cycleSeconds;
  const idleOpenings = HOURS_OF_MONTH * IDLE_OPENINGS_PER_HOUR;
  const idle = added(scaled(glance, turns - idleOpenings), scaled(opening, idleOpenings));
  const pointsOfMonth = HOURS_OF_MONTH * 12;
  const busy = added(scaled(opening, turns), scaled(pointing, pointsOfMonth / points));
  const churnGiBMonth = churnGiBDay * DAYS_OF_MONTH;
  const data = scaled(churn, churnGiBMonth / churnGiB);
  const lines: readonly (readonly [string, string, number])[] = [
    ['idle group, requests', total(idle).toFixed(0), storageCost(idle, prices)],
    ['busy group, turns and points', total(busy).toFixed(0), storageCost(busy, prices)],
    [`its churn of ${churnGiBDay} GiB a day, requests`, total(data).toFixed(0), storageCost(data, prices)],
    [
      'its points, at the most all that was written',
      `${churnGiBDay * retentionDays} GiB`,
      churnGiBDay * retentionDays * storage.pageBlobGiBMonth,
    ],
    [
      'its log on the way',
      `${(((logGiB / churnGiB) * churnGiBDay) / 24).toFixed(2)} GiB`,
      (((logGiB / churnGiB) * churnGiBDay) / 24) * storage.blockBlobGiBMonth,
    ],
    ['each protected TiB that holds data', '1024 GiB', 1024 * storage.pageBlobGiBMonth],
    [
      'orders and messages of a group',
      (turns * MESSAGES_PER_TURN).toFixed(0),
      ((turns * MESSAGES_PER_TURN) / 1e6) * prices.serviceBus.perMillion,
    ],
    ['a worker that always runs', '', prices.worker.month],
  ];
  print(
    table(
      ['a month of', 'amount', currency],
      lines.map(([what, amount, cost]) => [what, amount, cost.toFixed(2)]),
    ),
  );
}

const print = (text: string): void => void process.stdout.write(`${text}\n\n`);

const prices = priceTableSchema.parse(JSON.parse(await readFile(values.prices, 'utf8')));
const home = await mkdtemp(join(tmpdir(), 'tidemark-cost-'));
const stack = await startStack({ home, portBase: 12_700, signal });
try {
  const measured = await measure(stack.environment);
  printMeasured(measured);
  printMonth(measured, prices);
} finally {
  await stack.stop();
  await rm(home, { recursive: true, force: true });
}
