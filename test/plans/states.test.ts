import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  isRunOver,
  RUN_EVENTS,
  RUN_STATES,
  RUN_STEP_STATES,
  runAfter,
  STEP_EVENTS,
  stepAfter,
  type RunEvent,
  type RunState,
  type RunStepState,
  type StepEvent,
} from '../../src/plans/states.ts';

const page = readFileSync(new URL('../../docs/plans.md', import.meta.url), 'utf8');

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
      .map((cell) => cell.trim().replaceAll('`', '')),
  );
  return rows.flatMap(([state = '', ...cells]) =>
    cells.map((next, index) => ({ state, event: head[index + 1] ?? '', next })),
  );
}

const unique = (names: readonly string[]) => [...new Set(names)];

describe('docs/plans.md', () => {
  const runs = tableOf('run');
  const steps = tableOf('step');

  it('has a row for each state and a column for each event', () => {
    expect(unique(runs.map(({ state }) => state))).toEqual(RUN_STATES);
    expect(unique(runs.map(({ event }) => event))).toEqual(RUN_EVENTS);
    expect(unique(steps.map(({ state }) => state))).toEqual(RUN_STEP_STATES);
    expect(unique(steps.map(({ event }) => event))).toEqual(STEP_EVENTS);
  });

  it.each(runs)('run $state, $event: $next', ({ state, event, next }) => {
    expect(runAfter(state as RunState, event as RunEvent) ?? '').toBe(next);
  });

  it.each(steps)('step $state, $event: $next', ({ state, event, next }) => {
    expect(stepAfter(state as RunStepState, event as StepEvent) ?? '').toBe(next);
  });

  it('says which runs are over', () => {
    expect(RUN_STATES.filter(isRunOver)).toEqual(['succeeded', 'degraded', 'cleaned-up']);
  });
});
