import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { usFromIso } from '../../src/model/time.ts';
import { readCloudEvent, toMessage } from '../../src/monitoring/cloud-event.ts';
import { MAX_LISTED, MAX_LISTED_TEXT, MAX_TEXT } from '../../src/monitoring/event-limits.ts';
import { EVENT_CATALOGUE, EVENT_TYPES, SEVERITIES } from '../../src/monitoring/events.ts';
import { assessHealth, NEW_HEALTH } from '../../src/monitoring/health.ts';
import { enqueue, MAX_OUTBOX, MAX_OUTBOX_BYTES, newOutbox } from '../../src/monitoring/outbox.ts';
import { pointCreated } from './arbitrary-events.ts';

const page = readFileSync(new URL('../../docs/monitoring.md', import.meta.url), 'utf8');
const flowing = page.replaceAll(/\s+/g, ' ');

/** Heading of level 3 to the text below it. */
const sections = new Map(
  (page.split('\n## Event types\n')[1] ?? '')
    .split('\n### ')
    .slice(1)
    .map((section) => {
      const end = section.indexOf('\n');
      return [section.slice(0, end), section.slice(end + 1)] as const;
    }),
);

interface JsonSchema {
  readonly type?: string;
  readonly pattern?: string;
  readonly enum?: readonly string[];
  readonly anyOf?: readonly JsonSchema[];
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
}

function valueText(schema: JsonSchema): string {
  if (schema.anyOf !== undefined) return schema.anyOf.map(valueText).join(' or ');
  if (schema.enum !== undefined) return schema.enum.join(', ');
  if (schema.pattern?.includes('T') === true) return 'time';
  return schema.type === 'array' ? 'list' : (schema.type ?? 'anything');
}

/** `field | value` rows as the page should have them, lists of objects spelled out. */
function rowsOf(schema: JsonSchema, prefix = ''): readonly string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([field, value]) => {
    const optional = schema.required?.includes(field) === true ? '' : ', optional';
    return [`${prefix}${field} | ${valueText(value)}${optional}`, ...rowsOf(value.items ?? {}, `${prefix}${field}[].`)];
  });
}

describe('docs/monitoring.md', () => {
  it('lists exactly the types of the catalogue, in its order', () => {
    expect([...sections.keys()]).toEqual(EVENT_TYPES);
  });

  it.each(EVENT_TYPES)('lists exactly the fields and severities of %s', (type) => {
    const section = sections.get(type) ?? '';
    const { data, severities, meaning } = EVENT_CATALOGUE[type];
    const rows = [...section.matchAll(/^\| `([^`]+)` \| ([^|]+) \|/gm)].map(
      ([, field, value]) => `${field} | ${value}`,
    );
    expect(rows).toEqual(rowsOf(z.toJSONSchema(data) as JsonSchema));
    expect(section.split('\n')[0]).toBe(meaning);
    const severityLine = /^Severity: ((?:`\w+`(?:, )?)+)/m.exec(section)?.[1] ?? '';
    expect([...severityLine.matchAll(/\w+/g)].map(([word]) => word)).toEqual(severities);
  });

  it('shows the message that the code makes', () => {
    const sample: unknown = JSON.parse(/```json\n([\s\S]*?)```/.exec(page)?.[1] ?? '');
    expect(readCloudEvent(sample)).toEqual(sample);
    const createdAtUs = usFromIso('2026-11-23T04:30:00Z');
    const event = pointCreated('20261123T043000.000000Z-crash');
    const [queued] = enqueue(newOutbox(createdAtUs), [event], createdAtUs + 2_250_000).queued;
    const message = queued && toMessage(queued, 'shop');
    expect(message?.body).toEqual(sample);
    const properties = [...page.matchAll(/^\| application property `(\w+)`/gm)].map(([, property]) => property);
    expect(properties).toEqual(Object.keys(message?.applicationProperties ?? {}));
  });

  it('lists exactly the symptoms, with their severities', () => {
    const table = [...page.matchAll(/^\| `([A-Z_]+)` \| (critical|warning)/gm)].map(
      ([, code, severity]) => `${code} ${severity}`,
    );
    const hour = 3_600_000_000;
    const base = {
      nowUs: 100 * hour,
      newestAppCutUs: 0,
      protectedSinceUs: 0,
      policy: { rpoThresholdMinutes: 15, appConsistentHours: 4 },
      backlogBytes: 0,
      state: 'protected',
      resyncDisks: ['web/os'],
    };
    const behind = assessHealth({ ...base, watermarkUs: 0, newestCutUs: 0 }, NEW_HEALTH);
    const ahead = assessHealth({ ...base, watermarkUs: 101 * hour, newestCutUs: null }, NEW_HEALTH);
    const made = new Set([...behind.symptoms, ...ahead.symptoms].map(({ code, severity }) => `${code} ${severity}`));
    expect([...made].sort()).toEqual([...table].sort());
  });

  it('names the limits that the code has', () => {
    expect(flowing).toContain(
      `${MAX_OUTBOX.toLocaleString('en')} messages or ${MAX_OUTBOX_BYTES / 2 ** 20} MiB per group`,
    );
    expect(flowing).toContain(`A list holds ${MAX_LISTED} entries`);
    expect(flowing).toContain(`${MAX_TEXT.toLocaleString('en')} characters (${MAX_LISTED_TEXT} inside a list)`);
    expect(page).toContain(
      `application property \`severity\` | ${SEVERITIES.map((severity) => `\`${severity}\``)
        .join(', ')
        .replace(/, (?=[^,]*$)/, ' or ')} |`,
    );
  });
});
