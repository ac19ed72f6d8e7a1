/** `tidemark status [GROUP]`: how groups stand, why, and how far behind. */
import type { Command } from 'commander';
import { listGroups } from '../../catalog/groups.ts';
import { mapAll } from '../../map-all.ts';
import { formatBytes } from '../../model/sizes.ts';
import { groupStatus, type GroupStatus, type OperationStatus } from '../../worker/status.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine, printTable } from '../output.ts';
import { withRuntime } from '../with-runtime.ts';

const GROUPS_AT_ONCE = 4;

export function register(program: Command, context: CliContext): void {
  program
    .command('status [group]')
    .description('state, RPOs, lag, backlog, points and health of one group or of all')
    .action(async (group: string | undefined) => {
      await withRuntime(context, async ({ ports }) => {
        const groups = group === undefined ? await listGroups(ports.catalog, context.signal) : [group];
        const statuses = await mapAll(groups, GROUPS_AT_ONCE, context.signal, (name, signal) =>
          groupStatus(ports, name, signal),
        );
        if (context.json) printJson(context, group === undefined ? statuses : statuses[0]);
        else if (statuses.length === 0) printLine(context, 'no groups; protect one with `tidemark group protect`');
        else for (const status of statuses) printStatus(context, status);
      });
    });
}

function printStatus(context: CliContext, status: GroupStatus): void {
  const line = (label: string, text: string): void => printLine(context, `${label.padEnd(14)}${text}`);
  printLine(context, `${status.group}: ${status.state}, health ${status.health}`);
  line('policy', status.policy);
  line('RPO', `${duration(status.receivedRpoSeconds)} received, ${duration(status.recoverableRpoSeconds)} recoverable`);
  line('backlog', backlog(status));
  line(
    'points',
    `${status.points}, newest ${status.newestPoint ?? 'none'}, newest app ${status.newestAppPoint ?? 'none'}`,
  );
  for (const { severity, code, text } of status.symptoms) line(severity, `${code}: ${text}`);
  if (status.failover !== null) line('failover', operation(status.failover));
  if (status.testFailover !== null) line('test failover', operation(status.testFailover));
  if (status.advice !== null) line('advice', status.advice);
  if (status.messagesWaiting > 0) line('messages', `${status.messagesWaiting} wait to be sent`);
  printTable(
    context,
    ['disk', 'state', 'size', 'received through', 'applied through', 'lag', 'backlog'],
    status.disks.map((disk) => [
      `${disk.machine}/${disk.disk}`,
      disk.state,
      formatBytes(disk.sizeBytes),
      disk.receivedThrough ?? '-',
      disk.appliedThrough ?? '-',
      duration(disk.lagSeconds),
      formatBytes(disk.backlogBytes),
    ]),
  );
  for (const { machine, disk, defect } of status.disks) {
    if (defect !== null) printLine(context, `${machine}/${disk}: ${defect.code} in ${defect.blob}: ${defect.reason}`);
  }
}

const operation = ({ state, point, job, since }: OperationStatus): string =>
  `${state} since ${since}, ${point === null ? 'no point' : `point ${point}`}, job ${job}`;

function backlog({ backlogBytes, etaSeconds }: GroupStatus): string {
  if (backlogBytes === 0) return 'none';
  return `${formatBytes(backlogBytes)}, ${etaSeconds === null ? 'no pace known yet' : `about ${duration(etaSeconds)} at the last pace`}`;
}

/** `75 s`, `12 min`, `3.5 h`: the largest unit that shows at least one. */
function duration(seconds: number | null): string {
  if (seconds === null) return '-';
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
