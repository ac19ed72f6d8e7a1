/** `tidemark …` as a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { vi } from 'vitest';
import { PROJECT_ROOT } from '../../src/local/stack-config.ts';

const BIN = join(PROJECT_ROOT, 'bin/tidemark.js');
const running = new Set<ChildProcess>();

export function killAll(): void {
  for (const child of running) child.kill('SIGKILL');
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class Child {
  readonly ended: Promise<Ended>;
  stdout = '';
  stderr = '';
  readonly #process: ChildProcess;

  constructor(environment: Readonly<Record<string, string>>, args: readonly string[]) {
    const child = spawn(process.execPath, [BIN, ...args], {
      env: { PATH: process.env['PATH'] ?? '', ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = child;
    running.add(child);
    child.stdout.setEncoding('utf8').on('data', (text: string) => (this.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.ended = once(child, 'close').then(([code, signal]) => {
      running.delete(child);
      return { code, signal };
    });
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** Waits until stderr matches. */
  async says(pattern: RegExp, timeout = 30_000): Promise<void> {
    await vi.waitFor(
      () => {
        if (!pattern.test(this.stderr)) throw new Error(`no ${String(pattern)} in: ${this.stderr}`);
      },
      { timeout, interval: 20 },
    );
  }
}
