/** What a step works with, and how it is noted in the journal. */
import { assert } from '../errors.ts';
import type { Resumable } from './compute.ts';
import type { JobStepRecord } from './job-document.ts';
import type { JobRun } from './job-run.ts';
import type { FailoverPorts } from './ports.ts';

export interface StepContext {
  readonly ports: FailoverPorts;
  readonly run: JobRun;
  readonly step: JobStepRecord;
  readonly signal: AbortSignal;
}

/** What a step has learned, for its record. */
export type StepOutcome = Partial<Pick<JobStepRecord, 'id'>>;

export function diskOf({ machine, disk, name }: JobStepRecord): { readonly machine: string; readonly disk: string } {
  assert(machine !== null && disk !== null, `step ${name} names a disk`);
  return { machine, disk };
}

/** The operation in Azure of a step, kept in its record. */
export function resumable({ run, step }: StepContext): Resumable {
  return {
    token: run.document.steps.find(({ name }) => name === step.name)?.token ?? null,
    persist: (token) => noteStep(run, step.name, { token }),
  };
}

export async function noteStep(run: JobRun, name: string, change: Partial<JobStepRecord>): Promise<void> {
  await run.save((document) => ({
    ...document,
    steps: document.steps.map((step) => (step.name === name ? { ...step, ...change } : step)),
  }));
}
