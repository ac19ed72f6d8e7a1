import { createHmac } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { redactor } from '../../src/plans/redact.ts';
import { runScript, type ScriptCall } from '../../src/plans/script.ts';
import { readSecret } from '../../src/plans/secrets.ts';
import { callWebhook, MAX_ANSWER_BYTES, MAX_RETRY_AFTER_MS, retryAfterMs } from '../../src/plans/webhook.ts';
import { systemClock } from '../../src/system-clock.ts';
import type { Clock } from '../../src/worker/ports.ts';
import { noContent, useHookServer } from './hook-server.ts';

const live = new AbortController().signal;
const hook = useHookServer();
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tidemark-plans-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));
beforeEach(() => {
  hook.received.length = 0;
  hook.answer = noContent;
});

/** Notes each pause, and lets it be over at once. */
function pausing(): { readonly clock: Clock; readonly pausesMs: number[]; random(): number } {
  const pausesMs: number[] = [];
  const clock: Clock = {
    nowUs: () => 1_795_406_400_000_000,
    nowMs: () => 0,
    sleep: async (ms) => void pausesMs.push(ms),
  };
  return { clock, pausesMs, random: () => 0.5 };
}

const call = (more: object = {}) => ({
  url: `${hook.url}?sig=topsecret`,
  secret: 'hunter22',
  body: '{"run":"r","text":"ünïcode"}',
  idempotencyKey: 'plan:r:group-1/pre/a',
  timeoutMs: 30_000,
  attempts: 3,
  ...more,
});

const answers = (status: number, headers: Record<string, string> = {}): void => {
  hook.answer = (response) => void response.writeHead(status, headers).end('no');
};

