import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_ACTIONS, MAX_PLAN_GROUPS, MAX_PLAN_MACHINES, parsePlan, urlProblem } from '../../src/plans/plan-file.ts';
import { planRun } from '../../src/plans/plan-run.ts';
import { newRun, runSchema } from '../../src/plans/run-document.ts';
import { arbitraryPlan, planText } from './arbitrary-plan.ts';

const SMALL = { version: 1, name: 'p', groups: [{ name: 'one', failover: ['shop'] }] };
const WEBHOOK = { type: 'webhook', name: 'hook', url: 'https://example.test/', secret: { env: 'SECRET' } };
const withAction = (action: object) => ({ ...SMALL, groups: [{ ...SMALL.groups[0], pre: [action] }] });
const groups = (count: number) => Array.from({ length: count }, (_, at) => ({ name: `g${at}`, failover: [`c${at}`] }));
const members = (count: number) => Array.from({ length: count }, (_, at) => `c${at}`);

const problem = (plan: unknown): string => {
  try {
    parsePlan(typeof plan === 'string' ? plan : JSON.stringify(plan));
  } catch (error) {
    expect(error).toMatchObject({ code: 'PLAN_INVALID' });
    return (error as Error).message;
  }
  return 'none';
};

/** A plan that is wrong in one way, and what is said about it. */
const BAD: readonly (readonly [string, unknown, RegExp])[] = [
  ['no JSON', '{', /^the plan is no JSON/],
  ['too large', `"${'x'.repeat(300_000)}"`, /more than 262144 bytes/],
  ['no object', '[]', /^plan: .*expected object/],
  ['another version', { ...SMALL, version: 2 }, /^version: /],
  ['an unknown field', { ...SMALL, color: 'red' }, /^plan: .*"color"/],
  ['an unknown field of a group', { ...SMALL, groups: [{ ...SMALL.groups[0], x: 1 }] }, /^groups\[0\]: .*"x"/],
  ['a name with a slash', { ...SMALL, name: 'a/b' }, /^name: a name has/],
  ['no groups', { ...SMALL, groups: [] }, /^groups: /],
  ['eight groups', { ...SMALL, groups: groups(MAX_PLAN_GROUPS + 1) }, /^groups: .*7/],
  [
    '101 failovers',
    { ...SMALL, groups: [{ name: 'one', failover: members(MAX_PLAN_MACHINES + 1) }] },
    /groups\[0\]\.failover: .*100/,
  ],
  [
    '101 failovers in two groups',
    {
      ...SMALL,
      groups: [
        { name: 'one', failover: members(60) },
        { name: 'two', failover: members(41) },
      ],
    },
    /^groups: 101 failovers; a plan has at most 100$/,
  ],
  ['nothing to fail over', { ...SMALL, groups: [{ name: 'one' }] }, /^groups: no group fails anything over$/],
  [
    'two groups of one name',
    { ...SMALL, groups: [SMALL.groups[0], { name: 'one' }] },
    /^groups\[1\]\.name: "one" is there already, at 0$/,
  ],
  [
    'a group twice at once',
    { ...SMALL, groups: [{ name: 'one', failover: ['a', { group: 'a' }] }] },
    /^groups\[0\]\.failover\[1\]\.group: "a"/,
  ],
  ['a bad group name', { ...SMALL, groups: [{ name: 'one', failover: ['../x'] }] }, /failover\[0\]\.group: is no name/],
  [
    'a group name with two dots',
    { ...SMALL, groups: [{ name: 'one', failover: ['a..b'] }] },
    /failover\[0\]\.group: is no name/,
  ],
  ['a point by id', { ...SMALL, point: '20261123T043000.000000Z-crash' }, /^point: /],
  ['common latest', { ...SMALL, common: true, point: 'latest' }, /^point: latest makes a point per group/],
  [
    'a common point and another',
    { ...SMALL, common: true, groups: [{ name: 'one', failover: [{ group: 'a', point: 'latest-app' }] }] },
    /failover\[0\]\.point: with "common"/,
  ],
  ['a kind of failure', { ...SMALL, onFailure: 'ignore' }, /^onFailure: /],
  ['no time', { ...SMALL, timeoutMinutes: 0 }, /^timeoutMinutes: /],
  [
    'eleven actions',
    {
      ...SMALL,
      groups: [
        {
          name: 'one',
          failover: ['a'],
          pre: Array.from({ length: MAX_ACTIONS + 1 }, (_, at) => ({ ...WEBHOOK, name: `a${at}` })),
        },
      ],
    },
    /groups\[0\]\.pre: .*10/,
  ],
  [
    'actions of one name',
    { ...SMALL, groups: [{ name: 'one', failover: ['a'], post: [WEBHOOK, WEBHOOK] }] },
    /post\[1\]\.name: "hook" is there already/,
  ],
  ['an unknown action', withAction({ type: 'mail', name: 'm' }), /pre\[0\]\.type: /],
  ['no secret', withAction({ ...WEBHOOK, secret: undefined }), /pre\[0\]\.secret: must be/],
  ['the secret itself', withAction({ ...WEBHOOK, secret: 'hunter2' }), /pre\[0\]\.secret: must be/],
  ['a variable that is none', withAction({ ...WEBHOOK, secret: { env: 'A B' } }), /pre\[0\]\.secret\.env: is no name/],
  ['http to elsewhere', withAction({ ...WEBHOOK, url: 'http://example.test/' }), /pre\[0\]\.url: .*must be https/],
  ['another protocol', withAction({ ...WEBHOOK, url: 'ftp://example.test/' }), /pre\[0\]\.url: .*must be https/],
  [
    'a password in the address',
    withAction({ ...WEBHOOK, url: 'https://a:b@example.test/' }),
    /pre\[0\]\.url: .*password/,
  ],
  ['no address', withAction({ ...WEBHOOK, url: 'example' }), /pre\[0\]\.url: .*is no URL/],
  ['a long timeout', withAction({ ...WEBHOOK, timeoutSeconds: 301 }), /pre\[0\]\.timeoutSeconds: /],
  ['many attempts', withAction({ ...WEBHOOK, attempts: 11 }), /pre\[0\]\.attempts: /],
  ['a shell line', withAction({ type: 'script', name: 's', command: 'rm -rf /' }), /pre\[0\]\.command: .*array/],
  ['an empty command', withAction({ type: 'script', name: 's', command: [] }), /pre\[0\]\.command: /],
  [
    'another crash policy',
    withAction({ type: 'script', name: 's', command: ['a'], afterCrash: 'never' }),
    /afterCrash: /,
  ],
  ['no instructions', withAction({ type: 'manual', name: 'm' }), /pre\[0\]\.instructions: /],
  [
    'both kinds of run left out',
    withAction({ ...WEBHOOK, testOnly: true, skipInTest: true }),
    /pre\[0\]\.testOnly: .*exclude/,
  ],
];

