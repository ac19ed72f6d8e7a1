import * as fc from 'fast-check';

const label = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}[a-z0-9]$/);
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const failure = maybe(fc.constantFrom('stop', 'continue'));
const minutes = maybe(fc.integer({ min: 1, max: 1000 }));
const secret = fc.constantFrom({ env: 'SECRET' }, { file: '/run/secret' });
const point = fc.constantFrom('latest', 'latest-processed', 'latest-app', 'latest-crash');
const when = fc.constantFrom({}, { testOnly: true }, { skipInTest: true });
const common = { onFailure: failure, timeoutMinutes: minutes };

const action = fc
  .tuple(
    fc.oneof(
      fc.record({ type: fc.constant('webhook'), ...common, url: fc.constant('https://a.test/'), secret }),
      fc.record({ type: fc.constant('script'), ...common, command: fc.array(label, { minLength: 1, maxLength: 3 }) }),
      fc.record({ type: fc.constant('manual'), ...common, instructions: label }),
    ),
    when,
  )
  .map(([made, rest]) => ({ ...made, ...rest }));

const actions = fc.array(action, { maxLength: 3 }).map((list) => list.map((made, at) => ({ ...made, name: `a${at}` })));

export interface PlanSource {
  readonly common: boolean;
  readonly groups: readonly { readonly failover: readonly { readonly group: string }[] }[];
}

/** Plans that keep the rules, with groups that are often named twice. */
export const arbitraryPlan: fc.Arbitrary<PlanSource> = fc
  .record({
    version: fc.constant(1),
    name: label,
    onFailure: failure,
    timeoutMinutes: minutes,
    common: fc.boolean(),
    point,
    groups: fc.array(
      fc.record({
        pre: actions,
        post: actions,
        failover: fc.uniqueArray(
          fc.record({
            group: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
            point: maybe(point),
            onFailure: failure,
            timeoutMinutes: minutes,
          }),
          { selector: ({ group }) => group, maxLength: 6 },
        ),
      }),
      { minLength: 1, maxLength: 7 },
    ),
  })
  .filter(({ groups }) => groups.some(({ failover }) => failover.length > 0))
  .map((plan) => ({
    ...plan,
    point: plan.common ? 'latest-processed' : plan.point,
    groups: plan.groups.map((group, at) => ({
      ...group,
      name: `g${at}`,
      failover: group.failover.map(({ point, ...member }) => (plan.common ? member : { ...member, point })),
    })),
  }));

export const planText = (source: PlanSource): string => JSON.stringify(source);
