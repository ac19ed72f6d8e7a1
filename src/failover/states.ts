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
export const TRACK_OF = {
  'create-point': undefined,
  'test-failover': 'drill',
  'cleanup-test-failover': 'drill',
  failover: 'failover',
  'change-point': 'failover',
  commit: 'failover',
  cancel: 'failover',
} as const satisfies Record<CommandName, 'failover' | 'drill' | undefined>;

export const trackOf = (command: CommandName): 'failover' | 'drill' | undefined => TRACK_OF[command];

/** State of the failover while a command is carried out; a command that is not there is refused. */
const FAILOVER_TABLE: Readonly<Record<FailoverState, Partial<Record<CommandName, FailoverState>>>> = {
  none: { 'create-point': 'none', failover: 'failing-over' },
  'failing-over': { cancel: 'canceling' },
  'failed-over': { 'change-point': 'changing-point', commit: 'committing', cancel: 'canceling' },
  // Another point may be the way out when the first one cannot be used.
  'changing-point': { 'change-point': 'changing-point', cancel: 'canceling' },
  committing: {},
  committed: {},
  canceling: {},
};

/** As above, of the drill. */
const DRILL_TABLE: Readonly<Record<DrillState, Partial<Record<CommandName, DrillState>>>> = {
  none: { 'test-failover': 'testing' },
  testing: { 'cleanup-test-failover': 'cleaning-up' },
  tested: { 'cleanup-test-failover': 'cleaning-up' },
  'cleaning-up': {},
};

/** A drill needs points that stay, and nothing else that moves. */
const DRILL_BEGINS_IN: ReadonlySet<FailoverState> = new Set(['none', 'failed-over']);

/** The states while the command is being carried out, or undefined when it is refused. */
export function claimed(states: OperationStates, command: CommandName): OperationStates | undefined {
  if (trackOf(command) === 'drill') {
    const drill = DRILL_TABLE[states.drill][command];
    if (drill === undefined || (drill === 'testing' && !DRILL_BEGINS_IN.has(states.failover))) return undefined;
    return { ...states, drill };
  }
  const failover = FAILOVER_TABLE[states.failover][command];
  // A commit would delete the drill's point under it.
  if (failover === undefined || (failover === 'committing' && states.drill !== 'none')) return undefined;
  return { ...states, failover };
}

/** Where the failover stands once the job that claimed the state has succeeded; undefined for states that no job is under way in. */
export const ENDED_FAILOVER: Readonly<Record<FailoverState, FailoverState | undefined>> = {
  none: undefined,
  'failing-over': 'failed-over',
  'failed-over': undefined,
  'changing-point': 'failed-over',
  committing: 'committed',
  committed: undefined,
  canceling: 'none',
};

/** As above, of the drill. */
export const ENDED_DRILL: Readonly<Record<DrillState, DrillState | undefined>> = {
  none: undefined,
  testing: 'tested',
  tested: undefined,
  'cleaning-up': 'none',
};

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
