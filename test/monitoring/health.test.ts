import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HOUR_US } from '../../src/model/time.ts';
import { type MonitoringEvent, requireEvent } from '../../src/monitoring/events.ts';
import {
  assessHealth,
  type HealthFacts,
  healthMemorySchema,
  type HealthMemory,
  NEW_HEALTH,
  nextHealthEvents,
  rememberHealth,
} from '../../src/monitoring/health.ts';
import { T0_US } from './arbitrary-events.ts';

const MINUTE = 60_000_000;
const NORMAL: HealthMemory = { health: 'Normal', rpoExceeded: false };

/** A group that is well at T0: received 3 s ago, newest point 2 minutes ago, app point an hour ago. */
const facts = (changes: Partial<HealthFacts> = {}): HealthFacts => ({
  nowUs: T0_US,
  watermarkUs: T0_US - 3_000_000,
  newestCutUs: T0_US - 2 * MINUTE,
  newestAppCutUs: T0_US - HOUR_US,
  protectedSinceUs: T0_US - 24 * HOUR_US,
  policy: { rpoThresholdMinutes: 15, appConsistentHours: 4 },
  backlogBytes: 0,
  state: 'protected',
  resyncDisks: [],
  ...changes,
});

const codes = (changes: Partial<HealthFacts>, previous = NORMAL) =>
  assessHealth(facts(changes), previous).symptoms.map((symptom) => `${symptom.code} ${symptom.severity}`);

