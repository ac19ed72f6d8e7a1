/** `tidemark source ship`: the source side of replication, played from a recorded trace. */
import type { Command } from 'commander';
import { getGroup } from '../../catalog/groups.ts';
import { diskLabel } from '../../model/names.ts';
import { formatBytes } from '../../model/sizes.ts';
import { isoFromUs, usFromIso } from '../../model/time.ts';
import { diskMapping, selectDisks, stretchFrom, usFromSeconds } from '../../source/ship-arguments.ts';
import type { ShipSelection } from '../../source/ship-arguments.ts';
import { shipTrace } from '../../source/ship.ts';
import type { ShipOptions, ShipProgress, ShipResult } from '../../source/ship.ts';
import { openTraceFolder, traceEndUs } from '../../source/trace-folder.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine, printTable, stageProgress } from '../output.ts';
import { withRuntime } from '../with-runtime.ts';

interface ShipArguments {
  readonly trace: string;
  readonly machine?: string;
  readonly disk: readonly string[];
  readonly start?: string;
  readonly stretch: string;
  readonly until?: string;
  readonly segmentSeconds?: string;
}

export function register(program: Command, context: CliContext): void {
  const source = program.command('source').description('the source side: write replication logs');
  source
    .command('ship')
    .description('ship a recorded block trace as the source of a group; the same command goes on after a stop')
    .argument('<group>')
    .requiredOption('--trace <dir>', 'folder with diskK.log.zst, diskK.times.csv.zst and initialK.img.zst')
    .option('--machine <name>', 'only the disks of this machine')
    .option(
      '--disk <id=file>',
      'play this protected disk from another trace disk, such as data=disk1; may be repeated',
      (pair: string, pairs: readonly string[]) => [...pairs, pair],
      [],
    )
    .option('--start <time>', 'source time of the trace’s beginning, ISO 8601 (default: now less its length)')
    .option('--stretch <n>', 'multiply the trace’s times by a whole number', '1')
    .option('--until <seconds>', 'end before this trace time; a later call goes on')
    .option('--segment-seconds <n>', 'source time per segment (default: 10 s, or a 400th of the shipment)')
    .action((group: string, options: ShipArguments) => ship(group, options, context));
}

/** What the arguments say, before anything is read. @throws TidemarkError USAGE */
function numbersOf(options: ShipArguments): Pick<ShipOptions, 'startUs' | 'stretch' | 'untilUs' | 'segmentAgeUs'> {
  const { start, stretch, until, segmentSeconds } = options;
  return {
    stretch: stretchFrom(stretch),
    ...(start !== undefined && { startUs: usFromIso(start) }),
    ...(until !== undefined && { untilUs: usFromSeconds('--until', until) }),
    ...(segmentSeconds !== undefined && { segmentAgeUs: usFromSeconds('--segment-seconds', segmentSeconds) }),
  };
}

async function ship(groupName: string, options: ShipArguments, context: CliContext): Promise<void> {
  const { signal } = context;
  const numbers = numbersOf(options);
  const mapping = diskMapping(options.disk);
  const progress = stageProgress(context);
  await withRuntime(context, async ({ ports, settings }) => {
    const group = await getGroup(ports.catalog, groupName, signal);
    const trace = await openTraceFolder(options.trace);
    const selection = await selectDisks(group, trace, { machine: options.machine, mapping });
    const files = selection.disks.map((disk) => disk.files);
    const result = await shipTrace({
      ...numbers,
      disks: selection.disks,
      upload: ports.logUpload,
      log: ports.logStore,
      traceEndUs: await traceEndUs([...trace.disks, ...files], signal),
      nowUs: () => ports.clock.nowUs(),
      encode: settings.key === undefined ? {} : { key: settings.key },
      onProgress: (update) => showProgress(progress, update),
      signal,
    });
    progress.stop();
    report(groupName, selection, result, context);
  }).finally(() => progress.stop());
}

function showProgress(progress: ReturnType<typeof stageProgress>, { disk, startUs, finalUs }: ShipProgress): void {
  const doneUs = (disk.watermarkUs ?? startUs) - startUs;
  const note = `${disk.records} records, ${formatBytes(disk.rawBytes)}`;
  progress.update(diskLabel(disk.stream), doneUs, finalUs - startUs, note);
}

function report(group: string, { unmatched }: ShipSelection, result: ShipResult, context: CliContext): void {
  const { startUs, finalUs, disks } = result;
  const watermark = (timeUs: number | undefined): string | null => (timeUs === undefined ? null : isoFromUs(timeUs));
  if (context.json) {
    printJson(context, {
      group,
      start: isoFromUs(startUs),
      end: isoFromUs(finalUs),
      disks: disks.map(({ stream, watermarkUs, ...rest }) => ({
        machine: stream.machine,
        disk: stream.disk,
        epoch: stream.epoch,
        ...rest,
        watermark: watermark(watermarkUs),
      })),
      unmatched,
    });
    return;
  }
  printTable(
    context,
    ['disk', 'segments', 'records', 'raw', 'stored', 'watermark'],
    disks.map((disk) => [
      diskLabel(disk.stream),
      disk.segments,
      disk.records,
      formatBytes(disk.rawBytes),
      formatBytes(disk.storedBytes),
      watermark(disk.watermarkUs) ?? 'none',
    ]),
  );
  if (disks.every(({ segments }) => segments === 0)) printLine(context, 'Everything was shipped already.');
  for (const disk of unmatched) printLine(context, `${diskLabel(disk)} is not in the trace and was not shipped.`);
}
