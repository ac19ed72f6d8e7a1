/** A command service whose jobs are spans, with a span for each step, and are counted by how they end. */
import type { Span } from '@opentelemetry/api';
import type { CommandService, JobView } from '../commands/commands.ts';
import { TidemarkError } from '../errors.ts';
import { redactSecrets } from './redact.ts';
import type { Telemetry } from './telemetry.ts';
import { failSpan, inSpan } from './tracing.ts';

export function tracedCommands(commands: CommandService, telemetry: Telemetry): CommandService {
  return {
    ...commands,
    execute: (group, job, options, signal) => execute(commands, telemetry, { group, job, options, signal }),
  };
}

interface Execution {
  readonly group: string;
  readonly job: string;
  readonly options: Parameters<CommandService['execute']>[2];
  readonly signal: AbortSignal;
}

function execute(
  commands: CommandService,
  { tracer, instruments }: Telemetry,
  { group, job, options, signal }: Execution,
): Promise<JobView> {
  const beganAtMs = performance.now();
  const count = (command: string, state: string): void => {
    instruments.add('tidemark.jobs', 1, { command, state });
    instruments.record('tidemark.job.duration', (performance.now() - beganAtMs) / 1000, { command, state });
  };
  return inSpan(tracer, { name: 'tidemark.job', attributes: { group, job } }, async (span) => {
    const steps = new StepSpans(tracer);
    let last: JobView | undefined;
    const onProgress = (view: JobView): void => {
      last = view;
      steps.follow(view);
      options.onProgress?.(view);
    };
    try {
      const view = await commands.execute(group, job, { ...options, onProgress }, signal);
      span.setAttributes({
        command: view.command,
        state: view.state,
        ...(view.point !== null && { point: view.point }),
      });
      if (view.state === 'failed') failSpan(span, failureOf(view));
      count(view.command, view.state);
      return view;
    } catch (error) {
      count(last?.command ?? 'unknown', 'interrupted');
      throw error;
    } finally {
      steps.end();
    }
  });
}

/** A failed job as the error that it tells of; its code may be of another version. */
const failureOf = ({ job, error }: JobView): Error =>
  new Error(`job ${job} failed: ${error?.code ?? ''} ${redactSecrets(error?.message ?? '')}`.trim());

/** Steps become spans as progress tells of them; they are children of the span that is active then. */
class StepSpans {
  readonly #tracer: Telemetry['tracer'];
  readonly #open = new Map<string, Span>();

  constructor(tracer: Telemetry['tracer']) {
    this.#tracer = tracer;
  }

  follow({ group, job, steps, error }: JobView): void {
    for (const { name, state } of steps) {
      const open = this.#open.get(name);
      if (state === 'running' && open === undefined) {
        this.#open.set(name, this.#tracer.startSpan('tidemark.job.step', { attributes: { group, job, step: name } }));
      }
      if (open === undefined || state === 'running') continue;
      if (state === 'failed') failSpan(open, new Error(`${error?.code ?? 'failed'}: ${error?.message ?? name}`));
      this.#finish(name, open);
    }
  }

  /** Ends what was interrupted. */
  end(): void {
    for (const [name, span] of this.#open) {
      failSpan(span, new TidemarkError('INTERRUPTED', `step ${name} was under way when its execution ended`));
      this.#finish(name, span);
    }
  }

  #finish(name: string, span: Span): void {
    span.end();
    this.#open.delete(name);
  }
}
