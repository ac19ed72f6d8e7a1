/** `tidemark command send`: gives a command by a Service Bus message, and reads the replies. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { CommandClient } from '../../commands/command-client.ts';
import { idempotencyKeySchema } from '../../commands/commands.ts';
import type { Reply } from '../../commands/messages.ts';
import { ERROR_CATALOGUE, TidemarkError, type ErrorCode } from '../../errors.ts';
import { requireName } from '../../model/names.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine } from '../output.ts';
import { withRuntime } from '../with-runtime.ts';
import { reportJob } from './job-output.ts';

interface SendOptions {
  readonly file?: string;
  readonly key?: string;
  readonly wait?: boolean;
  readonly timeout: string;
}

export function register(program: Command, context: CliContext): void {
  const command = program.command('command').description('commands as Service Bus messages, for workers to carry out');
  command
    .command('send <group> [json]')
    .description('send a command such as \'{"command":"create-point","at":"latest"}\'; docs/commands.md lists them')
    .option('--file <file>', 'read the command from a file')
    .option('--key <key>', 'idempotency key: the same key gives the same job')
    .option('--wait', 'wait for the end of the job')
    .option('--timeout <seconds>', 'how long to wait', '600')
    .action((group: string, json: string | undefined, options: SendOptions) => send(context, group, json, options));
}

async function send(context: CliContext, group: string, json: string | undefined, options: SendOptions): Promise<void> {
  requireName('group', group);
  const body = bodyOf(json, options.file);
  const timeoutSeconds = parseTimeout(options.timeout);
  const messageId = options.key ?? randomUUID();
  if (!idempotencyKeySchema.safeParse(messageId).success) {
    throw new TidemarkError('USAGE', '--key takes 1 to 128 printable characters without spaces');
  }
  const requestedBy = context.env['USER'] ?? 'operator';
  const replySession = options.wait === true ? messageId : undefined;
  await withRuntime(context, async (runtime) => {
    const client = runtime.openCommandClient();
    try {
      await client.send({ group, messageId, body, requestedBy, replySession }, context.signal);
      if (options.wait === true) return await awaitReplies(context, client, messageId, timeoutSeconds);
      if (context.json) printJson(context, { group, messageId });
      else printLine(context, `sent to ${group}, key ${messageId}`);
    } finally {
      await client.close();
    }
  });
}

/** @throws TidemarkError REPLY_MISSING; what the command was refused with, or the job failed with */
async function awaitReplies(
  context: CliContext,
  client: CommandClient,
  messageId: string,
  timeoutSeconds: number,
): Promise<void> {
  const deadline = new AbortController();
  const late = (): void =>
    deadline.abort(new TidemarkError('REPLY_MISSING', `no end of ${messageId} within ${timeoutSeconds} s`));
  const timer = setTimeout(late, timeoutSeconds * 1000);
  try {
    const signal = AbortSignal.any([context.signal, deadline.signal]);
    for await (const reply of client.replies(messageId, messageId, signal)) show(context, reply);
  } finally {
    clearTimeout(timer);
  }
}

function show(context: CliContext, reply: Reply): void {
  if (reply.reply === 'refused') throw asError(reply.problem);
  const { job } = reply;
  if (reply.reply === 'accepted') {
    if (!context.json) context.stderr.write(`accepted as job ${job.job}\n`);
    return;
  }
  if (job.state === 'failed') throw asError(job.error, `job ${job.job} failed: `);
  reportJob(context, job);
}

function asError(problem: { readonly code: string; readonly message: string } | null, before = ''): TidemarkError {
  const { code, message } = problem ?? { code: 'UNEXPECTED', message: 'no reason is given' };
  const isKnown = (text: string): text is ErrorCode => Object.hasOwn(ERROR_CATALOGUE, text);
  return new TidemarkError(isKnown(code) ? code : 'UNEXPECTED', `${before}${message}`);
}

/** @throws TidemarkError USAGE */
function bodyOf(json: string | undefined, file: string | undefined): Buffer {
  if ((json === undefined) === (file === undefined))
    throw new TidemarkError('USAGE', 'give the command as JSON, or --file');
  if (file === undefined) return Buffer.from(json ?? '');
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new TidemarkError('USAGE', `--file: cannot read ${file}`, { cause });
  }
}

/** @throws TidemarkError USAGE */
function parseTimeout(text: string): number {
  if (/^[1-9]\d{0,4}$/.test(text)) return Number(text);
  throw new TidemarkError('USAGE', `--timeout ${text}: seconds from 1 to 99999`);
}
