import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { register } from '../../src/cli/commands/monitor.ts';
import { createContext } from '../../src/cli/context.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import { nextBatch } from '../../src/monitoring/cloud-event.ts';
import type { OutgoingMessage } from '../../src/monitoring/message-topic.ts';
import { enqueue, newOutbox } from '../../src/monitoring/outbox.ts';
import { pointCreated, progressOf, T0_US } from './arbitrary-events.ts';

const NEVER = new AbortController().signal;
const LOCAL = {
  TIDEMARK_CACHE_CONNECTION_STRING: 'UseDevelopmentStorage=true',
  TIDEMARK_REPLICA_CONNECTION_STRING: 'UseDevelopmentStorage=true',
  TIDEMARK_SERVICE_BUS_CONNECTION_STRING:
    'Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=k;SharedAccessKey=a2V5;UseDevelopmentEmulator=true',
};

function messagesOf(group: string, atUs: number): readonly OutgoingMessage[] {
  const outbox = enqueue(newOutbox(T0_US), [pointCreated('p1'), progressOf('os', 50)], atUs);
  return nextBatch(outbox, group, 10)?.messages ?? [];
}

/** Runs `monitor tail` against a topic that holds two groups' messages, a foreign event and a message that is none. */
async function tail(args: readonly string[], options: { json?: boolean; signal?: AbortSignal } = {}) {
  const topic = new MemoryTopic({ now: () => new Date(), duplicateWindowMs: 60_000 });
  const foreign = {
    messageId: 'foreign',
    subject: '',
    body: { specversion: '1.0', id: '7', source: '/x', type: 'X.Y\u001b[2J', time: '2026-11-23T04:30:02Z', data: [1] },
    applicationProperties: {},
  };
  const noEvent = { messageId: 'none', subject: '', body: 'text', applicationProperties: {} };
  const sent = [...messagesOf('shop', T0_US), ...messagesOf('bank', T0_US + 1_000_000), foreign, noEvent];
  await topic.send(sent, NEVER);
  const out: string[] = [];
  const err: string[] = [];
  const context = createContext({
    env: LOCAL,
    stdout: { write: (text) => void out.push(text) },
    stderr: { write: (text) => void err.push(text) },
    isTerminal: false,
    signal: options.signal ?? NEVER,
  });
  context.applyGlobals({ json: options.json ?? false });
  const program = new Command().exitOverride();
  register(program, context, async () => topic);
  await program.parseAsync(['monitor', 'tail', ...args], { from: 'user' });
  await expect(topic.send([], NEVER)).rejects.toMatchObject({ message: 'the topic is closed' });
  return { out: out.join(''), err: err.join('') };
}

const SHOP = [
  '2026-11-23T04:30:00.000000Z  info      PointCreated                 shop  point p1 created: 4.0 KiB changed on 1 disk',
  '2026-11-23T04:30:00.000000Z  info      InitialReplicationProgress   shop  initial replication of web/os at 50 %: 50 B of 100 B',
];
const BANK = SHOP.map((line) => line.replace(':00.', ':01.').replace('shop', 'bank'));

describe('monitor tail', () => {
  it('prints a line per event, and leaves nothing of a foreign message unsaid', async () => {
    const { out, err } = await tail(['--no-follow']);
    const foreign = '2026-11-23T04:30:02Z  -         X.Y [2J                      -  [1]';
    expect(out.trimEnd().split('\n')).toEqual([...SHOP, ...BANK, foreign]);
    expect(err).toBe('skipped: message "none" is no CloudEvent\n');
  });

  it('shows one group only', async () => {
    expect((await tail(['--no-follow', '--group', 'bank'])).out).toBe(`${BANK.join('\n')}\n`);
  });

  it('shows events from a time on, that time included', async () => {
    const at = await tail(['--no-follow', '--since', '2026-11-23T04:30:01Z', '--group', 'bank']);
    expect(at.out).toBe(`${BANK.join('\n')}\n`);
    const after = await tail(['--no-follow', '--since', '2026-11-23T05:30:01.000001+01:00', '--group', 'bank']);
    expect(after.out).toBe('');
  });

  it('ends after --limit messages while it follows', async () => {
    expect((await tail(['--limit', '2'])).out).toBe(`${SHOP.join('\n')}\n`);
  });

  it('ends when it is interrupted', async () => {
    expect((await tail([], { signal: AbortSignal.abort() })).out).toBe('');
  });

  it('prints CloudEvents with --json, one per line', async () => {
    const { out } = await tail(['--no-follow', '--group', 'shop'], { json: true });
    const events = out
      .trimEnd()
      .split('\n')
      .map((line): unknown => JSON.parse(line));
    expect(events).toEqual(messagesOf('shop', T0_US).map((message) => message.body));
  });

  it.each([
    ['--limit', '0'],
    ['--limit', '1e3'],
    ['--since', 'yesterday'],
  ])('refuses %s %s', async (...args) => {
    await expect(tail(args)).rejects.toMatchObject({ code: 'USAGE' });
  });
});
