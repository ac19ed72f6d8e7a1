/** Exports happen only where they are configured, arrive there, and never hold up an end. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { parseConfiguration } from '../../src/config.ts';
import { TidemarkError } from '../../src/errors.ts';
import { FLUSH_LIMIT_MS, startTelemetry } from '../../src/telemetry/start.ts';
import { inSpan } from '../../src/telemetry/tracing.ts';

const CHILD = fileURLToPath(new URL('export-child.ts', import.meta.url));
const CONNECTIONS = {
  TIDEMARK_CACHE_CONNECTION_STRING:
    'DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;BlobEndpoint=http://127.0.0.1:1/a;',
  TIDEMARK_REPLICA_CONNECTION_STRING:
    'DefaultEndpointsProtocol=http;AccountName=b;AccountKey=YQ==;BlobEndpoint=http://127.0.0.1:1/b;',
  TIDEMARK_SERVICE_BUS_CONNECTION_STRING:
    'Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=n;SharedAccessKey=YQ==;UseDevelopmentEmulator=true',
};

/** A collector for OTLP over HTTP. */
class Collector {
  readonly received: { readonly path: string; readonly text: string }[] = [];
  readonly sockets = new Set<Socket>();
  readonly #server: Server;

  private constructor(answers: boolean) {
    this.#server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const body = Buffer.concat(chunks);
        const bytes = request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body;
        this.received.push({ path: request.url ?? '', text: bytes.toString('utf8') });
        if (answers) response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
      });
    }).on('connection', (socket) => this.sockets.add(socket));
  }

  static async start(answers: boolean): Promise<Collector> {
    const collector = new Collector(answers);
    await new Promise<void>((resolve) => collector.#server.listen(0, '127.0.0.1', resolve));
    return collector;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  of(path: string): string {
    return this.received
      .filter((each) => each.path === path)
      .map(({ text }) => text)
      .join('');
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
  }
}

const open: Collector[] = [];
afterEach(() => {
  for (const collector of open.splice(0)) collector.close();
});

async function collect(answers = true): Promise<Collector> {
  const collector = await Collector.start(answers);
  open.push(collector);
  return collector;
}

interface ChildReport {
  readonly modules: readonly string[];
  readonly sockets: readonly string[];
}

async function runChild(environment: Record<string, string>): Promise<ChildReport> {
  const child = spawn(process.execPath, [CHILD], {
    env: { ...CONNECTIONS, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let stdout = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  await once(child, 'close');
  return JSON.parse(stdout) as ChildReport;
}

const SDK = /node_modules\/@opentelemetry\/(?!api\/)/;

describe('where nothing is configured', () => {
  it('no SDK is loaded and no connection is made; an empty variable counts as none', async () => {
    const { modules, sockets } = await runChild({ OTEL_EXPORTER_OTLP_ENDPOINT: '' });
    expect(modules.filter((url) => SDK.test(url))).toEqual([]);
    expect(modules.some((url) => url.includes('@opentelemetry/api'))).toBe(true);
    expect(sockets).toEqual([]);
  });
});

describe('where an endpoint is configured', () => {
  it('a process loads the SDK, and what it has counted arrives with its end', async () => {
    const collector = await collect();
    const { modules } = await runChild({
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_SERVICE_NAME: 'tidemark-west',
    });
    expect(modules.some((url) => SDK.test(url))).toBe(true);
    const metrics = collector.of('/v1/metrics');
    for (const text of ['tidemark.storage.requests', 'ListBlobs', 'replica', 'none', 'tidemark-west'])
      expect(metrics).toContain(text);
    expect(collector.of('/v1/traces')).toContain('tidemark.point.remove');
  });

  it('spans and metrics of this process arrive, without secrets', async () => {
    const collector = await collect();
    const telemetry = await startTelemetry(
      { logLevel: 'info', otlpEndpoint: `${collector.url}/` },
      { report: () => undefined },
    );
    const failing = inSpan(telemetry.tracer, { name: 'tidemark.job', attributes: { job: 'j1' } }, async () => {
      throw new TidemarkError('STORAGE_TIMEOUT', 'Read https://a.test/?sig=c2VjcmV0');
    });
    await expect(failing).rejects.toThrow('Read');
    telemetry.instruments.add('tidemark.leases', 2, { account: 'replica', container: 'catalog', event: 'taken' });
    await telemetry.shutdown();
    expect(collector.received.map(({ path }) => path).toSorted()).toEqual(['/v1/metrics', '/v1/traces']);
    expect(collector.of('/v1/metrics')).toContain('tidemark.leases');
    const spans = collector.of('/v1/traces');
    for (const text of ['tidemark.job', 'j1', 'STORAGE_TIMEOUT', 'sig=…']) expect(spans).toContain(text);
    expect(spans).not.toContain('c2VjcmV0');
  });

  it('idle cycles make no spans; long, eventful and failed ones do', async () => {
    const collector = await collect();
    const telemetry = await startTelemetry(
      { logLevel: 'info', otlpEndpoint: collector.url },
      { report: () => undefined },
    );
    const cycle = (group: string, work: Parameters<typeof inSpan>[2]) =>
      inSpan(telemetry.tracer, { name: 'tidemark.group.cycle', attributes: { group } }, work).catch(() => undefined);
    await cycle('group-idle', async () => undefined);
    await cycle('group-eventful', async (span) => void span.addEvent('PointCreated'));
    await cycle('group-failed', async () => Promise.reject(new Error('no')));
    await telemetry.shutdown();
    const spans = collector.of('/v1/traces');
    expect(spans).not.toContain('group-idle');
    for (const text of ['group-eventful', 'group-failed']) expect(spans).toContain(text);
  });

  it('an endpoint that hangs holds up the end for a bounded time', async () => {
    const collector = await collect(false);
    const reports: string[] = [];
    const telemetry = await startTelemetry(
      { logLevel: 'info', otlpEndpoint: collector.url },
      { report: (message) => reports.push(message) },
    );
    telemetry.instruments.add('tidemark.points.created', 1, { group: 'shop', kind: 'crash' });
    const beganAtMs = performance.now();
    await telemetry.shutdown();
    const tookMs = performance.now() - beganAtMs;
    expect(collector.of('/v1/metrics')).toContain('tidemark.points.created');
    expect(tookMs).toBeGreaterThan(FLUSH_LIMIT_MS - 50);
    expect(tookMs).toBeLessThan(FLUSH_LIMIT_MS + 1500);
    expect(reports).toEqual([expect.stringMatching(/^telemetry was not taken within 2000 ms/)]);
  });

  it('an endpoint that refuses is told of once, without its secrets', async () => {
    const reports: string[] = [];
    const telemetry = await startTelemetry(
      { logLevel: 'info', otlpEndpoint: 'http://user:hunter22@127.0.0.1:1' },
      { report: (message) => reports.push(message), exportIntervalMs: 1000 },
    );
    telemetry.instruments.add('tidemark.points.created', 1, { group: 'shop', kind: 'crash' });
    await inSpan(telemetry.tracer, { name: 'tidemark.job', attributes: {} }, async () => undefined);
    await telemetry.shutdown();
    expect(reports).toHaveLength(1);
    expect(reports[0]).toMatch(/^telemetry cannot be exported: .*ECONNREFUSED/);
    expect(reports[0]).not.toContain('hunter22');
  });

  it('of another protocol nothing is sent, and it is said why', async () => {
    const collector = await collect();
    const reports: string[] = [];
    const { telemetry } = parseConfiguration({
      ...CONNECTIONS,
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
    });
    const running = await startTelemetry(telemetry, { report: (message) => reports.push(message) });
    running.instruments.add('tidemark.points.created', 1, { group: 'shop', kind: 'crash' });
    await running.shutdown();
    expect(collector.sockets.size).toBe(0);
    expect(reports).toEqual([expect.stringMatching(/^OTEL_EXPORTER_OTLP_PROTOCOL is grpc; nothing is exported/)]);
  });
});

describe('configuration', () => {
  it('has a level of the log, and an endpoint only when it is set', () => {
    expect(parseConfiguration(CONNECTIONS).telemetry).toEqual({ logLevel: 'info' });
    const set = { ...CONNECTIONS, TIDEMARK_LOG_LEVEL: 'debug', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' };
    expect(parseConfiguration(set).telemetry).toEqual({ logLevel: 'debug', otlpEndpoint: 'http://collector:4318' });
  });

  it.each([
    ['TIDEMARK_LOG_LEVEL', 'loud'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4318'],
  ])('refuses %s=%s', (name, text) => {
    expect(() => parseConfiguration({ ...CONNECTIONS, [name]: text })).toThrow(new RegExp(name));
  });
});
