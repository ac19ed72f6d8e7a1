import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { CommandService, JobView } from '../../src/commands/commands.ts';
import { MAX_DELIVERIES } from '../../src/commands/handle-command.ts';
import { handleWaiting } from '../../src/distribution/listener.ts';
import type { Reply } from '../../src/commands/messages.ts';
import { TidemarkError } from '../../src/errors.ts';
import type { Compute } from '../../src/failover/compute.ts';
import type { Broker } from '../../src/local/broker/broker.ts';
import { serviceOf } from '../api/support.ts';
import { COMMANDS, failoverWorld, statesOf, type FailoverWorld } from '../failover/support.ts';
import { TcpProxy } from '../processes/tcp-proxy.ts';
import type { Clock } from '../../src/worker/ports.ts';
import { GROUP, live } from '../worker/discard-support.ts';
import { hastyClock, listenerOptions, Sender, startBroker, startListener, type Listener } from './support.ts';

let broker: Broker;
let sender: Sender;
const listeners: Listener[] = [];

beforeAll(async () => {
  broker = await startBroker();
  sender = new Sender(broker.connectionString);
});
afterEach(async () => {
  await Promise.all(listeners.splice(0).map((listener) => listener.stop()));
});
afterAll(async () => {
  await sender.close();
  await broker.close();
});

function listenTo(commands: CommandService, clock?: Clock): Listener {
  const listener = startListener(broker.connectionString, commands, clock);
  listeners.push(listener);
  return listener;
}

const jobOf = (reply: Reply | undefined): JobView => {
  if (reply === undefined || reply.reply === 'refused') throw new Error(`refused: ${JSON.stringify(reply)}`);
  return reply.job;
};

const LATEST = { command: 'create-point', at: 'latest' } as const;

describe('a command that comes as a message', () => {
  it('is accepted, carried out and replied to', async () => {
    const world = await failoverWorld();
    const { reported } = listenTo(serviceOf(world));
    await sender.send('drill', { command: 'test-failover' }, { correlationId: 'c-1' });
    const [accepted, finished] = await sender.replies('drill', 2);
    expect(accepted).toMatchObject({ correlationId: 'c-1', subject: 'command-accepted', body: { reply: 'accepted' } });
    expect(finished).toMatchObject({ correlationId: 'c-1', contentType: 'application/json' });
    expect(jobOf(accepted?.body)).toMatchObject({ state: 'running', requestedBy: 'unknown (message)' });
    expect(jobOf(finished?.body)).toMatchObject({ state: 'succeeded', job: jobOf(accepted?.body).job });
    expect(jobOf(finished?.body)).toEqual(await serviceOf(world).job(GROUP, jobOf(accepted?.body).job, live));
    expect(await statesOf(world)).toBe('none tested');
    await expect.poll(() => sender.waiting()).toEqual([]);
    expect(reported).toEqual([]);
  });

  it('and again, and again by another door, is one job', async () => {
    const world = await failoverWorld();
    const commands = serviceOf(world);
    const byHand = await commands.submit(
      { ...LATEST, group: GROUP },
      { idempotencyKey: 'once', requestedBy: 'ada' },
      live,
    );
    listenTo(commands);
    await Promise.all([sender.send('once', LATEST), sender.send('once', LATEST)]);
    const [accepted, finished] = await sender.replies('once', 2);
    expect(jobOf(accepted?.body).job).toBe(byHand.job);
    expect(jobOf(finished?.body)).toMatchObject({ job: byHand.job, state: 'succeeded', requestedBy: 'ada' });
    expect(await commands.jobs(GROUP, live)).toHaveLength(1);
  });

  it('waits for the one before it of its group', async () => {
    const world = await failoverWorld();
    const commands = serviceOf(world);
    await sender.send('first', COMMANDS.failover);
    await sender.send('second', COMMANDS.cancel);
    listenTo(commands);
    expect(jobOf((await sender.replies('second', 2))[1]?.body).state).toBe('succeeded');
    expect(jobOf((await sender.replies('first', 2))[1]?.body).state).toBe('succeeded');
    expect(await statesOf(world)).toBe('none none');
    const jobs = await commands.jobs(GROUP, live);
    expect(jobs.map(({ command, state }) => `${command} ${state}`)).toEqual(['cancel succeeded', 'failover succeeded']);
  });

  it('is refused where the state forbids it, and is done with', async () => {
    listenTo(serviceOf(await failoverWorld()));
    await sender.send('too-early', { command: 'commit' });
    const [refused] = await sender.replies('too-early', 1);
    expect(refused?.body).toMatchObject({ reply: 'refused', problem: { code: 'FAILOVER_STATE' } });
    await expect.poll(() => sender.waiting()).toEqual([]);
    expect(await sender.deadLetters()).toEqual([]);
  });

  it('fails as its job does', async () => {
    listenTo(serviceOf(await failoverWorld()));
    await sender.send('gone', { command: 'create-point', at: '2026-11-23T04:07:30Z' });
    const finished = (await sender.replies('gone', 2))[1];
    expect(jobOf(finished?.body)).toMatchObject({ state: 'failed', error: { code: 'POINT_UNREACHABLE' } });
  });

  it('is carried out though nobody takes the replies', async () => {
    const world = await failoverWorld();
    const listener = listenTo(serviceOf(world));
    await sender.send('no-queue', LATEST, { replyTo: 'nowhere' });
    await expect.poll(() => listener.reported.length, { timeout: 10_000 }).toBe(2);
    expect(listener.reported).toMatchObject([{ code: 'MESSAGING_REFUSED' }, { code: 'MESSAGING_REFUSED' }]);
    await expect.poll(() => sender.waiting()).toEqual([]);
    expect((await serviceOf(world).jobs(GROUP, live)).map(({ state }) => state)).toEqual(['succeeded']);
  });
});

