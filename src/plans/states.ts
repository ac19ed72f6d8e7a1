/**
 * Pure. The states of a run and of its steps, and what each event makes of them. docs/plans.md has the same tables; a test compares
 * the two.
 */
export const RUN_STATES = [
  'running',
  'waiting',
  'failed',
  'succeeded',
  'degraded',
  'cleaning-up',
  'cleanup-failed',
  'cleaned-up',
] as const;
export type RunState = (typeof RUN_STATES)[number];

export const RUN_EVENTS = ['resume', 'wait', 'fail', 'succeed', 'degrade', 'clean-up', 'clean'] as const;
export type RunEvent = (typeof RUN_EVENTS)[number];

export const RUN_STEP_STATES = ['pending', 'running', 'waiting', 'approved', 'done', 'failed', 'skipped'] as const;
export type RunStepState = (typeof RUN_STEP_STATES)[number];

export const STEP_EVENTS = ['start', 'wait', 'approve', 'done', 'fail', 'skip', 'retry'] as const;
export type StepEvent = (typeof STEP_EVENTS)[number];

/** What is not there is refused. */
const RUN_TABLE: Readonly<Record<RunState, Partial<Record<RunEvent, RunState>>>> = {
  running: {
    resume: 'running',
    wait: 'waiting',
    fail: 'failed',
    succeed: 'succeeded',
    degrade: 'degraded',
    'clean-up': 'cleaning-up',
  },
  waiting: { resume: 'running', 'clean-up': 'cleaning-up' },
  failed: { resume: 'running', 'clean-up': 'cleaning-up' },
  succeeded: { 'clean-up': 'cleaning-up' },
  degraded: { 'clean-up': 'cleaning-up' },
  'cleaning-up': {
    resume: 'cleaning-up',
    fail: 'cleanup-failed',
    'clean-up': 'cleaning-up',
    clean: 'cleaned-up',
  },
  'cleanup-failed': { resume: 'cleaning-up', 'clean-up': 'cleaning-up' },
  'cleaned-up': {},
};

const STEP_TABLE: Readonly<Record<RunStepState, Partial<Record<StepEvent, RunStepState>>>> = {
  pending: { start: 'running', wait: 'waiting', skip: 'skipped' },
  // Started again: its executor died, and another one goes on.
  running: { start: 'running', wait: 'waiting', done: 'done', fail: 'failed' },
  waiting: { approve: 'approved', done: 'done', fail: 'failed' },
  approved: { start: 'running' },
  done: {},
  failed: { retry: 'pending' },
  skipped: {},
};

/** The run's state after the event, or undefined when the event is refused. */
export const runAfter = (state: RunState, event: RunEvent): RunState | undefined => RUN_TABLE[state][event];

/** As above, of a step. */
export const stepAfter = (state: RunStepState, event: StepEvent): RunStepState | undefined => STEP_TABLE[state][event];

/** Over: nothing executes it any more. */
export const isRunOver = (state: RunState): boolean => runAfter(state, 'resume') === undefined;
