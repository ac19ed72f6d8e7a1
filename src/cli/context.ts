/** What a command gets from the world: everything that is not its arguments. */
import { readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';
import { type Configuration, type Environment, parseConfiguration } from '../config.ts';
import { TidemarkError } from '../errors.ts';

/** Takes text; what is written appears in order. */
export interface TextWriter {
  write(text: string): void;
}

/** 0: done. 1: failed. 2: wrong usage. 3: done, but something needs attention. */
export type ExitCode = 0 | 1 | 2 | 3;

export interface CliContext {
  /** The process's environment, with what `--env FILE` adds. */
  readonly env: Environment;
  readonly stdout: TextWriter;
  readonly stderr: TextWriter;
  /** Whether a person reads along: colours, bars and questions make sense. */
  readonly isTerminal: boolean;
  /** True with `--json`: one JSON document, or one per line for streams, on stdout. */
  readonly json: boolean;
  /** Aborted by the first SIGINT or SIGTERM. A second one ends the process at once. */
  readonly signal: AbortSignal;
  /** Asks the person at the terminal; undefined without one. */
  readonly ask: ((question: string) => Promise<string>) | undefined;
  /** Parsed at the first call. @throws TidemarkError CONFIG_MISSING, CONFIG_INVALID */
  configuration(): Configuration;
  /** The exit code of a command that ends without an error; 0 unless set. */
  setExitCode(code: ExitCode): void;
}

export interface World {
  readonly env: Environment;
  readonly stdout: TextWriter;
  readonly stderr: TextWriter;
  readonly isTerminal: boolean;
  readonly signal: AbortSignal;
  readonly ask?: (question: string) => Promise<string>;
}

/** Options that every command takes. */
export interface GlobalOptions {
  readonly json?: boolean;
  /** Path of a file with `NAME=value` lines. */
  readonly env?: string;
}

export interface ControlledContext extends CliContext {
  readonly exitCode: ExitCode;
  /** Called once the arguments are parsed, before a command runs. @throws TidemarkError USAGE */
  applyGlobals(options: GlobalOptions): void;
}

export function createContext(world: World): ControlledContext {
  let { env } = world;
  let json = false;
  let exitCode: ExitCode = 0;
  let configuration: Configuration | undefined;
  return {
    stdout: world.stdout,
    stderr: world.stderr,
    isTerminal: world.isTerminal,
    signal: world.signal,
    ask: world.ask,
    get env() {
      return env;
    },
    get json() {
      return json;
    },
    get exitCode() {
      return exitCode;
    },
    configuration() {
      configuration ??= parseConfiguration(env);
      return configuration;
    },
    setExitCode(code) {
      exitCode = code;
    },
    applyGlobals(options) {
      json = options.json === true;
      // The real environment wins over the file.
      if (options.env !== undefined) env = { ...readEnvironmentFile(options.env), ...world.env };
    },
  };
}

/** `NAME=value` lines; quotes, comments and `export ` as shells have them. */
function readEnvironmentFile(file: string): Environment {
  try {
    return parseEnv(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new TidemarkError('USAGE', `--env: cannot read ${file}`, { cause });
  }
}
