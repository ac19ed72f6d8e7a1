/** The command line as an operator uses it, in this process: arguments in, exit code and output out. */
import { createContext } from '../../src/cli/context.ts';
import { runCommand } from '../../src/cli/main.ts';

export interface CommandResult {
  readonly exitCode: number | 'interrupted';
  readonly stdout: string;
  readonly stderr: string;
}

/** Longer than any command of a test, shorter than a run that hangs. */
const COMMAND_LIMIT_MS = 100_000;

export async function runTidemark(
  env: Readonly<Record<string, string>>,
  argv: readonly string[],
): Promise<CommandResult> {
  const output = { stdout: '', stderr: '' };
  const context = createContext({
    env,
    stdout: { write: (text) => void (output.stdout += text) },
    stderr: { write: (text) => void (output.stderr += text) },
    isTerminal: false,
    signal: AbortSignal.timeout(COMMAND_LIMIT_MS),
  });
  const exitCode = await runCommand(argv, context);
  return { exitCode, ...output };
}

/** Somebody at a shell with one environment. */
export class Operator {
  readonly #environment: () => Readonly<Record<string, string>>;

  /** `environment` is asked at every command, since a test stack has none before its hooks have run. */
  constructor(environment: () => Readonly<Record<string, string>>) {
    this.#environment = environment;
  }

  /** The same person with more variables set. */
  with(variables: Readonly<Record<string, string>>): Operator {
    return new Operator(() => ({ ...this.#environment(), ...variables }));
  }

  run(...argv: string[]): Promise<CommandResult> {
    return runTidemark(this.#environment(), argv);
  }

  /** @throws Error with what the command wrote to stderr unless it exits with 0 */
  async ok(...argv: string[]): Promise<CommandResult> {
    const result = await this.run(...argv);
    if (result.exitCode === 0) return result;
    throw new Error(`tidemark ${argv.join(' ')} exited with ${result.exitCode}\n${result.stderr}${result.stdout}`);
  }

  /** The one JSON document that the command prints. */
  async json<T>(...argv: string[]): Promise<T> {
    const { stdout } = await this.ok(...argv, '--json');
    return JSON.parse(stdout) as T;
  }

  /** One JSON document per line. */
  async jsonLines<T>(...argv: string[]): Promise<T[]> {
    const { stdout } = await this.ok(...argv, '--json');
    return stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as T);
  }
}
