/** Ending a job from outside: one that another job replaces, or one that has done everything but say so. */
import { inState, isOver, type JobDocument } from './job-document.ts';
import { JobRun, readJob, type JobName } from './job-run.ts';
import type { FailoverPorts } from './ports.ts';

export interface JobEnd extends JobName {
  readonly state: 'succeeded' | 'failed' | 'canceled';
  readonly error?: JobDocument['error'];
}

/** Throws out whoever executes the job. One that is over stays as it is. @throws TidemarkError JOB_NOT_FOUND */
export async function endJob(
  ports: FailoverPorts,
  { state, error = null, ...name }: JobEnd,
  signal: AbortSignal,
): Promise<void> {
  if (isOver(await readJob(ports, name, signal))) return;
  const run = await JobRun.take(ports, name, signal);
  try {
    await run.save((document) =>
      isOver(document) ? document : inState(document, { state, error }, ports.clock.nowUs()),
    );
    await run.flushOutbox();
  } finally {
    await run.close();
  }
}