describe('a plan file', () => {
  it.each(BAD)('is refused with its place: %s', (_, plan, message) => {
    expect(problem(plan)).toMatch(message);
  });

  it('is refused with all problems at once', () => {
    const [group] = SMALL.groups;
    expect(
      problem({ ...SMALL, version: 3, point: 'x', groups: [{ ...group, pre: [{ ...WEBHOOK, attempts: 0 }] }] }),
    ).toMatch(/^version: .*; point: .*; groups\[0\]\.pre\[0\]\.attempts: [^;]*$/);
  });

  it('has the defaults of the page', () => {
    expect(parsePlan(JSON.stringify(withAction(WEBHOOK)))).toEqual({
      ...SMALL,
      onFailure: 'stop',
      timeoutMinutes: 240,
      point: 'latest-processed',
      common: false,
      groups: [
        {
          name: 'one',
          pre: [{ ...WEBHOOK, testOnly: false, skipInTest: false, timeoutSeconds: 30, attempts: 5 }],
          failover: [{ group: 'shop' }],
          post: [],
        },
      ],
    });
  });

  it('that parses can be planned and journalled, parsed again or not', () => {
    fc.assert(
      fc.property(arbitraryPlan, fc.boolean(), (source, test) => {
        const plan = parsePlan(planText(source));
        expect(parsePlan(JSON.stringify(plan))).toEqual(plan);
        const steps = planRun(plan, { test });
        const about = {
          run: 'r',
          plan: plan.name,
          planSha256: '0'.repeat(64),
          test,
          point: plan.point,
          requestedBy: 'ada',
        };
        const document = newRun({ ...about, steps, nowUs: 1_795_406_400_000_000 });
        expect(runSchema.safeParse(JSON.parse(JSON.stringify(document))).success).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  it('takes https, and http to this machine only', () => {
    for (const url of ['https://a.test/x?y', 'http://localhost:1/', 'http://127.0.0.9/', 'http://[::1]:8080/x']) {
      expect(urlProblem(url), url).toBeUndefined();
    }
    for (const url of [
      'http://127.0.0.1.evil.test/',
      'http://localhost.evil.test/',
      'http://0.0.0.0/',
      'http://10.0.0.1/',
      'file:///x',
    ]) {
      expect(urlProblem(url), url).toBe('must be https, or http to this machine');
    }
  });
});

describe('docs/plans.md', () => {
  const page = readFileSync(new URL('../../docs/plans.md', import.meta.url), 'utf8');

  it('has an example that is a plan, with every kind of action', () => {
    const plan = parsePlan(/```json\n([\s\S]*?)```/.exec(page)?.[1] ?? '');
    const kinds = planRun(plan, { test: false }).map(({ kind }) => kind);
    expect(new Set(kinds)).toEqual(new Set(['webhook', 'script', 'manual', 'failover', 'shared']));
  });

  it('names the limits that the code has', () => {
    const flowing = page.replaceAll(/\s+/g, ' ');
    expect(flowing).toContain(`at most ${MAX_PLAN_GROUPS} groups and ${MAX_PLAN_MACHINES} machines`);
    expect(flowing).toContain(`at most ${MAX_ACTIONS} actions`);
  });
});
