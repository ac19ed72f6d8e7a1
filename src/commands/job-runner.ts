/** Executes jobs in this process: a bounded number at once, each once, whoever asks for it. */
import PQueue from 'p-queue';
import { TidemarkError } from '../errors.ts';
import { backoffMs, type Sleep } from '../retry.ts';
import type { CommandService, JobView } from './commands.ts';

export const JOBS_AT_ONCE = 4;
/** Jobs that wait for their turn; beyond them, new ones are refused. */
export const MAX_WAITING_JOBS = 64;
/** A job whose journal cannot be written is taken up again within about a minute; then the next start or redelivery does it. */
const EXECUTE_RETRY = { attempts: 6, firstDelayMs: 1000, maxDelayMs: 30_000 } as const;

export interface JobRunnerOptions {
  readonly commands: CommandService;
  readonly sleep: Sleep;
  /** In [0, 1). */
  readonly random: () => number;
  /** Stops all executions; their jobs stay where they are. */
  readonly signal: AbortSignal;
}

export type JobId = Pick<JobView, 'group' | 'job'>;

export interface JobRunner {
  readonly hasRoom: boolean;
  /** Jobs that are executed or wait for it. */
  readonly underWay: number;
  /** Resolves when {@link JobRunner.hasRoom}. */
  untilRoom(): Promise<void>;
  /**
   * Executes the job to its end, or joins the execution that is under way here.
   * @throws TidemarkError as `CommandService.execute`, after retries; the signal's reason
   */
  execute(job: JobId): Promise<JobView>;
  /** Resolves when nothing is executed any more. */
  idle(): Promise<void>;
}

export function createJobRunner(options: JobRunnerOptions): JobRunner {
  const queue = new PQueue({ concurrency: JOBS_AT_ONCE });
  const underWay = new Map<string, Promise<JobView>>();
  return {
    get hasRoom() {
      return queue.size < MAX_WAITING_JOBS;
    },
    get underWay() {
      return underWay.size;
    },
    untilRoom: () => queue.onSizeLessThan(MAX_WAITING_JOBS),
    idle: () => queue.onIdle(),
    execute: ({ group, job }) => {
      const id = `${group}/${job}`;
      const known = underWay.get(id);
      if (known !== undefined) return known;
      const execution = queue.add(() => withPatience(options, { group, job })).finally(() => underWay.delete(id));
      underWay.set(id, execution);
      return execution;
    },
  };
}

/** Another executor that has taken the job over goes on with it: then it is not taken back. */
async function withPatience(options: JobRunnerOptions, { group, job }: JobId): Promise<JobView> {
  const { commands, sleep, random, signal } = options;
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted();
    try {
      return await commands.execute(group, job, {}, signal);
    } catch (error) {
      const mayPass = error instanceof TidemarkError && error.class === 'retry' && error.code !== 'OWNERSHIP_LOST';
      if (!mayPass || signal.aborted || attempt === EXECUTE_RETRY.attempts) throw error;
    }
    await sleep(backoffMs({ ...EXECUTE_RETRY, random }, attempt), signal);
  }
}