describe('a bad message', () => {
  it('is replied to where it says, and dead-lettered with the reason', async () => {
    const bad: readonly [string, unknown, object, string][] = [
      ['no-json', Buffer.from('{'), {}, 'REQUEST_INVALID'],
      ['no-command', { command: 'reboot' }, {}, 'COMMAND_INVALID'],
      ['other-group', { command: 'commit', group: 'other' }, {}, 'COMMAND_INVALID'],
      ['too-long', Buffer.alloc(20_000, ' '), {}, 'REQUEST_TOO_LARGE'],
      ['text', { command: 'commit' }, { contentType: 'text/plain' }, 'MEDIA_TYPE'],
      ['loop', { command: 'commit' }, { replyTo: 'commands' }, 'REQUEST_INVALID'],
      ['no-reply', { command: 'reboot' }, { replyTo: undefined, replyToSessionId: undefined }, 'COMMAND_INVALID'],
    ];
    const world = await failoverWorld();
    const { reported } = listenTo(serviceOf(world));
    for (const [id, body, more] of bad) await sender.send(id, body, more);
    await expect.poll(async () => (await sender.deadLetters()).length, { timeout: 10_000 }).toBe(bad.length);
    const letters = await sender.deadLetters();
    expect(letters.map(({ messageId, deadLetterReason }) => [messageId, deadLetterReason])).toEqual(
      bad.map(([id, , , code]) => [id, code]),
    );
    for (const { deadLetterErrorDescription } of letters) expect(deadLetterErrorDescription).toMatch(/\w+ \w+/);
    for (const [id, , , code] of bad.slice(0, 5)) {
      const [refused] = await sender.replies(id, 1);
      expect(refused).toMatchObject({ correlationId: id, body: { reply: 'refused', problem: { code } } });
    }
    expect(await sender.waiting()).toEqual([]);
    expect(await serviceOf(world).jobs(GROUP, live)).toEqual([]);
    expect(reported).toEqual([]);
  });
});

/** `submit` fails as long as `isDown`. */
function unreliable(commands: CommandService): {
  commands: CommandService;
  attempts: () => number;
  repair: () => void;
} {
  let attempts = 0;
  let isDown = true;
  const submit: CommandService['submit'] = async (...given) => {
    attempts++;
    if (isDown) throw new TidemarkError('STORAGE_UNAVAILABLE', 'no answer');
    return commands.submit(...given);
  };
  return { commands: { ...commands, submit }, attempts: () => attempts, repair: () => void (isDown = false) };
}

