import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { localTokenVerifier } from '../../src/api/auth.ts';
import { MAX_REQUESTS } from '../../src/api/app.ts';
import { startApi } from '../../src/api/server.ts';
import type { CommandService, JobView } from '../../src/commands/commands.ts';
import { MAX_COMMAND_BYTES } from '../../src/commands/job-view.ts';
import { TidemarkError } from '../../src/errors.ts';
import { systemClock } from '../../src/system-clock.ts';
import { failoverWorld, inAzure, statesOf } from '../failover/support.ts';
import { GROUP } from '../worker/discard-support.ts';
import { giveByHttp, jsonOf, serviceOf, startTestApi, TOKEN, type TestApi } from './support.ts';

const COMMANDS = `/v1/groups/${GROUP}/commands`;

async function problemFrom(response: Response): Promise<[number, unknown]> {
  expect(response.headers.get('content-type')).toBe('application/problem+json');
  return [response.status, (await jsonOf(response))['code']];
}

describe('the HTTP door', () => {
  it('carries a drill through, from the command to its cleanup', async () => {
    const world = await failoverWorld();
    const api = await startTestApi(world);
    const response = await api.post(COMMANDS, { command: 'test-failover' }, { 'idempotency-key': 'drill-1' });
    expect(response.status).toBe(202);
    const given = await jsonOf<JobView>(response);
    expect(response.headers.get('location')).toBe(`/v1/groups/${GROUP}/jobs/${given.job}`);
    const ended = await jsonOf<JobView>(await api.get(`/v1/groups/${GROUP}/jobs/${given.job}?wait=30`));
    expect(ended).toMatchObject({
      state: 'succeeded',
      point: '20261123T041000.000000Z-crash',
      requestedBy: 'local (http)',
    });
    expect(await statesOf(world)).toBe('none tested');
    const status = await jsonOf(await api.get(`/v1/groups/${GROUP}`));
    expect(status).toMatchObject({ state: 'protected', testFailover: { state: 'tested', job: given.job } });
    await giveByHttp(api, GROUP, { command: 'cleanup-test-failover', notes: 'it boots', group: GROUP });
    expect(await inAzure(world)).toEqual([]);
    const jobs = await jsonOf<{ items: JobView[] }>(await api.get(`/v1/groups/${GROUP}/jobs`));
    expect(jobs.items.map(({ command }) => command)).toEqual(['cleanup-test-failover', 'test-failover']);
    expect(api.reported).toEqual([]);
  });

  it('gives one job for one key, and no other command', async () => {
    const world = await failoverWorld();
    const api = await startTestApi(world);
    const command = { command: 'create-point', at: 'latest' };
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => api.post(COMMANDS, command, { 'idempotency-key': 'k' })),
    );
    const jobs = await Promise.all(answers.map((answer) => jsonOf<JobView>(answer)));
    expect(new Set(jobs.map(({ job }) => job)).size).toBe(1);
    const other = await api.post(COMMANDS, { command: 'failover' }, { 'idempotency-key': 'k' });
    expect(await problemFrom(other)).toEqual([409, 'IDEMPOTENCY_CONFLICT']);
    const ended = await giveByHttp(api, GROUP, command, 'k');
    expect(ended).toMatchObject({ state: 'succeeded', result: { created: true } });
    const listed = await jsonOf<{ items: JobView[] }>(await api.get(`/v1/groups/${GROUP}/jobs`));
    expect(listed.items).toHaveLength(1);
  });

  it('pages its lists', async () => {
    const api = await startTestApi(await failoverWorld());
    const ids: string[] = [];
    for (let after: string | null = ''; after !== null;) {
      const query: string = after === '' ? '' : `&after=${after}`;
      const page = await jsonOf<{ items: { id: string }[]; next: string | null }>(
        await api.get(`/v1/groups/${GROUP}/points?limit=2${query}`),
      );
      ids.push(...page.items.map(({ id }) => id));
      after = page.next;
    }
    expect(ids).toEqual([4, 5, 10].map((_, index) => `20261123T04${['00', '05', '10'][index]}00.000000Z-crash`));
    const groups = await jsonOf<{ items: object[] }>(await api.get('/v1/groups'));
    expect(groups.items).toMatchObject([{ group: GROUP, machines: 1, disks: 2, failover: 'none' }]);
    expect(await problemFrom(await api.get(`/v1/groups/${GROUP}/points?after=none`))).toEqual([400, 'REQUEST_INVALID']);
  });

  it('resumes a job that failed', async () => {
    const world = await failoverWorld();
    const api = await startTestApi(world);
    const failed = await giveByHttp(api, GROUP, { command: 'create-point', at: '2026-11-23T04:07:30Z' });
    expect(failed).toMatchObject({ state: 'failed', error: { code: 'POINT_UNREACHABLE' } });
    const again = await api.post(`/v1/groups/${GROUP}/jobs/${failed.job}/resume`, '');
    expect(again.status).toBe(202);
    const other = await api.post(`/v1/groups/${GROUP}/jobs/job-99/resume`, '');
    expect(await problemFrom(other)).toEqual([404, 'JOB_NOT_FOUND']);
  });
});

