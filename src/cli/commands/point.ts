/** `tidemark point …`: list, look at, make, export and pin recovery points. */
import type { Command } from 'commander';
import { getGroup, jobHolds, livePins, pinPoint, unpinPoint } from '../../catalog/groups.ts';
import { pointReader } from '../../copies/copy-store.ts';
import { TidemarkError } from '../../errors.ts';
import { diskLabel } from '../../model/names.ts';
import { formatBytes } from '../../model/sizes.ts';
import { usFromIso } from '../../model/time.ts';
import { exportDisk, selectDisk } from '../../points/export.ts';
import {
  pointDisk,
  POINT_KINDS,
  summarize,
  type InspectedDisk,
  type Manifest,
  type PointSummary,
} from '../../points/manifest.ts';
import { listPoints, requirePoint } from '../../points/point-store.ts';
import type { Verification } from '../../points/verify-point.ts';
import type { Runtime } from '../../runtime.ts';
import { Worker } from '../../worker/worker.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine, printTable, stageProgress } from '../output.ts';
import { withRuntime } from '../with-runtime.ts';
import { registerServe } from './point-serve.ts';

export function register(program: Command, context: CliContext): void {
  const point = program.command('point').description('recovery points');
  registerList(point, context);
  registerShow(point, context);
  registerCreate(point, context);
  registerExport(point, context);
  registerServe(point, context);
  registerVerify(point, context);
  registerPins(point, context);
}

function registerVerify(point: Command, context: CliContext): void {
  point
    .command('verify <group> [point]')
    .description(
      'read a point back, compare it with its checksums, and look at its disks as a system would (3: damage was found)',
    )
    .option('--all', 'all points of the group')
    .action(async (group: string, id: string | undefined, options: { all?: boolean }) => {
      if ((id === undefined) !== (options.all === true)) throw new TidemarkError('USAGE', 'name a point, or say --all');
      await withRuntime(context, async ({ ports, settings }) => {
        const worker = new Worker({ ports, settings, groups: [group], report: () => undefined });
        const results = await worker.verify(group, id === undefined ? [] : [id], context.signal);
        if (context.json) printJson(context, results);
        else printTable(context, ['point', 'result', 'checked', 'disk', 'found'], results.flatMap(verificationRows));
        if (results.some(({ ok }) => !ok)) context.setExitCode(3);
      });
    });
}

/** A row per disk; what concerns the whole point is in the first one. */
function verificationRows(result: Verification): (string | number)[][] {
  const { point, ok, checkedBytes, damaged, disks } = result;
  const sound = result.bytes ? 'bytes verified' : 'checksums lost with the catalog';
  return disks.map((found, index) => {
    const extents = damaged.filter((extent) => diskLabel(extent) === diskLabel(found)).length;
    const bytes = extents === 0 ? sound : `${extents} EXTENTS DAMAGED`;
    const ofPoint = index === 0 ? [point, ok ? 'ok' : 'DAMAGED', formatBytes(checkedBytes)] : ['', '', ''];
    return [...ofPoint, diskLabel(found), `${bytes} · ${foundText(found)}`];
  });
}

const foundText = ({ text, inherited }: InspectedDisk): string =>
  inherited ? `${text} (as when it was first looked at)` : text;

function registerList(point: Command, context: CliContext): void {
  point
    .command('list <group>')
    .description('all points, oldest first')
    .option('--kind <kind>', POINT_KINDS.join('|'))
    .action(async (group: string, { kind }: { kind?: string }) => {
      if (kind !== undefined && !POINT_KINDS.some((known) => known === kind)) {
        throw new TidemarkError('USAGE', `--kind ${kind}: a kind is one of ${POINT_KINDS.join(', ')}`);
      }
      await withRuntime(context, async (runtime) => {
        const pinned = await pinnedPoints(runtime, group, context.signal);
        const manifests = await listPoints(runtime.ports.catalog, group, context.signal);
        const points = manifests
          .filter((manifest) => kind === undefined || manifest.kind === kind)
          .map((manifest) => summarize(manifest, pinned.has(manifest.point)));
        if (context.json) return printJson(context, points);
        printTable(
          context,
          ['point', 'kind', 'cut', 'changed', 'pinned', 'verified'],
          points.map(({ id, kind: of, cut, disks, pinned: isPinned, verified }) => [
            id,
            of,
            cut,
            formatBytes(disks.reduce((sum, disk) => sum + disk.changedBytes, 0)),
            isPinned ? 'yes' : '',
            verifiedText(verified),
          ]),
        );
      });
    });
}

function verifiedText(verified: PointSummary['verified']): string {
  if (verified === null) return 'never';
  const result = verified.ok ? (verified.bytes ? 'ok' : 'inspected') : 'DAMAGED';
  return `${result} ${verified.at}`;
}

function registerCreate(point: Command, context: CliContext): void {
  point
    .command('create <group>')
    .description('make a point now: of everything received, or of a moment that the log still holds')
    .option('--latest', 'everything received')
    .option('--at <time>', 'all writes before this moment, such as 2026-11-23T04:32:17.250000Z')
    .action(async (group: string, { latest, at }: { latest?: boolean; at?: string }) => {
      if ((latest === true) === (at !== undefined))
        throw new TidemarkError('USAGE', 'say --latest, or --at and a time');
      const moment = at === undefined ? 'latest' : usFromIso(at);
      await withRuntime(context, async (runtime) => {
        const { ports, settings } = runtime;
        const worker = new Worker({ ports, settings, groups: [group], report: () => undefined });
        const { point: manifest, created } = await worker.createPoint(group, moment, context.signal);
        const pinned = (await pinnedPoints(runtime, group, context.signal)).has(manifest.point);
        if (context.json) return printJson(context, { ...summarize(manifest, pinned), isNew: created });
        printPoint(context, manifest, pinned);
        if (!created) printLine(context, 'It was there already.');
      });
    });
}