describe('health', () => {
  it('is normal, with both RPOs, when all is well', () => {
    expect(assessHealth(facts(), NORMAL)).toEqual({
      receivedRpoSeconds: 3,
      recoverableRpoSeconds: 120,
      rpoSeconds: 3,
      rpoExceeded: false,
      thresholdMinutes: 15,
      watermark: '2026-11-23T04:29:57.000000Z',
      newestCut: '2026-11-23T04:28:00.000000Z',
      backlogBytes: 0,
      symptoms: [],
      health: 'Normal',
    });
  });

  it.each<[string, Partial<HealthFacts>, string[]]>([
    ['heartbeat 15 min old', { watermarkUs: T0_US - 15 * MINUTE }, []],
    ['heartbeat older', { watermarkUs: T0_US - 15 * MINUTE - 1 }, ['NO_HEARTBEAT critical', 'RPO_EXCEEDED warning']],
    ['point 20 min old', { newestCutUs: T0_US - 20 * MINUTE }, []],
    ['point older than threshold and interval', { newestCutUs: T0_US - 20 * MINUTE - 1 }, ['RPO_EXCEEDED warning']],
    ['point 60 min old', { newestCutUs: T0_US - 60 * MINUTE }, ['RPO_EXCEEDED warning']],
    [
      'point older than 60 min',
      { newestCutUs: T0_US - 60 * MINUTE - 1 },
      ['NO_CRASH_CONSISTENT_POINT critical', 'RPO_EXCEEDED warning'],
    ],
    ['app point in its interval and 15 min', { newestAppCutUs: T0_US - 4 * HOUR_US - 15 * MINUTE }, []],
    [
      'app point beyond that',
      { newestAppCutUs: T0_US - 4 * HOUR_US - 15 * MINUTE - 1 },
      ['NO_APP_CONSISTENT_POINT warning'],
    ],
    [
      'app points switched off',
      { newestAppCutUs: null, policy: { rpoThresholdMinutes: 15, appConsistentHours: 0 } },
      [],
    ],
    ['no points, protected just now', { newestCutUs: null, newestAppCutUs: null, protectedSinceUs: T0_US }, []],
    [
      'no points for an hour',
      { newestCutUs: null, newestAppCutUs: null, protectedSinceUs: T0_US - HOUR_US - 1 },
      ['NO_CRASH_CONSISTENT_POINT critical'],
    ],
    ['source clock 5 min ahead', { watermarkUs: T0_US + 5 * MINUTE }, []],
    ['source clock more ahead', { watermarkUs: T0_US + 5 * MINUTE + 1 }, ['SOURCE_CLOCK_AHEAD warning']],
    ['resync needed', { state: 'resync-required', resyncDisks: ['web/os'] }, ['RESYNC_REQUIRED critical']],
    ['one disk needs a resync', { resyncDisks: ['web/os'] }, ['RESYNC_REQUIRED critical']],
    ['resyncing', { state: 'resyncing', resyncDisks: ['web/os'] }, ['RESYNC_REQUIRED warning']],
  ])('%s', (_name, changes, expected) => {
    expect(codes(changes)).toEqual(expected);
    const { health } = assessHealth(facts(changes), NORMAL);
    const worst = expected.some((code) => code.endsWith('critical')) ? 'Critical' : 'Warning';
    expect(health).toBe(expected.length === 0 ? 'Normal' : worst);
  });

  it.each(['initial-replication', 'paused', 'failed-over', 'failing-back'])('is None while %s', (state) => {
    const report = assessHealth(facts({ state, watermarkUs: 0, newestCutUs: null }), NORMAL);
    expect([report.health, report.symptoms]).toEqual(['None', []]);
  });

  it('does not report the RPO as back to normal because a person paused the group', () => {
    const exceeded: HealthMemory = { health: 'Critical', rpoExceeded: true };
    const paused = assessHealth(facts({ state: 'paused', watermarkUs: T0_US - HOUR_US }), exceeded);
    expect(nextHealthEvents(exceeded, paused).map((event) => event.type)).toEqual(['HealthChanged']);
    const resumed = assessHealth(facts(), rememberHealth(paused));
    expect(nextHealthEvents(rememberHealth(paused), resumed).map((event) => event.type)).toEqual([
      'RpoBackToNormal',
      'HealthChanged',
    ]);
  });

  it('reports an outage of the source and its end, once each', () => {
    const events: (readonly [number, string])[] = [];
    let memory = NORMAL;
    for (let minute = 0; minute <= 120; minute++) {
      const isOut = minute >= 10 && minute < 90;
      const receivedUs = T0_US + (isOut ? 10 : minute) * MINUTE;
      const report = assessHealth(
        facts({
          nowUs: T0_US + minute * MINUTE,
          watermarkUs: receivedUs,
          newestCutUs: Math.floor(receivedUs / (5 * MINUTE)) * 5 * MINUTE,
        }),
        memory,
      );
      for (const event of nextHealthEvents(memory, report)) events.push([minute, label(event)]);
      memory = healthMemorySchema.parse(JSON.parse(JSON.stringify(rememberHealth(report))));
    }
    expect(events).toEqual([
      [26, 'RpoThresholdExceeded 960'],
      [26, 'HealthChanged Normal to Critical'],
      [90, 'RpoBackToNormal 0'],
      [90, 'HealthChanged Critical to Normal'],
    ]);
  });

  it('does not flap when a worker is behind by about the threshold', () => {
    let memory = NORMAL;
    const types: string[] = [];
    for (let minute = 0; minute < 240; minute++) {
      const nowUs = T0_US + minute * MINUTE;
      const newestCutUs = Math.floor((nowUs - 17 * MINUTE) / (5 * MINUTE)) * 5 * MINUTE;
      const report = assessHealth(facts({ nowUs, watermarkUs: nowUs, newestCutUs, newestAppCutUs: nowUs }), memory);
      types.push(...nextHealthEvents(memory, report).map((event) => event.type));
      memory = rememberHealth(report);
    }
    expect(types).toEqual(['RpoThresholdExceeded', 'HealthChanged']);
  });

  it('gives valid events, on transitions only, and no negative RPO, whatever the facts', () => {
    const time = fc.option(fc.integer({ min: T0_US - 48 * HOUR_US, max: T0_US + 2 * HOUR_US }));
    const arbitraryFacts = fc.record({
      watermarkUs: time,
      newestCutUs: time,
      newestAppCutUs: time,
      protectedSinceUs: time,
      state: fc.constantFrom('protected', 'resync-required', 'resyncing', 'paused', 'initial-replication'),
      resyncDisks: fc.array(fc.constant('web/os'), { maxLength: 3 }),
    });
    fc.assert(
      fc.property(fc.array(arbitraryFacts, { maxLength: 6 }), (changes) => {
        let memory = NEW_HEALTH;
        for (const change of changes) {
          const report = assessHealth(facts(change), memory);
          expect(Math.min(report.receivedRpoSeconds ?? 0, report.recoverableRpoSeconds ?? 0)).toBeGreaterThanOrEqual(0);
          const events = nextHealthEvents(memory, report).map((event) => requireEvent(event));
          expect(events).toHaveLength(
            Number(memory.health !== report.health) + Number(memory.rpoExceeded !== report.rpoExceeded),
          );
          memory = rememberHealth(report);
          expect(nextHealthEvents(memory, assessHealth(facts(change), memory))).toEqual([]);
        }
      }),
      { numRuns: 300 },
    );
  });
});

function label(event: MonitoringEvent): string {
  if (event.type === 'HealthChanged') return `${event.type} ${event.data.from} to ${event.data.to}`;
  return 'rpoSeconds' in event.data ? `${event.type} ${event.data.rpoSeconds}` : event.type;
}