describe('what may pass', () => {
  it('is tried again a few times, then told and dead-lettered', async () => {
    const down = unreliable(serviceOf(await failoverWorld()));
    const before = (await sender.deadLetters()).length;
    listenTo(down.commands, hastyClock);
    await sender.send('down', LATEST);
    const [refused] = await sender.replies('down', 1);
    expect(refused?.body).toMatchObject({ reply: 'refused', problem: { code: 'STORAGE_UNAVAILABLE' } });
    await expect.poll(async () => (await sender.deadLetters()).length).toBe(before + 1);
    expect((await sender.deadLetters()).at(-1)).toMatchObject({
      messageId: 'down',
      deadLetterReason: 'STORAGE_UNAVAILABLE',
    });
    expect(down.attempts()).toBe(4 * MAX_DELIVERIES);
  });

  it('ends a single run, which leaves the message to the next one', async () => {
    const world = await failoverWorld();
    const down = unreliable(serviceOf(world));
    const first = listenerOptions(broker.connectionString, down.commands, { clock: hastyClock, signal: live });
    await sender.send('later', LATEST);
    await expect(handleWaiting(first, live)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    await first.queue.close();
    expect(await sender.waiting()).toEqual(['later']);
    down.repair();
    const second = listenerOptions(broker.connectionString, down.commands, { clock: hastyClock, signal: live });
    await handleWaiting(second, live);
    await second.queue.close();
    expect(jobOf((await sender.replies('later', 2))[1]?.body).state).toBe('succeeded');
    expect(await sender.waiting()).toEqual([]);
  });
});

/** The world of one executor, whose imports wait until they are let through. */
function heldUp(world: FailoverWorld): { world: FailoverWorld; begun: Promise<void>; release: () => void } {
  const gate = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const compute = new Proxy(world.compute, {
    get: (target, property) => {
      const member: unknown = Reflect.get(target, property, target);
      if (typeof member !== 'function') return member;
      if (property !== 'importDisk') return member.bind(target) as unknown;
      return async (...given: Parameters<Compute['importDisk']>) => {
        begun.resolve();
        await gate.promise;
        return target.importDisk(...given);
      };
    },
  });
  return {
    world: { ...world, failoverPorts: { ...world.failoverPorts, compute } },
    begun: begun.promise,
    release: gate.resolve,
  };
}

describe('a listener that dies in mid-job', () => {
  it('leaves the job to the next one, by the same message', async () => {
    const world = await failoverWorld();
    const dying = heldUp(world);
    const port = Number(/:(\d+);/.exec(broker.connectionString)?.[1]);
    const proxy = await TcpProxy.start(port, () => 1);
    const through = broker.connectionString.replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${proxy.port}`);
    const first = startListener(through, serviceOf(dying.world));
    listeners.push(first);
    await sender.send('handover', COMMANDS.failover);
    const [accepted] = await sender.replies('handover', 1);
    await dying.begun;
    const second = listenTo(serviceOf(world));
    await proxy.close(); // no goodbye: what it held, the queue gives to the next one
    const [finished] = await sender.replies('handover', 1);
    expect(jobOf(finished?.body)).toMatchObject({ job: jobOf(accepted?.body).job, state: 'succeeded' });
    dying.release();
    await expect(first.options.runner.execute(jobOf(accepted?.body))).resolves.toMatchObject({ state: 'succeeded' });
    const jobs = await serviceOf(world).jobs(GROUP, live);
    expect(jobs.map(({ command, state }) => `${command} ${state}`)).toEqual(['failover succeeded']);
    await expect.poll(() => sender.waiting()).toEqual([]);
    expect(second.reported).toEqual([]);
  });
});

describe('the lock of a group', () => {
  it('is held for as long as its job takes', async () => {
    const short = await startBroker('PT5S');
    const other = new Sender(short.connectionString);
    const slow = heldUp(await failoverWorld());
    const listener = startListener(short.connectionString, serviceOf(slow.world));
    listeners.push(listener);
    await other.send('slow', COMMANDS.failover);
    await slow.begun;
    const lockEndedAt = Date.now() + 5500;
    await expect.poll(() => Date.now() > lockEndedAt, { timeout: 10_000, interval: 100 }).toBe(true);
    expect(await other.isFree(GROUP)).toBe(false);
    slow.release();
    expect(jobOf((await other.replies('slow', 2))[1]?.body).state).toBe('succeeded');
    await expect.poll(() => other.waiting()).toEqual([]);
    await listener.stop();
    await other.close();
    await short.close();
  });
});