function registerShow(point: Command, context: CliContext): void {
  point
    .command('show <group> <point>')
    .description('one point: its cut, disks and places in the log')
    .action(async (group: string, id: string) => {
      await withRuntime(context, async (runtime) => {
        const manifest = await requirePoint(runtime.ports.catalog, group, id, context.signal);
        const pinned = (await pinnedPoints(runtime, group, context.signal)).has(id);
        if (context.json) return printJson(context, { ...summarize(manifest, pinned), manifest });
        printPoint(context, manifest, pinned);
      });
    });
}

function printPoint(context: CliContext, manifest: Manifest, pinned: boolean): void {
  printLine(
    context,
    `${manifest.point}: ${manifest.kind === 'latest' ? 'latest' : `${manifest.kind}-consistent`}, cut at ${manifest.cut}${pinned ? ', pinned' : ''}`,
  );
  if (manifest.mark !== null) printLine(context, `mark      ${manifest.mark}`);
  printLine(context, `created   ${manifest.created}`);
  printLine(context, `previous  ${manifest.previousPoint ?? 'none'}`);
  printLine(context, `verified  ${verifiedText(manifest.verified)}`);
  for (const found of manifest.verified?.disks ?? []) {
    printLine(context, `found     ${diskLabel(found)}: ${foundText(found)}`);
  }
  printTable(
    context,
    ['disk', 'size', 'changed', 'snapshot', 'log position'],
    manifest.disks.map((disk) => [
      `${disk.machine}/${disk.disk}`,
      formatBytes(disk.sizeBytes),
      formatBytes(disk.changedBytes),
      disk.snapshot,
      `epoch ${disk.epoch}, segment ${disk.sequence}, record ${disk.record}`,
    ]),
  );
}

function registerExport(point: Command, context: CliContext): void {
  point
    .command('export <group> <point>')
    .description('write one disk of a point to a file')
    .requiredOption('--disk <id>', 'disk, or machine/disk')
    .requiredOption('--out <file>', 'file to write')
    .option('--format <format>', 'raw|vhd', 'raw')
    .action(async (group: string, id: string, options: { disk: string; out: string; format: string }) => {
      const { format } = options;
      if (format !== 'raw' && format !== 'vhd') throw new TidemarkError('USAGE', `--format ${format}: raw or vhd`);
      await withRuntime(context, async ({ ports }) => {
        const manifest = await requirePoint(ports.catalog, group, id, context.signal);
        const disk = selectDisk(manifest, options.disk);
        const progress = stageProgress(context);
        const seed = pointReader(ports, pointDisk(manifest, disk));
        const { fileBytes, readBytes } = await exportDisk({
          seed,
          manifest,
          disk,
          format,
          outFile: options.out,
          onProgress: (done, total) => progress.update('export', done, total),
          signal: context.signal,
        }).finally(() => progress.stop());
        const result = {
          point: id,
          machine: disk.machine,
          disk: disk.disk,
          format,
          file: options.out,
          fileBytes,
          readBytes,
        };
        if (context.json) printJson(context, result);
        else printLine(context, `${options.out}: ${formatBytes(fileBytes)}, ${formatBytes(readBytes)} of it data`);
      });
    });
}

function registerPins(point: Command, context: CliContext): void {
  point
    .command('pin <group> <point>')
    .description('keep a point whatever the retention says')
    .requiredOption('--reason <text>', 'why')
    .option('--for <duration>', 'how long, such as 36h or 7d; without it until unpinned')
    .option('--owner <name>', 'who', context.env['USER'] ?? 'operator')
    .action(async (group: string, id: string, options: { reason: string; for?: string; owner: string }) => {
      await withRuntime(context, async ({ ports }) => {
        await requirePoint(ports.catalog, group, id, context.signal);
        const nowUs = ports.clock.nowUs();
        const expiresAtUs = options.for === undefined ? null : nowUs + parseDurationUs(options.for);
        await pinPoint(
          ports.catalog,
          { group, point: id, owner: options.owner, reason: options.reason, expiresAtUs, nowUs },
          context.signal,
        );
        if (context.json) printJson(context, { group, point: id, pinned: true });
        else printLine(context, `${id} is pinned`);
      });
    });
  point
    .command('unpin <group> <point>')
    .description('let the retention decide again')
    .action(async (group: string, id: string) => {
      await withRuntime(context, async ({ ports }) => {
        await unpinPoint(ports.catalog, group, id, context.signal);
        if (context.json) printJson(context, { group, point: id, pinned: false });
        else printLine(context, `${id} is not pinned`);
      });
    });
}

async function pinnedPoints({ ports }: Runtime, group: string, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const document = await getGroup(ports.catalog, group, signal);
  return new Set([...livePins(document, ports.clock.nowUs()), ...jobHolds(document)].map(({ point }) => point));
}

const UNIT_SECONDS: Readonly<Record<string, number>> = { m: 60, h: 3600, d: 86_400 };

function parseDurationUs(text: string): number {
  const match = /^(\d{1,6})([mhd])$/.exec(text);
  const seconds = match === null ? 0 : Number(match[1]) * (UNIT_SECONDS[match[2] ?? ''] ?? 0);
  if (seconds === 0) throw new TidemarkError('USAGE', `--for ${text}: a duration is such as 90m, 36h or 7d`);
  return seconds * 1_000_000;
}
