import type { Command } from 'commander';
import { serviceBusAccess } from '../../azure/access.ts';
import { openCredential } from '../../azure/credentials.ts';
import type { Configuration } from '../../config.ts';
import { TidemarkError } from '../../errors.ts';
import { requireName } from '../../model/names.ts';
import { usFromIso } from '../../model/time.ts';
import { type CloudEvent, eventOf, groupOf, readCloudEvent } from '../../monitoring/cloud-event.ts';
import { describeEvent, oneLine } from '../../monitoring/describe.ts';
import type { MessageTopic } from '../../monitoring/message-topic.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine } from '../output.ts';

type OpenTopic = (configuration: Configuration) => Promise<MessageTopic>;

interface TailArguments {
  readonly group?: string;
  readonly since?: string;
  readonly limit?: string;
  readonly follow: boolean;
}

export function register(program: Command, context: CliContext, openTopic: OpenTopic = openServiceBus): void {
  const monitor = program.command('monitor').description('watch what Tidemark reports');
  monitor
    .command('tail')
    .description('print the messages of the monitoring topic as they come; reading does not consume them')
    .option('--group <group>', 'only messages of this group')
    .option('--since <iso>', 'only events of this time or later, such as 2026-11-23T04:30:00Z')
    .option('--limit <n>', 'end after this many messages')
    .option('--no-follow', 'end after the last message instead of waiting for more')
    .action((options: TailArguments) => tail(context, openTopic, options));
}

/** The SDK is loaded only by commands that need it. */
async function openServiceBus(configuration: Configuration): Promise<MessageTopic> {
  const { openMonitoringTopic } = await import('../../azure/service-bus-topic.ts');
  const access = serviceBusAccess(configuration.serviceBus, openCredential(configuration.identity));
  return openMonitoringTopic(access, configuration.monitoringTopic);
}

async function tail(context: CliContext, openTopic: OpenTopic, options: TailArguments): Promise<void> {
  const group = options.group === undefined ? undefined : requireName('group', options.group);
  const sinceUs = options.since === undefined ? undefined : usFromIso(options.since);
  const limit = options.limit === undefined ? Infinity : parseLimit(options.limit);
  const topic = await openTopic(context.configuration());
  try {
    let shown = 0;
    for await (const message of topic.tail(context.signal, { follow: options.follow })) {
      const event = readCloudEvent(message.body);
      if (event === undefined) {
        context.stderr.write(`skipped: message ${JSON.stringify(message.messageId)} is no CloudEvent\n`);
        continue;
      }
      if (group !== undefined && groupOf(event) !== group) continue;
      if (sinceUs !== undefined && usFromIso(event.time) < sinceUs) continue;
      if (context.json) printJson(context, event);
      else printLine(context, formatLine(event));
      if (++shown >= limit) return;
    }
  } finally {
    await topic.close();
  }
}

/** Columns as wide as the longest severity and type. `-` stands for what a foreign event does not have. */
function formatLine(event: CloudEvent): string {
  const known = eventOf(event);
  const text = known === undefined ? JSON.stringify(event.data ?? null) : describeEvent(known);
  const columns = [
    event.time,
    (event.severity ?? '-').padEnd(8),
    event.type.replace('Tidemark.', '').padEnd(27),
    groupOf(event) ?? '-',
    text,
  ];
  return oneLine(columns.join('  '));
}

/** @throws TidemarkError USAGE */
function parseLimit(text: string): number {
  const limit = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(limit) || limit === 0) {
    throw new TidemarkError('USAGE', `--limit takes a whole number above 0, not ${JSON.stringify(text)}`);
  }
  return limit;
}
