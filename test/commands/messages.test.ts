import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { CommandMessage } from '../../src/commands/command-queue.ts';
import { commandSchema, type JobView } from '../../src/commands/commands.ts';
import { jobViewSchema, MAX_COMMAND_BYTES } from '../../src/commands/job-view.ts';
import { MAX_DELIVERIES } from '../../src/commands/handle-command.ts';
import {
  jobReply,
  MAX_REPLY_BYTES,
  replyAddressOf,
  replyMessage,
  replySchema,
  requestOf,
} from '../../src/commands/messages.ts';
import { TidemarkError } from '../../src/errors.ts';
import { MAX_MESSAGE_BYTES } from '../../src/monitoring/message-topic.ts';
import { CONFIG_FILE } from './support.ts';

const message = (changes: Partial<CommandMessage> = {}): CommandMessage => ({
  messageId: 'm1',
  subject: undefined,
  enqueuedAtMs: 0,
  contentType: 'application/json',
  body: Buffer.from('{"command":"commit"}'),
  replyTo: undefined,
  replyToSessionId: undefined,
  correlationId: undefined,
  requestedBy: 'ada',
  sequence: '7',
  earlierDeliveries: 0,
  ...changes,
});

const job: JobView = {
  job: 'j',
  group: 'g',
  command: 'failover',
  state: 'succeeded',
  point: null,
  requestedBy: 'ada',
  createdAt: '2026-11-23T04:00:00.000000Z',
  endedAt: null,
  steps: [{ name: 'claim group', state: 'done', startedAt: null, endedAt: null }],
  error: null,
  result: { disks: [] },
};

describe('a command message', () => {
  it('of any bytes is a command of its group, or refused with a code', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (bytes) => {
          try {
            const { command } = requestOf('g', message({ body: Buffer.from(bytes) }));
            expect(commandSchema.parse(command).group).toBe('g');
          } catch (error) {
            expect(error).toBeInstanceOf(TidemarkError);
            expect(['REQUEST_INVALID', 'COMMAND_INVALID']).toContain((error as TidemarkError).code);
          }
        },
      ),
    );
  });

  it('says who asked', () => {
    expect(requestOf('g', message())).toEqual({
      command: { command: 'commit', group: 'g' },
      key: 'm1',
      requestedBy: 'ada (message)',
    });
    expect(requestOf('g', message({ requestedBy: undefined })).requestedBy).toBe('unknown (message)');
  });

  it.each<[string, Partial<CommandMessage>, string]>([
    ['of no type', { contentType: undefined }, 'MEDIA_TYPE'],
    ['of text', { contentType: 'text/plain' }, 'MEDIA_TYPE'],
    ['that is no bytes', { body: undefined }, 'REQUEST_INVALID'],
    ['in another encoding', { body: Buffer.from([0x7b, 0xff, 0x7d]) }, 'REQUEST_INVALID'],
    ['that is too long', { body: Buffer.alloc(MAX_COMMAND_BYTES + 1, ' ') }, 'REQUEST_TOO_LARGE'],
    ['without an id', { messageId: '' }, 'REQUEST_INVALID'],
    ['asked for on two lines', { requestedBy: 'a\nb' }, 'REQUEST_INVALID'],
    ['of another group', { body: Buffer.from('{"command":"commit","group":"h"}') }, 'COMMAND_INVALID'],
    ['with a prototype', { body: Buffer.from('{"command":"commit","__proto__":{}}') }, 'COMMAND_INVALID'],
  ])('%s is refused', (_what, changes, code) => {
    expect(() => requestOf('g', message(changes))).toThrow(expect.objectContaining({ code }) as Error);
  });

  it('is not replied to where commands are read, nor to what is no queue', () => {
    expect(replyAddressOf(message(), 'commands')).toBeUndefined();
    expect(replyAddressOf(message({ replyTo: 'replies' }), 'commands')).toEqual({
      queue: 'replies',
      sessionId: undefined,
      correlationId: 'm1',
    });
    for (const replyTo of ['commands', 'COMMANDS', '../x', 'sb://other/queue', 'a b', 'x'.repeat(300)]) {
      expect(() => replyAddressOf(message({ replyTo }), 'commands'), replyTo).toThrow('reply-to');
    }
  });
});

describe('a reply', () => {
  it('has one id per message and kind', () => {
    const address = { queue: 'replies', sessionId: 's', correlationId: 'c' };
    const idOf = (group: string, changes: Partial<CommandMessage>, reply: 'accepted' | 'finished'): string =>
      replyMessage(group, message(changes), address, jobReply(reply, job)).messageId;
    const ids = [
      idOf('g', {}, 'accepted'),
      idOf('g', {}, 'finished'),
      idOf('h', {}, 'accepted'),
      idOf('g', { messageId: 'm2' }, 'accepted'),
      idOf('g', { sequence: '8' }, 'accepted'),
    ];
    expect(new Set(ids).size).toBe(ids.length);
    expect(idOf('g', { earlierDeliveries: 3 }, 'accepted')).toBe(ids[0]);
  });

  it('fits into a message, whatever the job has', () => {
    expect(jobReply('finished', job)).toEqual({ reply: 'finished', job, isShortened: false });
    const steps = Array.from({ length: 8192 }, (_, index) => ({ ...job.steps[0], name: `copy web/${index}` }));
    const large = jobReply('finished', { ...job, steps: steps as JobView['steps'] });
    expect(large).toEqual({ reply: 'finished', job: { ...job, steps: [], result: null }, isShortened: true });
    expect(MAX_REPLY_BYTES).toBeLessThan(MAX_MESSAGE_BYTES);
    expect(replySchema.parse(large)).toEqual(large);
    expect(jobViewSchema.parse(job)).toEqual(job);
  });
});

it('is given up by the listener before the queue does', () => {
  const { UserConfig } = JSON.parse(readFileSync(CONFIG_FILE, 'utf8')) as {
    UserConfig: { Namespaces: { Queues: { Name: string; Properties: Record<string, unknown> }[] }[] };
  };
  const [commands, replies] = UserConfig.Namespaces[0]?.Queues ?? [];
  expect(commands).toMatchObject({ Name: 'commands', Properties: { MaxDeliveryCount: MAX_DELIVERIES } });
  for (const queue of [commands, replies]) {
    expect(queue?.Properties).toMatchObject({ RequiresSession: true, RequiresDuplicateDetection: true });
  }
  expect(replies?.Name).toBe('replies');
});