describe('a webhook', () => {
  it('is signed over its timestamp and body', async () => {
    expect(await callWebhook(pausing(), call(), live)).toBe('204');
    const [request] = hook.received;
    expect(hook.received).toHaveLength(1);
    expect(request?.body).toBe('{"run":"r","text":"ünïcode"}');
    expect(request?.headers['idempotency-key']).toBe('plan:r:group-1/pre/a');
    expect(request?.headers['content-type']).toBe('application/json');
    const timestamp = String(request?.headers['tidemark-timestamp']);
    expect(timestamp).toBe('1795406400');
    const hmac = createHmac('sha256', Buffer.from('hunter22'));
    hmac.update(Buffer.concat([Buffer.from(`${timestamp}.`), Buffer.from(request?.body ?? '')]));
    expect(request?.headers['tidemark-signature']).toBe(`v1=${hmac.digest('hex')}`);
  });

  it.each([408, 425, 429, 500, 503])(
    'that answers %i is tried again, and no more often than it may',
    async (status) => {
      answers(status);
      const ports = pausing();
      await expect(callWebhook(ports, call(), live)).rejects.toMatchObject({
        code: 'PLAN_STEP_FAILED',
        message: `webhook ${hook.url}, tried 3 times: answered ${status}`,
      });
      expect(hook.received).toHaveLength(3);
      expect(
        new Set(hook.received.map(({ headers, body }) => `${String(headers['idempotency-key'])} ${body}`)).size,
      ).toBe(1);
      expect(ports.pausesMs).toEqual([750, 1500]);
    },
  );

  it.each([400, 401, 404, 301, 302, 307, 308])('that answers %i fails at once', async (status) => {
    answers(status, { location: `${hook.url}/elsewhere` });
    await expect(callWebhook(pausing(), call(), live)).rejects.toThrow(`tried once: answered ${status}`);
    expect(hook.received.map(({ path }) => path)).toEqual(['/hook?sig=topsecret']);
  });

  it('succeeds when a later try does, after the pause that was asked for', async () => {
    hook.answer = (response, nth) => {
      if (nth === 1) response.writeHead(503, { 'retry-after': '7' }).end();
      else response.writeHead(200).end('fine');
    };
    const ports = pausing();
    expect(await callWebhook(ports, call(), live)).toBe('200 fine');
    expect(ports.pausesMs).toEqual([7000]);
  });

  it('that hangs is given up in time, before its answer and in the middle of it', async () => {
    hook.answer = (response, nth) => {
      if (nth === 2) response.writeHead(200).write('begun');
    };
    await expect(callWebhook(pausing(), call({ timeoutMs: 100, attempts: 2 }), live)).rejects.toThrow(
      'tried 2 times: no answer within 0.1 s',
    );
    expect(hook.received).toHaveLength(2);
  });

  it('that nobody listens to is tried again', async () => {
    const ports = pausing();
    await expect(callWebhook(ports, call({ url: 'http://127.0.0.1:1/' }), live)).rejects.toThrow(
      /tried 3 times: [A-Za-z]/,
    );
    expect(ports.pausesMs).toHaveLength(2);
  });

  it('that answers without end is read to its limit only', async () => {
    let writtenBytes = 0;
    hook.answer = (response) => {
      response.writeHead(200);
      const chunk = Buffer.alloc(16 * 1024, 'x');
      const more = (): void => {
        if (response.destroyed) return;
        writtenBytes += chunk.length;
        response.write(chunk, () => setImmediate(more));
      };
      more();
    };
    const answer = await callWebhook(pausing(), call(), live);
    expect(answer).toBe(`200 ${'x'.repeat(500)}`);
    expect(writtenBytes).toBeGreaterThanOrEqual(MAX_ANSWER_BYTES);
  });

  it('to elsewhere without encryption is refused', async () => {
    await expect(callWebhook(pausing(), call({ url: 'http://example.test/' }), live)).rejects.toThrow('must be https');
  });

  it('ends with the signal', async () => {
    const stop = new AbortController();
    hook.answer = () => stop.abort(new Error('stopped'));
    await expect(callWebhook(pausing(), call(), stop.signal)).rejects.toThrow('stopped');
  });

  it('follows Retry-After within limits', () => {
    const nowMs = Date.parse('2026-11-23T04:00:00Z');
    expect(retryAfterMs(null, nowMs)).toBeUndefined();
    expect(retryAfterMs('soon', nowMs)).toBeUndefined();
    expect(retryAfterMs('0', nowMs)).toBe(0);
    expect(retryAfterMs('999999', nowMs)).toBe(MAX_RETRY_AFTER_MS);
    expect(retryAfterMs('Mon, 23 Nov 2026 04:00:09 GMT', nowMs)).toBe(9000);
    expect(retryAfterMs('Mon, 23 Nov 2026 03:00:00 GMT', nowMs)).toBe(0);
  });
});

const script = (source: string, more: Partial<ScriptCall> = {}): ScriptCall => ({
  command: [process.execPath, '-e', source],
  environment: {},
  secrets: new Map(),
  tailChars: 200,
  ...more,
});

