/** Points of a real trace, served over NBD by the command line and read by programs that know nothing of Tidemark. */
import { execFile } from 'node:child_process';
import { accessSync, constants, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createContext } from '../../src/cli/context.ts';
import { runCommand } from '../../src/cli/main.ts';
import { expectBytes, pattern } from '../contracts/support.ts';
import { Operator } from '../support/cli.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { useStack } from '../support/stack.ts';
import { tracePath } from '../support/trace-oracle.ts';

const stack = useStack();
const operator = new Operator(() => stack.environment);
const run = promisify(execFile);
const MIB = 1024 * 1024;
const SIZE = 128 * MIB;
const DISK = 'disk0';

/** Whether a program is on the path; tests with a program exist only where it does. */
function installed(...programs: readonly string[]): boolean {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return programs.every((program) =>
    folders.some((folder) => {
      try {
        accessSync(join(folder, program), constants.X_OK);
        return true;
      } catch {
        return false;
      }
    }),
  );
}

interface Announced {
  readonly uri: string;
  readonly host: string;
  readonly port: number;
  readonly export: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
}

interface Running extends Announced {
  /** What an operator's Ctrl-C does; the exit code. */
  stop(): Promise<{ exitCode: number | 'interrupted'; stderr: string }>;
}

/** `tidemark point serve … --json`, from its announcement to its end. */
async function serve(point: string, ...options: readonly string[]): Promise<Running> {
  const stop = new AbortController();
  const announced = Promise.withResolvers<Announced>();
  let stderr = '';
  const context = createContext({
    env: stack.environment,
    stdout: { write: (text) => announced.resolve(JSON.parse(text) as Announced) },
    stderr: { write: (text) => void (stderr += text) },
    isTerminal: false,
    signal: stop.signal,
  });
  const argv = ['point', 'serve', 'shop', point, '--disk', DISK, '--port', '0', '--json', ...options];
  const ended = runCommand(argv, context);
  const early = ended.then((exitCode) => Promise.reject(new Error(`ended with ${exitCode}: ${stderr}`)));
  early.catch(() => undefined);
  return {
    ...(await Promise.race([announced.promise, early])),
    async stop() {
      stop.abort(new Error('enough'));
      return { exitCode: await ended, stderr };
    },
  };
}

let folder: string;
/** The oldest and the newest point, and the bytes of the newest as `point export` gives them. */
let first: string;
let point: string;
let image: Buffer;
const exported = (): string => join(folder, 'exported.img');

beforeAll(async () => {
  folder = mkdtempSync(join(stack.home, 'serve-'));
  await operator.ok('policy', 'set', 'daily');
  await operator.ok('group', 'protect', 'shop', '--policy', 'daily', '--machine', 'db', '--disk', `${DISK}=${SIZE}`);
  const trace = ['--trace', tracePath('t1-ext4-sqlite'), '--start', '2026-11-20T04:00:00Z', '--stretch', '40'];
  await operator.ok('source', 'ship', 'shop', ...trace, '--until', '12', '--segment-seconds', '60');
  await operator.ok('worker', 'run', '--once', '--group', 'shop');
  const points = await operator.json<{ id: string }[]>('point', 'list', 'shop');
  first = points[0]?.id ?? '';
  point = points.at(-1)?.id ?? '';
  await operator.ok('point', 'export', 'shop', point, '--disk', DISK, '--out', exported());
  image = readFileSync(exported());
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true }));

const pinsOf = async (id: string): Promise<boolean> => {
  const listed = await operator.json<{ id: string; pinned: boolean }[]>('point', 'list', 'shop');
  return listed.find((one) => one.id === id)?.pinned === true;
};

async function readAll(port: number): Promise<Buffer> {
  const client = new NbdClient(port);
  const { size } = await client.open();
  const pieces: Buffer[] = [];
  for (let at = 0; at < Number(size); at += 8 * MIB) {
    pieces.push(await client.read(at, Math.min(8 * MIB, Number(size) - at)));
  }
  await client.close();
  return Buffer.concat(pieces);
}

