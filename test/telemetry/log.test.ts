import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TidemarkError } from '../../src/errors.ts';
import type { MonitoringEvent } from '../../src/monitoring/events.ts';
import { logEvent, logOutcome } from '../../src/telemetry/event-log.ts';
import type { LogLevel } from '../../src/telemetry/log-levels.ts';
import { createLog, type Log } from '../../src/telemetry/log.ts';

function newLog(level: LogLevel = 'info'): { readonly log: Log; readonly lines: () => Record<string, unknown>[] } {
  let text = '';
  const log = createLog({ level, stream: { write: (line) => void (text += line) } });
  const lines = () =>
    text
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { log, lines };
}

const health = (to: 'Normal' | 'Critical'): MonitoringEvent => ({
  type: 'HealthChanged',
  data: {
    from: 'Warning',
    to,
    symptoms: [
      { code: 'RPO_EXCEEDED', severity: 'warning', text: 'behind' },
      { code: 'NO_HEARTBEAT', severity: 'critical', text: 'silent' },
    ],
  },
});

describe('the log of a host', () => {
  it('has time, level as a word, message and fields', () => {
    const { log, lines } = newLog();
    log.info({ group: 'shop', disk: 'web/disk0', cut: '2026-11-23T04:00:00Z', job: 'j1' }, 'hello');
    expect(lines()).toEqual([
      {
        level: 'info',
        time: expect.stringMatching(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/),
        group: 'shop',
        disk: 'web/disk0',
        cut: '2026-11-23T04:00:00Z',
        job: 'j1',
        msg: 'hello',
      },
    ]);
  });

  it('gives the line of an error its code, class and hint, and the causes', () => {
    const { log, lines } = newLog();
    const cause = Object.assign(new Error('socket closed', { cause: 'nobody knows' }), { code: 'ECONNRESET' });
    const error = new TidemarkError('STORAGE_TIMEOUT', 'Read a', {
      cause,
      details: { status: 0, url: 'https://a/?sig=abc123==' },
    });
    log.error({ err: error, group: 'shop' }, 'failed');
    log.error(error);
    const line = {
      level: 'error',
      code: 'STORAGE_TIMEOUT',
      class: 'retry',
      hint: error.hint,
      err: {
        type: 'TidemarkError',
        message: 'Read a',
        code: 'STORAGE_TIMEOUT',
        class: 'retry',
        details: { status: 0, url: 'https://a/?sig=…' },
        cause: {
          type: 'Error',
          message: 'socket closed',
          code: 'ECONNRESET',
          cause: { type: 'string', message: 'nobody knows' },
        },
      },
    };
    expect(lines()).toMatchObject([
      { ...line, group: 'shop', msg: 'failed' },
      { ...line, msg: 'Read a' },
    ]);
  });

  it('writes nothing below its level, and nothing at all when it is silent', () => {
    const warn = newLog('warn');
    warn.log.info('no');
    warn.log.warn('yes');
    expect(warn.lines().map(({ msg }) => msg)).toEqual(['yes']);
    const silent = newLog('silent');
    silent.log.fatal('no');
    expect(silent.lines()).toEqual([]);
  });

  it('stays one JSON document per line without secrets, whatever the fields hold', () => {
    const field = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom('https://a/?sig=c2VjcmV0c2Vj%3D&x=1', 'AccountKey=c2VjcmV0c2Vj=="'),
    );
    const { log, lines } = newLog();
    let written = 0;
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom('url', 'sig', 'note', 'password'), field), field, (fields, message) => {
        log.info({ fields }, message);
        expect(lines().length).toBe(++written);
        expect(JSON.stringify(lines().at(-1))).not.toContain('c2VjcmV0c2Vj');
      }),
      { endOnFailure: true, numRuns: 50 },
    );
  });
});

describe('monitoring events as lines', () => {
  it('name the symptoms of a change of health', () => {
    const { log, lines } = newLog();
    logEvent(log, 'shop', health('Critical'));
    logEvent(log, 'shop', health('Normal'));
    const line = { event: 'HealthChanged', group: 'shop', symptoms: ['RPO_EXCEEDED', 'NO_HEARTBEAT'] };
    expect(lines()).toMatchObject([
      { ...line, level: 'fatal', severity: 'critical', data: { from: 'Warning', to: 'Critical', symptomsCount: 2 } },
      { ...line, level: 'info', severity: 'info' },
    ]);
  });

  it('name the disk and the code of a defect, and the job of a failover', () => {
    const { log, lines } = newLog();
    const disk = { machine: 'web', disk: 'disk0', blob: 'b', offset: 3, code: 'LOG_MAGIC', reason: 'no segment' };
    logEvent(log, 'shop', { type: 'ResyncRequired', data: disk });
    const job = {
      job: 'j1',
      command: 'failover',
      from: null,
      to: 'failed',
      usedPoint: null,
      requestedBy: 'me',
    } as const;
    logEvent(log, 'shop', { type: 'JobChanged', data: { ...job, code: 'COMPUTE_REFUSED', reason: 'no quota' } });
    expect(lines()).toMatchObject([
      { event: 'ResyncRequired', severity: 'critical', disk: 'web/disk0', code: 'LOG_MAGIC' },
      { event: 'JobChanged', severity: 'error', job: 'j1', code: 'COMPUTE_REFUSED' },
    ]);
  });

  it('tell of cycles that failed and of groups that have stopped', () => {
    const { log, lines } = newLog();
    logOutcome(log, { group: 'shop', needsResync: false, error: new TidemarkError('OWNERSHIP_LOST', 'gone') });
    logOutcome(log, { group: 'till', needsResync: true });
    logOutcome(log, { group: 'fine', needsResync: false });
    expect(lines()).toMatchObject([
      { event: 'CycleFailed', group: 'shop', level: 'error', code: 'OWNERSHIP_LOST' },
      { event: 'NeedsResync', group: 'till', level: 'warn' },
    ]);
    expect(lines()).toHaveLength(2);
  });
});