describe('a script', () => {
  it('gets its arguments and its variables, nothing else, and no shell', async () => {
    const command = [
      process.execPath,
      '-e',
      'console.log(JSON.stringify([process.argv.slice(1), process.env, process.cwd()]))',
      '$HOME; a',
    ];
    const output = await runScript(
      systemClock,
      { ...script(''), command, environment: { ONE: '1' }, cwd: folder },
      live,
    );
    expect(JSON.parse(output)).toEqual([['$HOME; a'], { ONE: '1' }, folder]);
  });

  it('keeps the end of its output, from both streams', async () => {
    const output = await runScript(systemClock, script('console.log("x".repeat(1e6)); console.error("the end")'), live);
    expect(output).toHaveLength(200);
    expect(output).toContain('xxx');
    expect(await runScript(systemClock, script('console.error("to err")'), live)).toBe('to err\n');
  });

  it.each([
    ['process.exit(3)', /exited with 3$/],
    ['process.kill(process.pid, "SIGKILL")', /was killed by SIGKILL$/],
  ])('fails by %s', async (source, message) => {
    const running = runScript(systemClock, script(`console.log("said"); ${source}`), live);
    await expect(running).rejects.toMatchObject({ code: 'PLAN_STEP_FAILED', message: expect.stringMatching(message) });
  });

  it('fails with its output', async () => {
    await expect(
      runScript(systemClock, script('console.error("why"); process.exitCode = 1'), live),
    ).rejects.toMatchObject({
      output: 'why\n',
    });
  });

  it('that is not there fails', async () => {
    const missing = { ...script(''), command: [join(folder, 'nothing')] };
    await expect(runScript(systemClock, missing, live)).rejects.toThrow('cannot be started: ENOENT');
  });

  it('does not show the secrets of its environment', async () => {
    const secrets = new Map([['TOKEN', 'hunter22-very-secret']]);
    const source =
      'const t = process.env.TOKEN; process.stdout.write("a" + t.slice(0, 9)); setTimeout(() => console.log(t.slice(9) + "b"), 50)';
    const output = await runScript(
      systemClock,
      script(source, { environment: { TOKEN: 'hunter22-very-secret' }, secrets }),
      live,
    );
    expect(output).toBe('a[TOKEN]b\n');
  });

  it('is ended with its children, by force when it does not heed SIGTERM', async () => {
    const pids = join(folder, 'pids');
    const stubborn = 'process.on("SIGTERM", () => undefined); setInterval(() => undefined, 1000);';
    const source = `
      const { spawn } = require('node:child_process');
      const child = spawn(process.execPath, ['-e', ${JSON.stringify(stubborn)}]);
      child.on('spawn', () => require('node:fs').writeFileSync(${JSON.stringify(pids)}, process.pid + ' ' + child.pid));
      ${stubborn}`;
    const stop = new AbortController();
    // The time between SIGTERM and SIGKILL is over at once; a process that is written about has begun.
    const clock: Clock = { ...systemClock, sleep: async () => undefined };
    const running = runScript(clock, script(source), stop.signal);
    const begun = await written(pids);
    stop.abort(new Error('time is up'));
    await expect(running).rejects.toThrow('time is up');
    for (const pid of begun.split(' ').map(Number)) await gone(pid);
  });
});

/** What is in the file, once something is. */
async function written(path: string): Promise<string> {
  for (;;) {
    const text = await readFile(path, 'utf8').catch(() => '');
    if (text !== '') return text;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Returns once there is no such process, or only its entry. */
async function gone(pid: number): Promise<void> {
  for (;;) {
    const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
    if (status === '' || status.includes(') Z ')) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('secrets', () => {
  it('are taken out however the output is cut', () => {
    const secret = fc.string({ unit: fc.constantFrom('a', 'b', '$', '('), minLength: 4, maxLength: 8 });
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '$', '(', '\n'), maxLength: 60 });
    fc.assert(
      fc.property(
        secret,
        fc.array(text),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 200 }),
        (value, texts, size, keep) => {
          const whole = texts.join(value);
          const expected = whole.replaceAll(value, () => '[S]');
          const kept = redactor(new Map([['S', value]]), keep);
          for (let at = 0; at < whole.length; at += size) kept.push(whole.slice(at, at + size));
          expect(kept.end()).toBe(expected.slice(-keep));
        },
      ),
    );
  });

  it('come from a variable or a file, and are never quoted', async () => {
    const file = join(folder, 'secret');
    await writeFile(file, ' hunter22\n');
    expect(await readSecret({}, { file })).toBe('hunter22');
    expect(await readSecret({ A: 'b' }, { env: 'A' })).toBe('b');
    await expect(readSecret({}, { env: 'A' })).rejects.toThrow('variable A holds no secret');
    await expect(readSecret({ A: '' }, { env: 'A' })).rejects.toMatchObject({ code: 'PLAN_SECRET_MISSING' });
    await expect(readSecret({}, { file: join(folder, 'none') })).rejects.toThrow(/^file .*none holds no secret$/);
    await writeFile(file, 'x'.repeat(5000));
    await expect(readSecret({}, { file })).rejects.toThrow('holds more than 4096 bytes');
  });
});