async function exportAgain(): Promise<Buffer> {
  const file = join(folder, 'again.img');
  await operator.ok('point', 'export', 'shop', point, '--disk', DISK, '--out', file);
  const bytes = readFileSync(file);
  rmSync(file);
  return bytes;
}

describe('tidemark point serve', () => {
  it('gives the bytes of the point, holds it meanwhile, and ends with 0', async () => {
    const served = await serve(point);
    expect(served).toMatchObject({
      uri: `nbd://127.0.0.1:${served.port}/shop.${point}.${DISK}`,
      host: '127.0.0.1',
      export: `shop.${point}.${DISK}`,
      sizeBytes: SIZE,
      readOnly: true,
    });
    expect(await pinsOf(point)).toBe(true);
    expectBytes(await readAll(served.port), image);
    const client = new NbdClient(served.port);
    await client.open();
    const payload = Buffer.alloc(512, 1);
    expect(await client.simple({ command: 1, length: 512, payload })).toBe(1);
    let holes = 0;
    for (let at = 0; at < image.length;) {
      for (const [length, flags] of await client.status(at, image.length - at)) {
        if (flags === 3) {
          holes += length;
          expect(image.subarray(at, at + length).every((byte) => byte === 0)).toBe(true);
        }
        at += length;
      }
    }
    expect(holes).toBeGreaterThan(MIB);
    expect(await served.stop()).toEqual({ exitCode: 0, stderr: '' });
    await client.rest();
    expect(await pinsOf(point)).toBe(false);
  });

  it('takes changes with --writable, and forgets them; the point stays as it is', async () => {
    const served = await serve(point, '--writable');
    expect(served.readOnly).toBe(false);
    const expected = Buffer.from(image);
    const client = new NbdClient(served.port);
    await client.open();
    for (const [offset, length] of [
      [4096, 4096],
      [100_001, 777],
      [60 * MIB - 3, 300_000],
    ] as const) {
      const payload = pattern(offset, length);
      payload.copy(expected, offset);
      expect(await client.simple({ command: 1, offset, length, payload })).toBe(0);
    }
    expect(await client.simple({ command: 6, offset: 20 * MIB - 100, length: MIB })).toBe(0);
    expected.fill(0, 20 * MIB - 100, 21 * MIB - 100);
    expect(await client.simple({ command: 3 })).toBe(0);
    expectBytes(await readAll(served.port), expected);
    expectBytes(await exportAgain(), image);
    await client.close();
    expect((await served.stop()).exitCode).toBe(0);
    const anew = await serve(point, '--writable');
    expectBytes(await readAll(anew.port), image);
    await anew.stop();
  });

  it('keeps changes in a named scratch file, for the same disk of the same point', async () => {
    const scratch = join(folder, 'changes');
    const payload = pattern(5, 10_000);
    const expected = Buffer.from(image);
    payload.copy(expected, 5 * MIB + 1);
    const served = await serve(point, '--writable', '--scratch', scratch);
    const client = new NbdClient(served.port);
    await client.open();
    expect(await client.simple({ command: 1, offset: 5 * MIB + 1, length: 10_000, payload })).toBe(0);
    await client.close();
    await served.stop();
    const anew = await serve(point, '--writable', '--scratch', scratch);
    expectBytes(await readAll(anew.port), expected);
    await anew.stop();
    await expect(serve(first, '--writable', '--scratch', scratch)).rejects.toThrow('error[SCRATCH_UNUSABLE]');
    await expect(serve(point, '--writable', '--scratch', exported())).rejects.toThrow('error[SCRATCH_UNUSABLE]');
    expectBytes(readFileSync(exported()), image);
    expect(await pinsOf(first)).toBe(false);
  });

  it('refuses what cannot be, and leaves no pin', async () => {
    const served = await serve(first);
    await expect(serve(point, '--port', String(served.port))).rejects.toThrow('error[SERVE_PORT_TAKEN]');
    await served.stop();
    await expect(serve('20200101T000000.000000Z-crash')).rejects.toThrow('error[POINT_NOT_FOUND]');
    await expect(serve(point, '--disk', 'other')).rejects.toThrow('error[DISK_NOT_FOUND]');
    await expect(serve(point, '--port', '65536')).rejects.toThrow('error[USAGE]');
    await expect(serve(point, '--cache', '1KiB')).rejects.toThrow('error[USAGE]');
    await expect(serve(point, '--scratch', 'x')).rejects.toThrow('error[USAGE]');
    expect(await pinsOf(point)).toBe(false);
  });
});

