/** The main job with tokens instead of connection strings: Azurite over https with `--oauth basic`, the broker over TLS. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { caFileOf, ensureCertificate } from '../../src/local/arm/certificate.ts';
import { type Service, startService } from '../../src/local/service.ts';
import { serviceDefinitions } from '../../src/local/stack.ts';
import { readStackConfig, stackPorts } from '../../src/local/stack-config.ts';
import { onFreePorts } from '../support/stack.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';
import { TraceReplay } from '../support/trace-oracle.ts';
import { usOf } from '../support/point-oracle.ts';
import { type ChildReport, START, STRETCH } from './identity-support.ts';

const LIMIT_MS = 90_000;
const home = mkdtempSync(join(tmpdir(), 'tidemark-identity-'));
const config = readStackConfig();
let services: Service[] = [];
let environment: Record<string, string> = {};

/** Azurite and the broker of the local stack, both with the certificate. */
async function start(portBase: number): Promise<void> {
  const ports = stackPorts(config, portBase);
  const tls = {
    azurite: ['--oauth', 'basic', '--cert', caFileOf(home), '--key', join(home, 'key.pem')],
    broker: [home],
  };
  const definitions = serviceDefinitions(home, config, ports).flatMap((definition) => {
    if (definition.name !== 'azurite' && definition.name !== 'broker') return [];
    const args = [...definition.args, ...tls[definition.name]];
    // Its line says that it listens; the usual question is asked without TLS.
    return [{ ...definition, args, answers: () => Promise.resolve(true) }];
  });
  services = await Promise.all(definitions.map(startService));
  try {
    await Promise.all(services.map((service) => service.waitUntilReady(AbortSignal.timeout(LIMIT_MS))));
  } catch (error) {
    await Promise.all(services.map((service) => service.stop()));
    throw error;
  }
  const { cache, replica } = config.accounts;
  environment = {
    NODE_EXTRA_CA_CERTS: caFileOf(home),
    TIDEMARK_CACHE_ACCOUNT_URL: `https://127.0.0.1:${ports.blob}/${cache.name}`,
    TIDEMARK_REPLICA_ACCOUNT_URL: `https://127.0.0.1:${ports.blob}/${replica.name}`,
    TIDEMARK_SERVICE_BUS_NAMESPACE: `localhost:${ports.broker}`,
  };
}

async function runChild(...args: string[]): Promise<ChildReport> {
  const program = fileURLToPath(new URL('./identity-child.ts', import.meta.url));
  const child = spawn(process.execPath, [program, ...args], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
  const [code] = (await once(child, 'close')) as [number | null];
  expect({ code, stderr: output.stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(output.stdout) as ChildReport;
}

describe('a process with tokens alone', () => {
  const outFile = join(home, 'out.img');
  let trace: string;
  let report: ChildReport;
  beforeAll(async () => {
    await ensureCertificate(home, Date.now());
    [trace] = await Promise.all([writeSyntheticTrace(join(home, 'trace')), onFreePorts(start)]);
    report = await runChild(trace, outFile);
  }, LIMIT_MS);
  afterAll(async () => {
    await Promise.all(services.map((service) => service.stop()));
    rmSync(home, { recursive: true, force: true });
  });

  it('has no connection string, and asks for the scopes of storage and Service Bus only', () => {
    expect(Object.keys(environment).filter((name) => name.includes('CONNECTION_STRING'))).toEqual([]);
    expect(report.scopes).toEqual(['https://servicebus.azure.net//.default', 'https://storage.azure.com/.default']);
  });

  it('protects, ships, drains and makes a point, whose bytes are those of the trace', () => {
    expect(report.workerErrors).toEqual([]);
    const point = report.points.at(-1);
    expect(point).toMatchObject({ kind: 'crash', cut: '2026-11-20T04:05:00.000000Z' });
    const replay = new TraceReplay(trace, 0);
    replay.advance({ beforeUs: usOf(point?.cut ?? ''), startUs: usOf(START), stretch: STRETCH });
    expect(readFileSync(outFile).equals(replay.image)).toBe(true);
  });

  it('reports on the topic, and carries out a command of the queue', () => {
    expect(report.events).toContain('Tidemark.PointCreated');
    expect(report).toMatchObject({ reply: 'finished', made: { point: expect.stringMatching(/-at$/) as string } });
  });

  it('says what is wrong when nobody signs in', () => {
    for (const name of ['nobody', 'nothing', 'topic, nobody']) {
      expect(report.refusals[name], name).toMatchObject({ code: 'SIGN_IN_FAILED' });
    }
    expect(report.refusals['nobody']?.message).toBe('no token: nobody is here');
  });

  it('says what is wrong when a token is for somebody else, or has expired, without showing it', () => {
    for (const name of ['stranger', 'expired']) {
      const { code, message } = report.refusals[name] ?? {};
      expect(code, name).toBe('ACCESS_DENIED');
      expect(message, name).toMatch(/: 40[13] \w+ at 127\.0\.0\.1:\d+\/\w+; the token or key is not valid there/);
      expect(report.refusals[`topic, ${name}`], name).toMatchObject({ code: 'MESSAGING_REFUSED' });
    }
    for (const [name, { text }] of Object.entries(report.refusals)) expect(text, name).not.toContain('eyJ');
  });
});
