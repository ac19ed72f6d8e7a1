import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  allowedCommands,
  claimed,
  COMMAND_NAMES,
  DRILL_STATES,
  ENDED_DRILL,
  ENDED_FAILOVER,
  FAILOVER_STATES,
  refusal,
  trackOf,
  type CommandName,
  type OperationStates,
} from '../../src/failover/states.ts';

const page = readFileSync(new URL('../../docs/failover.md', import.meta.url), 'utf8');

interface Cell {
  readonly state: string;
  readonly event: string;
  readonly next: string;
}

/** Cells of the table whose head begins with `title`. */
function tableOf(title: string): readonly Cell[] {
  const lines = page.split('\n');
  const from = lines.findIndex((line) => line.startsWith(`| ${title} | `));
  const until = lines.findIndex((line, index) => index > from && !line.startsWith('|'));
  const [head = [], , ...rows] = lines.slice(from, until).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
  return rows.flatMap(([state = '', ...cells]) =>
    cells.map((next, index) => ({ state: state.replaceAll('`', ''), event: head[index + 1] ?? '', next })),
  );
}

const SUCCESS = 'success of the job';
const unique = (names: readonly string[]) => [...new Set(names)];

describe('docs/failover.md', () => {
  const failover = tableOf('failover');
  const drill = tableOf('drill');

  it('has a row for each state, and a column for each command', () => {
    expect(unique(failover.map(({ state }) => state))).toEqual(FAILOVER_STATES);
    expect(unique(drill.map(({ state }) => state))).toEqual(DRILL_STATES);
    const commands = unique([...failover, ...drill].map(({ event }) => event)).filter((event) => event !== SUCCESS);
    expect(commands.toSorted()).toEqual(COMMAND_NAMES.toSorted());
  });

  it.each(failover)('failover $state, $event: $next', ({ state, event, next }) => {
    const before = state as OperationStates['failover'];
    if (event === SUCCESS) expect(ENDED_FAILOVER[before] ?? '').toBe(next);
    else expect(claimed({ failover: before, drill: 'none' }, event as CommandName)?.failover ?? '').toBe(next);
  });

  it.each(drill)('drill $state, $event: $next', ({ state, event, next }) => {
    const before = state as OperationStates['drill'];
    if (event === SUCCESS) expect(ENDED_DRILL[before] ?? '').toBe(next);
    else expect(claimed({ failover: 'none', drill: before }, event as CommandName)?.drill ?? '').toBe(next);
  });
});

const states = fc.record({ failover: fc.constantFrom(...FAILOVER_STATES), drill: fc.constantFrom(...DRILL_STATES) });

describe('states', () => {
  it('lets a command change its own part only', () => {
    fc.assert(
      fc.property(states, fc.constantFrom(...COMMAND_NAMES), (before, command) => {
        const after = claimed(before, command);
        if (after === undefined) return;
        if (trackOf(command) === 'drill') expect(after.failover).toBe(before.failover);
        else expect(after.drill).toBe(before.drill);
      }),
    );
  });

  it('cleans up a drill in any state of the failover, and starts a failover beside any drill', () => {
    for (const failover of FAILOVER_STATES) {
      expect(claimed({ failover, drill: 'tested' }, 'cleanup-test-failover')?.drill).toBe('cleaning-up');
    }
    for (const drill of DRILL_STATES) {
      expect(claimed({ failover: 'none', drill }, 'failover')?.failover).toBe('failing-over');
    }
  });

  it('refuses a commit beside a drill, and a drill beside anything that moves', () => {
    for (const drill of DRILL_STATES) {
      expect(claimed({ failover: 'failed-over', drill }, 'commit') === undefined, drill).toBe(drill !== 'none');
    }
    const beginsIn = FAILOVER_STATES.filter((failover) => claimed({ failover, drill: 'none' }, 'test-failover'));
    expect(beginsIn).toEqual(['none', 'failed-over']);
  });

  it('says what is allowed now', () => {
    const now = { failover: 'failed-over', drill: 'tested' } as const;
    expect(allowedCommands(now)).toEqual(['cleanup-test-failover', 'change-point', 'cancel']);
    const error = refusal('shop', now, 'commit');
    expect(error.code).toBe('FAILOVER_STATE');
    expect(error.message).toBe(
      'commit of group shop is refused in failover failed-over, test failover tested; ' +
        'allowed now: cleanup-test-failover, change-point, cancel',
    );
    expect(refusal('shop', { failover: 'committing', drill: 'none' }, 'cancel').message).toMatch(
      /allowed now: nothing$/,
    );
  });
});
