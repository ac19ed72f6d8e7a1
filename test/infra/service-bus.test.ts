import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { at, literalAt, type Resource } from '../../infra/bicep.ts';
import { COMMAND_QUEUE, MONITORING_TOPIC, REPLY_QUEUE } from '../../src/local/stack-config.ts';
import { readAllBicep, readText, requireFile } from './files.ts';

const properties = z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]));
const queueSchema = z.strictObject({ Name: z.string(), Properties: properties });
const ruleSchema = z.strictObject({
  Name: z.string(),
  Properties: z.strictObject({
    FilterType: z.literal('Sql'),
    SqlFilter: z.strictObject({ SqlExpression: z.string() }),
  }),
});
const subscriptionSchema = z.strictObject({
  Name: z.string(),
  Properties: properties,
  Rules: z.array(ruleSchema).optional(),
});
const configSchema = z.object({
  UserConfig: z.object({
    Namespaces: z.tuple([
      z.strictObject({
        Name: z.string(),
        Queues: z.array(queueSchema),
        Topics: z.array(
          z.strictObject({ Name: z.string(), Properties: properties, Subscriptions: z.array(subscriptionSchema) }),
        ),
      }),
    ]),
  }),
});

const files = await readAllBicep();
const module = requireFile(files, 'modules/service-bus.bicep');
const main = requireFile(files, 'main.bicep');
const [entities] = configSchema.parse(JSON.parse(readText('infra/service-bus/Config.json'))).UserConfig.Namespaces;
const subscriptions = entities.Topics.flatMap((topic) => topic.Subscriptions);

function resource(symbol: string): Resource {
  const found = module.resources.find((candidate) => candidate.symbol === symbol);
  if (found === undefined) throw new Error(`there is no resource ${symbol}`);
  return found;
}

/** Azure's name of a property, and what Bicep must take it from. */
function mapped(item: string, names: Iterable<string>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    [...names].map((name) => {
      const source = `${item}.Properties.${name}`;
      // Azure refuses an empty name where it forwards to.
      const isForward = name.startsWith('Forward');
      return [`${name[0]?.toLowerCase()}${name.slice(1)}`, isForward ? `empty(${source}) ? null : ${source}` : source];
    }),
  );
}

function found(symbol: string): Readonly<Record<string, string>> {
  const body = at(resource(symbol).body, 'properties');
  if (body?.kind !== 'object') throw new Error(`${symbol} has no properties`);
  return Object.fromEntries(
    [...body.properties].map(([name, value]) => {
      if (value.kind !== 'either') return [name, literalAt(value)];
      const [then, otherwise] = value.options.map((option) => literalAt(option));
      return [name, `${value.condition} ? ${String(then)} : ${String(otherwise)}`];
    }),
  ) as Readonly<Record<string, string>>;
}

const namesOf = (items: readonly { readonly Properties: object }[]): ReadonlySet<string> =>
  new Set(items.flatMap((item) => Object.keys(item.Properties)));

describe('infra/modules/service-bus.bicep', () => {
  it('takes its entities from the file that the local broker reads', () => {
    expect(module.text).toContain("loadJsonContent('../service-bus/Config.json').UserConfig.Namespaces[0]");
    const loops = ['queues', 'topics', 'subscriptions', 'rules'].map((symbol) => {
      const { body } = resource(symbol);
      return [body.kind === 'each' ? body.over : '', literalAt(at(body, 'parent')), literalAt(at(body, 'name'))];
    });
    expect(loops).toEqual([
      ['entities.Queues', 'namespace', 'queue.Name'],
      ['entities.Topics', 'namespace', 'topic.Name'],
      ['subscriptionList', 'topics[subscription.topic]', 'subscription.Name'],
      ['ruleList', 'subscriptions[rule.subscription]', 'rule.azureName'],
    ]);
  });

  it('sets each property that the file has, and no other', () => {
    expect(found('queues')).toEqual(mapped('queue', namesOf(entities.Queues)));
    expect(found('topics')).toEqual(mapped('topic', namesOf(entities.Topics)));
    expect(found('subscriptions')).toEqual(mapped('subscription', namesOf(subscriptions)));
  });

  it('gives each entity all properties, so that no loop meets one without', () => {
    for (const items of [entities.Queues, entities.Topics, subscriptions]) {
      for (const item of items) expect(new Set(Object.keys(item.Properties)), item.Name).toEqual(namesOf(items));
    }
  });

  it('puts the first rule of a subscription into the place of the one that lets everything through', () => {
    expect(module.text).toContain("azureName: place == 0 ? '$Default' : rule.Name");
    const rule = at(resource('rules').body, 'properties');
    expect(literalAt(rule, 'filterType')).toBe('${rule.Properties.FilterType}Filter');
    expect(literalAt(rule, 'sqlFilter', 'sqlExpression')).toBe('rule.Properties.SqlFilter.SqlExpression');
  });

  it('takes no keys', () => {
    expect(literalAt(resource('namespace').body, 'properties', 'disableLocalAuth')).toBe(true);
  });
});

/** `PT…` of hours, minutes and seconds. */
function secondsOf(duration: string | number | boolean | undefined): number {
  const [, hours = 0, minutes = 0, seconds = 0] = /^PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?$/.exec(String(duration)) ?? [];
  return Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
}

describe('infra/service-bus/Config.json', () => {
  it('keeps to the limits that Azure has and an emulator may not', () => {
    for (const { Name, Properties } of [...entities.Queues, ...subscriptions]) {
      expect(secondsOf(Properties['LockDuration']), Name).toBeGreaterThan(0);
      expect(secondsOf(Properties['LockDuration']), Name).toBeLessThanOrEqual(300);
      expect(Properties['MaxDeliveryCount'], Name).toBeLessThanOrEqual(2000);
    }
    for (const { Name, Properties } of [...entities.Queues, ...entities.Topics]) {
      const windowSeconds = secondsOf(Properties['DuplicateDetectionHistoryTimeWindow']);
      expect(windowSeconds, Name).toBeGreaterThanOrEqual(20);
      expect(windowSeconds, Name).toBeLessThanOrEqual(7 * 86_400);
    }
  });

  it('has the entities that code, roles and scaling name', () => {
    const names = [...entities.Queues, ...entities.Topics].map(({ Name }) => Name);
    const inRoles = [...main.text.matchAll(/entity: '([^']+)'/g)].map(([, name]) => name);
    expect(new Set(inRoles)).toEqual(new Set(names));
    expect(names).toEqual(expect.arrayContaining([COMMAND_QUEUE, REPLY_QUEUE, MONITORING_TOPIC]));
    expect(main.text).toContain("queueResourceId: '${serviceBus.outputs.resourceId}/queues/cache-events'");
    expect(requireFile(files, 'modules/container-apps.bicep').text).toContain(`queueName: '${COMMAND_QUEUE}'`);
  });
});
