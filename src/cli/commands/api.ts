/** `tidemark api run | openapi`: the HTTP door. */
import type { Command } from 'commander';
import type { ApiOptions } from '../../api/context.ts';
import { TidemarkError } from '../../errors.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine } from '../output.ts';
import { errorLines } from '../report.ts';
import { withObservedRuntime } from '../with-runtime.ts';

const DEFAULT_HOST = '127.0.0.1';
/** Next to the ports of the local stack. */
const DEFAULT_PORT = 10_103;

interface RunOptions {
  readonly host: string;
  readonly port: string;
  readonly tokenFile?: string;
  readonly insecureHttp?: boolean;
}

export function register(program: Command, context: CliContext): void {
  const api = program.command('api').description('commands and status over HTTP');
  api
    .command('run')
    .description('serve until SIGTERM; jobs that were given by HTTP and are not over are taken up again')
    .option('--host <address>', 'address to listen on', DEFAULT_HOST)
    .option('--port <port>', 'port to listen on; 0 for any that is free', String(DEFAULT_PORT))
    .option('--token-file <file>', 'file with the local token; else TIDEMARK_API_TOKEN_FILE')
    .option('--insecure-http', 'listen where others reach it: something in front of it speaks TLS')
    .action((options: RunOptions) => run(context, options));
  api
    .command('openapi')
    .description('print the OpenAPI document; connects to nothing')
    .action(async () => {
      const { openApiDocument } = await import('../../api/openapi.ts');
      const document = openApiDocument();
      if (context.json) printJson(context, document);
      else printLine(context, JSON.stringify(document, undefined, 2));
    });
}

async function run(context: CliContext, options: RunOptions): Promise<void> {
  const port = parsePort(options.port);
  const { openVerifiers } = await import('../../api/verifiers.ts');
  const { verifiers, tokenFile } = openVerifiers(context.configuration(), options.tokenFile);
  const { startApi } = await import('../../api/server.ts');
  await withObservedRuntime(context, async ({ ports, commands }) => {
    const serving: Omit<ApiOptions, 'runner'> = {
      ports,
      commands,
      verifiers: verifiers(() => ports.clock.nowMs()),
      report: (error) => {
        context.stderr.write(errorLines(error));
      },
      signal: context.signal,
    };
    const { url, ended } = await startApi({
      ...serving,
      host: options.host,
      port,
      isInsecureAllowed: options.insecureHttp === true,
      random: Math.random,
    });
    if (context.json) printJson(context, { url, tokenFile });
    else printLine(context, `listening on ${url}${tokenFile === null ? '' : `, token in ${tokenFile}`}`);
    await ended;
  });
}

/** @throws TidemarkError USAGE */
function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65_535) throw new TidemarkError('USAGE', `--port ${text} is no port`);
  return port;
}