const REFUSED: readonly [string, (api: TestApi) => Promise<Response>, number, string][] = [
  ['no token', ({ url }) => fetch(`${url}/v1/groups`), 401, 'UNAUTHENTICATED'],
  ['another token', (api) => api.get('/v1/groups', { authorization: `Bearer ${TOKEN}x` }), 401, 'UNAUTHENTICATED'],
  ['another scheme', (api) => api.get('/v1/groups', { authorization: `Basic ${TOKEN}` }), 401, 'UNAUTHENTICATED'],
  ['no such route below v1', ({ url }) => fetch(`${url}/v1/none`), 401, 'UNAUTHENTICATED'],
  ['no such route', (api) => api.get('/v1/none'), 404, 'ROUTE_NOT_FOUND'],
  ['no such group', (api) => api.get('/v1/groups/none'), 404, 'GROUP_NOT_FOUND'],
  ['points of no such group', (api) => api.get('/v1/groups/none/points'), 404, 'GROUP_NOT_FOUND'],
  ['jobs of no such group', (api) => api.get('/v1/groups/none/jobs'), 404, 'GROUP_NOT_FOUND'],
  ['no such job', (api) => api.get(`/v1/groups/${GROUP}/jobs/none`), 404, 'JOB_NOT_FOUND'],
  ['a name with dots', (api) => api.get('/v1/groups/a%2F..%2Fb'), 400, 'NAME_INVALID'],
  ['a job with a slash', (api) => api.get(`/v1/groups/${GROUP}/jobs/a%2Fb`), 404, 'JOB_NOT_FOUND'],
  ['a wait that is too long', (api) => api.get(`/v1/groups/${GROUP}/jobs/x?wait=61`), 400, 'REQUEST_INVALID'],
  ['an unknown parameter', (api) => api.get('/v1/groups?wait=1'), 400, 'REQUEST_INVALID'],
  ['no JSON', (api) => api.post(COMMANDS, '{"command":'), 400, 'REQUEST_INVALID'],
  ['no body', (api) => api.post(COMMANDS, ''), 400, 'REQUEST_INVALID'],
  ['no command', (api) => api.post(COMMANDS, { command: 'reboot' }), 422, 'COMMAND_INVALID'],
  ['an array', (api) => api.post(COMMANDS, []), 422, 'COMMAND_INVALID'],
  ['a field too many', (api) => api.post(COMMANDS, { command: 'commit', force: true }), 422, 'COMMAND_INVALID'],
  ['another group', (api) => api.post(COMMANDS, { command: 'commit', group: 'b' }), 422, 'COMMAND_INVALID'],
  [
    'a key with spaces',
    (api) => api.post(COMMANDS, { command: 'commit' }, { 'idempotency-key': 'a b' }),
    400,
    'REQUEST_INVALID',
  ],
  ['text', (api) => api.post(COMMANDS, '{}', { 'content-type': 'text/plain' }), 415, 'MEDIA_TYPE'],
  [
    'another charset',
    (api) => api.post(COMMANDS, '{}', { 'content-type': 'application/json; charset=latin1' }),
    415,
    'MEDIA_TYPE',
  ],
  ['what the state forbids', (api) => api.post(COMMANDS, { command: 'commit' }), 409, 'FAILOVER_STATE'],
  ['no such point', (api) => api.post(COMMANDS, { command: 'failover', point: 'none' }), 404, 'POINT_NOT_FOUND'],
  ['a long body', (api) => api.post(COMMANDS, { command: 'x'.repeat(MAX_COMMAND_BYTES) }), 413, 'REQUEST_TOO_LARGE'],
  [
    'a long body of unknown length',
    ({ url }) =>
      fetch(`${url}${COMMANDS}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
        body: new Blob([`{"command":"${'x'.repeat(MAX_COMMAND_BYTES)}"}`]).stream(),
        duplex: 'half',
      }),
    413,
    'REQUEST_TOO_LARGE',
  ],
];

describe('a request', () => {
  it.each(REFUSED)('with %s is refused', async (_what, send, status, code) => {
    const api = await startTestApi(await failoverWorld());
    expect(await problemFrom(await send(api))).toEqual([status, code]);
    expect(api.reported).toEqual([]);
  });

  it('by another method is told which ones there are', async () => {
    const api = await startTestApi(await failoverWorld());
    const response = await fetch(`${api.url}/healthz`, { method: 'PUT' });
    expect(response.headers.get('allow')).toBe('GET');
    expect(await problemFrom(response)).toEqual([405, 'METHOD_NOT_ALLOWED']);
    expect((await fetch(`${api.url}/healthz`)).status).toBe(200);
    expect((await fetch(`${api.url}/openapi.json`)).status).toBe(200);
  });

  it('that only reads may not command', async () => {
    const reader = { verify: async () => ({ name: 'reader', may: new Set(['read'] as const) }) };
    const api = await startTestApi(await failoverWorld(), { verifiers: [reader] });
    expect((await api.get('/v1/groups')).status).toBe(200);
    expect(await problemFrom(await api.post(COMMANDS, { command: 'commit' }))).toEqual([403, 'FORBIDDEN']);
  });

  it('whose failure is a defect says nothing of it, and the operator hears all', async () => {
    const world = await failoverWorld();
    const commands: CommandService = {
      ...serviceOf(world),
      job: async () => {
        throw new Error('secret inner state');
      },
    };
    const api = await startTestApi(world, { commands });
    const response = await api.get(`/v1/groups/${GROUP}/jobs/x`);
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('secret inner state');
    expect(api.reported).toEqual([expect.objectContaining({ message: 'secret inner state' })]);
  });

  it('is asked to come again when it may succeed later', async () => {
    const world = await failoverWorld();
    const commands: CommandService = {
      ...serviceOf(world),
      submit: async () => {
        throw new TidemarkError('STORAGE_UNAVAILABLE', 'no answer');
      },
    };
    const response = await (await startTestApi(world, { commands })).post(COMMANDS, { command: 'failover' });
    expect(response.headers.get('retry-after')).toBe('5');
    expect(await problemFrom(response)).toEqual([503, 'STORAGE_UNAVAILABLE']);
  });
});

/** A service whose look at a job waits until `release`. */
function gated(commands: CommandService): { commands: CommandService; release: () => void; looks: () => number } {
  const gate = Promise.withResolvers<void>();
  let looks = 0;
  const job: CommandService['job'] = async (...given) => {
    looks++;
    await gate.promise;
    return commands.job(...given);
  };
  return { commands: { ...commands, job }, release: gate.resolve, looks: () => looks };
}

/** What a raw socket is told before it is closed. */
async function rawAnswer(url: string, write: (send: (text: string) => void) => void): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  let answer = '';
  socket.on('data', (bytes) => (answer += String(bytes)));
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.on('error', () => undefined);
  write((text) => socket.write(text));
  await closed;
  return answer;
}

describe('limits', () => {
  it('hold for requests at once', async () => {
    const world = await failoverWorld();
    const gate = gated(serviceOf(world));
    const api = await startTestApi(world, { commands: gate.commands });
    const requests = Array.from({ length: MAX_REQUESTS }, () => api.get(`/v1/groups/${GROUP}/jobs/none`));
    await expect.poll(gate.looks, { timeout: 10_000 }).toBe(MAX_REQUESTS);
    expect(await problemFrom(await api.get('/v1/groups'))).toEqual([503, 'BUSY']);
    gate.release();
    for (const response of await Promise.all(requests)) expect(response.status).toBe(404);
    expect((await api.get('/v1/groups')).status).toBe(200);
  });

  it('hold for headers, and for those who send slowly', async () => {
    const api = await startTestApi(await failoverWorld());
    const head = `POST ${COMMANDS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\n`;
    const [large, slowHead, slowBody] = await Promise.all([
      rawAnswer(api.url, (send) => send(`GET /healthz HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`)),
      rawAnswer(api.url, (send) => send(head)),
      rawAnswer(api.url, (send) => send(`${head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{`)),
    ]);
    expect(large).toMatch(/^HTTP\/1\.1 431 /);
    expect(slowHead).toMatch(/^HTTP\/1\.1 408 /);
    expect(slowBody).toMatch(/^HTTP\/1\.1 408 /);
  });

  it('let only this machine in, unless it is said that others may', async () => {
    const world = await failoverWorld();
    const stopping = new AbortController();
    const options = {
      ports: { ...world.ports, clock: systemClock },
      commands: serviceOf(world),
      verifiers: [localTokenVerifier(TOKEN)],
      report: () => undefined,
      signal: stopping.signal,
      port: 0,
      random: () => 0,
    };
    const outside = startApi({ ...options, host: '0.0.0.0', isInsecureAllowed: false });
    await expect(outside).rejects.toMatchObject({ code: 'API_HOST_INSECURE' });
    const allowed = await startApi({ ...options, host: '0.0.0.0', isInsecureAllowed: true });
    const { port } = new URL(allowed.url);
    const second = startApi({ ...options, host: '127.0.0.1', port: Number(port), isInsecureAllowed: false });
    await expect(second).rejects.toMatchObject({ code: 'API_PORT_TAKEN' });
    stopping.abort();
    await allowed.ended;
  });
});

describe('the end of a server', () => {
  it('leaves its jobs where they are, and the next one goes on with them, and with no others', async () => {
    const world = await failoverWorld();
    const commands = serviceOf(world);
    const begun = Promise.withResolvers<void>();
    const stuck: CommandService = {
      ...commands,
      execute: async (_group, _job, _options, signal) => {
        begun.resolve();
        return new Promise<never>((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
        });
      },
    };
    const api = await startTestApi(world, { commands: stuck });
    const given = await jsonOf<JobView>(await api.post(COMMANDS, { command: 'test-failover' }));
    await begun.promise;
    const byHand = await commands.submit(
      { command: 'create-point', group: GROUP, at: 'latest' },
      { requestedBy: 'ada (cli)' },
      new AbortController().signal,
    );
    await api.stop();
    expect((await commands.job(GROUP, given.job, new AbortController().signal)).state).toBe('running');
    const next = await startTestApi(world);
    const ended = await jsonOf<JobView>(await next.get(`/v1/groups/${GROUP}/jobs/${given.job}?wait=30`));
    expect(ended.state).toBe('succeeded');
    const left = await jsonOf<JobView>(await next.get(`/v1/groups/${GROUP}/jobs/${byHand.job}`));
    expect(left.state).toBe('running');
    expect([...api.reported, ...next.reported]).toEqual([]);
  });
});
