/** The container's process, with what it logs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, vi } from 'vitest';
import { PROJECT_ROOT } from '../../src/local/stack-config.ts';

/** As in the image, but kept from run to run. */
const COMPILE_CACHE = join(tmpdir(), 'tidemark-compile-cache');

const running = new Set<ChildProcess>();
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
});

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly code?: string;
  readonly [field: string]: unknown;
}

export interface ProbeAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

export class ContainerChild {
  readonly ended: Promise<number | null>;
  stderr = '';
  #stdout = '';
  readonly #process: ChildProcess;

  constructor(environment: Readonly<Record<string, string>>, nodeArguments: readonly string[] = []) {
    const child = spawn(process.execPath, [...nodeArguments, 'src/hosting/container.ts'], {
      cwd: PROJECT_ROOT,
      env: {
        PATH: process.env['PATH'] ?? '',
        NODE_COMPILE_CACHE: COMPILE_CACHE,
        TIDEMARK_HTTP_PORT: '0',
        ...environment,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = child;
    running.add(child);
    child.stdout.setEncoding('utf8').on('data', (text: string) => (this.#stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.ended = once(child, 'close').then(([code]) => {
      running.delete(child);
      return code as number | null;
    });
  }

  /** @throws SyntaxError when a line is no JSON */
  get lines(): readonly LogLine[] {
    return this.#stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as LogLine);
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  async url(): Promise<string> {
    return vi.waitFor(
      () => {
        const line = this.lines.find(({ msg }) => msg === 'listening');
        if (line === undefined) throw new Error(`it does not listen: ${this.#stdout}${this.stderr}`);
        return String(line['url']).replace('0.0.0.0', '127.0.0.1');
      },
      { timeout: 30_000, interval: 20 },
    );
  }

  async probe(which: 'live' | 'ready'): Promise<ProbeAnswer> {
    const response = await fetch(`${await this.url()}/health/${which}`);
    return { status: response.status, body: (await response.json()) as ProbeAnswer['body'] };
  }
}