const withLibnbd = installed('nbdinfo', 'nbdcopy');
const withQemu = installed('qemu-img', 'qemu-io');
const withExt4 = installed('nbdcopy', 'e2fsck');

/** Registers the test where the programs are there; nothing depends on it. */
const where = (available: boolean, name: string, test: () => Promise<void>): void => {
  if (available) it(name, test);
};

describe('foreign clients', () => {
  it('are optional', () => {
    expect([withLibnbd, withQemu, withExt4].every((one) => typeof one === 'boolean')).toBe(true);
  });

  where(withLibnbd, 'libnbd describes the export, maps it, and copies it whole', async () => {
    const served = await serve(point);
    const { stdout } = await run('nbdinfo', ['--json', served.uri]);
    const described = JSON.parse(stdout) as { exports: Record<string, unknown>[] };
    expect(described.exports[0]).toMatchObject({
      'export-name': served.export,
      'export-size': SIZE,
      is_read_only: true,
      can_multi_conn: true,
      can_df: true,
      block_size_minimum: 1,
      block_size_preferred: 4096,
      block_size_maximum: 32 * MIB,
    });
    const listed = await run('nbdinfo', ['--list', `nbd://127.0.0.1:${served.port}`]);
    expect(listed.stdout).toContain(served.export);
    expect((await run('nbdinfo', ['--map', '--totals', served.uri])).stdout).toMatch(/hole,zero/);
    const copy = join(folder, 'copied.img');
    await run('nbdcopy', [served.uri, copy]);
    expectBytes(readFileSync(copy), image);
    rmSync(copy);
    expect((await served.stop()).exitCode).toBe(0);
  });

  where(withLibnbd, 'libnbd writes a whole disk to it', async () => {
    const served = await serve(point, '--writable');
    const file = join(folder, 'other.img');
    await operator.ok('point', 'export', 'shop', first, '--disk', DISK, '--out', file);
    await run('nbdcopy', ['--flush', file, served.uri]);
    expectBytes(await readAll(served.port), readFileSync(file));
    rmSync(file);
    expect((await served.stop()).exitCode).toBe(0);
    expectBytes(await exportAgain(), image);
  });

  where(withQemu, 'qemu finds no difference, converts it, and verifies what it writes', async () => {
    const served = await serve(point, '--writable');
    await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', served.uri, exported()]);
    const copy = join(folder, 'converted.qcow2');
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', served.uri, copy]);
    await run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', copy, exported()]);
    rmSync(copy);
    const commands = ['write -P 0x5a 1M 3M', 'write -P 0x11 4097 511', 'write -z 2M 1M', 'discard 6M 1M', 'flush'];
    const checks = ['read -P 0x5a 1M 1M', 'read -P 0 2M 1M', 'read -P 0x5a 3M 1M', 'read -P 0x11 4097 511'];
    const args = [...commands, ...checks, 'read -P 0 6M 1M'].flatMap((command) => ['-c', command]);
    const { stdout } = await run('qemu-io', ['-f', 'raw', ...args, served.uri]);
    expect(stdout).not.toMatch(/fail|error/i);
    expect((await served.stop()).exitCode).toBe(0);
    expectBytes(await exportAgain(), image);
  });

  where(withExt4, 'e2fsck finds a sound file system in an app-consistent point', async () => {
    const points = await operator.json<{ id: string; kind: string }[]>('point', 'list', 'shop', '--kind', 'app');
    const app = points.at(-1)?.id ?? '';
    const served = await serve(app);
    const copy = join(folder, 'checked.img');
    await run('nbdcopy', [served.uri, copy]);
    await run('e2fsck', ['-fn', copy], {
      env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}${delimiter}/usr/sbin${delimiter}/sbin` },
    });
    rmSync(copy);
    expect((await served.stop()).exitCode).toBe(0);
  });
});
