/** `tidemark point serve`: a disk of a point over NBD, at once. */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { TidemarkError } from '../../errors.ts';
import { formatBytes, GIB, parseSize } from '../../model/sizes.ts';
import { type ServedPoint, servePoint } from '../../serve/serve-point.ts';
import { BLOCK_BYTES } from '../../serve/snapshot-disk.ts';
import type { CliContext } from '../context.ts';
import { describeError, printJson, printLine } from '../output.ts';
import { withRuntime } from '../with-runtime.ts';

/** Our choice: beyond that, a copy is the better way. */
const MAX_CACHE_BYTES = 16 * GIB;

interface ServeArguments {
  readonly disk: string;
  readonly host: string;
  readonly port: string;
  readonly writable?: boolean;
  readonly scratch?: string;
  readonly cache: string;
}

export function registerServe(point: Command, context: CliContext): void {
  point
    .command('serve <group> <point>')
    .description('give one disk of a point over NBD, without a copy, until SIGTERM or Ctrl-C')
    .requiredOption('--disk <id>', 'disk, or machine/disk')
    .option('--port <port>', 'port to listen on; 0: any free one', '10809')
    .option(
      '--host <address>',
      'address to listen on; NBD has no passwords, so whoever reaches it has the disk',
      '127.0.0.1',
    )
    .option('--writable', 'take writes, and keep them beside the point, which never changes')
    .option('--scratch <file>', 'where --writable keeps them; the next serve of the disk goes on from there')
    .option('--cache <size>', 'memory for blocks that were read', '64MiB')
    .action(async (group: string, id: string, options: ServeArguments) => {
      const port = parsePort(options.port);
      const cacheBytes = parseCache(options.cache);
      const { disk, host, scratch } = options;
      if (scratch !== undefined && options.writable !== true) {
        throw new TidemarkError('USAGE', '--scratch is for --writable');
      }
      await withRuntime(context, async ({ ports }) => {
        const served = await servePoint({
          ...ports,
          group,
          point: id,
          disk,
          host,
          port,
          cacheBytes,
          ...(options.writable === true && { scratch: scratch === undefined ? {} : { file: scratch } }),
          owner: `serve:${hostname()}:${process.pid}`,
          onFailure: reportOncePerMinute(context, ports.clock),
          signal: context.signal,
        });
        try {
          announce(context, served);
          await untilEnded(context.signal, served.failed);
        } finally {
          await served.close();
        }
      });
    });
}

function announce(context: CliContext, { uri, host, port, exportName, sizeBytes, readOnly }: ServedPoint): void {
  if (context.json) printJson(context, { uri, host, port, export: exportName, sizeBytes, readOnly });
  else printLine(context, `${uri}  ${formatBytes(sizeBytes)}, ${readOnly ? 'read-only' : 'writable'}`);
}

/** Ends when `stop` aborts. @throws the reason of `failed` when that aborts first */
async function untilEnded(stop: AbortSignal, failed: AbortSignal): Promise<void> {
  const either = AbortSignal.any([stop, failed]);
  if (!either.aborted) await new Promise((resolve) => either.addEventListener('abort', resolve, { once: true }));
  if (!stop.aborted) throw failed.reason;
}

const REPORT_EVERY_MS = 60_000;

/** One line on stderr for each kind of failure and minute: clients repeat what has failed, many times a second. */
function reportOncePerMinute(context: CliContext, clock: { readonly nowMs: () => number }): (error: unknown) => void {
  const reportedAtMs = new Map<string, number>();
  return (error) => {
    const code = error instanceof TidemarkError ? error.code : 'UNEXPECTED';
    const nowMs = clock.nowMs();
    if (nowMs - (reportedAtMs.get(code) ?? -Infinity) < REPORT_EVERY_MS) return;
    reportedAtMs.set(code, nowMs);
    context.stderr.write(`a request failed: ${describeError(error)}\n`);
  };
}

function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(port <= 65_535)) throw new TidemarkError('USAGE', `--port ${text}: a port is a number from 0 to 65535`);
  return port;
}

function parseCache(text: string): number {
  const bytes = parseSize(text);
  if (bytes < BLOCK_BYTES || bytes > MAX_CACHE_BYTES) {
    throw new TidemarkError(
      'USAGE',
      `--cache ${text}: from ${formatBytes(BLOCK_BYTES)} to ${formatBytes(MAX_CACHE_BYTES)}`,
    );
  }
  return bytes;
}
