/**
 * Pure. The states of a group's failover and of its drill (test failover), and what each command and the end of each job makes of
 * them. docs/failover.md has the same table; a test compares the two.
 */
import type { Command } from '../commands/commands.ts';
import { TidemarkError } from '../errors.ts';

export const FAILOVER_STATES = [
  'none',
  'failing-over',
  'failed-over',
  'changing-point',
  'committing',
  'committed',
  'canceling',
] as const;
export type FailoverState = (typeof FAILOVER_STATES)[number];

export const DRILL_STATES = ['none', 'testing', 'tested', 'cleaning-up'] as const;
export type DrillState = (typeof DRILL_STATES)[number];

/** A drill stands beside replication or a failover, so a group has one of each. */
export interface OperationStates {
  readonly failover: FailoverState;
  readonly drill: DrillState;
}

export type CommandName = Command['command'];

export const COMMAND_NAMES = [
  'create-point',
  'test-failover',
  'cleanup-test-failover',
  'failover',
  'change-point',
  'commit',
  'cancel',
] as const satisfies readonly CommandName[];

/** Which of the two states a command claims; `create-point` claims none. */
export function trackOf(command: CommandName): 'failover' | 'drill' | undefined {
  switch (command) {
    case 'create-point':
      return undefined;
    case 'test-failover':
    case 'cleanup-test-failover':
      return 'drill';
    case 'failover':
    case 'change-point':
    case 'commit':
    case 'cancel':
      return 'failover';
  }
}

/** The states while the command is being carried out, or undefined when it is refused. */
export function claimed(states: OperationStates, command: CommandName): OperationStates | undefined {
  if (trackOf(command) === 'drill') {
    const drill = claimedDrill(states, command);
    return drill === undefined ? undefined : { ...states, drill };
  }
  const failover = claimedFailover(states, command);
  return failover === undefined ? undefined : { ...states, failover };
}

function claimedFailover({ failover, drill }: OperationStates, command: CommandName): FailoverState | undefined {
  switch (failover) {
    case 'none':
      if (command === 'create-point') return 'none';
      return command === 'failover' ? 'failing-over' : undefined;
    case 'failing-over':
      return command === 'cancel' ? 'canceling' : undefined;
    case 'failed-over':
      if (command === 'change-point') return 'changing-point';
      if (command === 'cancel') return 'canceling';
      // The drill's point would be deleted under it.
      return command === 'commit' && drill === 'none' ? 'committing' : undefined;
    case 'changing-point':
      // Another point may be the way out when the first one cannot be used.
      if (command === 'change-point') return 'changing-point';
      return command === 'cancel' ? 'canceling' : undefined;
    case 'committing':
    case 'committed':
    case 'canceling':
      return undefined;
  }
}

function claimedDrill({ failover, drill }: OperationStates, command: CommandName): DrillState | undefined {
  switch (drill) {
    case 'none': {
      // A drill needs points that stay, and nothing else that moves.
      const possible = failover === 'none' || failover === 'failed-over';
      return command === 'test-failover' && possible ? 'testing' : undefined;
    }
    case 'testing':
    case 'tested':
      return command === 'cleanup-test-failover' ? 'cleaning-up' : undefined;
    case 'cleaning-up':
      return undefined;
  }
}

/** Where the failover stands once the job that claimed the state has succeeded; undefined for states that no job is under way in. */
export function endedFailover(state: FailoverState): FailoverState | undefined {
  switch (state) {
    case 'failing-over':
    case 'changing-point':
      return 'failed-over';
    case 'committing':
      return 'committed';
    case 'canceling':
      return 'none';
    case 'none':
    case 'failed-over':
    case 'committed':
      return undefined;
  }
}

/** As {@link endedFailover}, for drills. */
export function endedDrill(state: DrillState): DrillState | undefined {
  switch (state) {
    case 'testing':
      return 'tested';
    case 'cleaning-up':
      return 'none';
    case 'none':
    case 'tested':
      return undefined;
  }
}

export const allowedCommands = (states: OperationStates): readonly CommandName[] =>
  COMMAND_NAMES.filter((command) => claimed(states, command) !== undefined);

/** `failover failed-over, test failover tested`: both parts, the second only when there is one. */
export const statesText = ({ failover, drill }: OperationStates): string =>
  drill === 'none' ? `failover ${failover}` : `failover ${failover}, test failover ${drill}`;

/** The refusal of a command, with what is allowed now. */
export function refusal(group: string, states: OperationStates, what: string): TidemarkError {
  const allowed = allowedCommands(states);
  const now = allowed.length === 0 ? 'nothing' : allowed.join(', ');
  return new TidemarkError(
    'FAILOVER_STATE',
    `${what} of group ${group} is refused in ${statesText(states)}; allowed now: ${now}`,
    {
      details: { group, failover: states.failover, drill: states.drill },
    },
  );
}
