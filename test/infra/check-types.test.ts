import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkTypes } from '../../infra/check-types.ts';

const ref = (index: number) => ({ $ref: `#/${index}` });
const property = (index: number, flags = 0) => ({ type: ref(index), flags });

/** In the form of the published files: entries refer to each other by index. */
const TYPES = [
  { $type: 'StringType' },
  { $type: 'IntegerType' },
  { $type: 'BooleanType' },
  { $type: 'StringLiteralType', value: 'Hot' },
  { $type: 'UnionType', elements: [ref(3), ref(0)] },
  { $type: 'ArrayType', itemType: ref(1) },
  { $type: 'ObjectType', name: 'Empty', properties: {}, additionalProperties: ref(0) },
  {
    $type: 'DiscriminatedObjectType',
    name: 'Target',
    discriminator: 'kind',
    baseProperties: { note: property(0) },
    elements: { Queue: ref(8) },
  },
  { $type: 'ObjectType', name: 'Queue', properties: { kind: property(0, 1), id: property(0, 1) } },
  {
    $type: 'ObjectType',
    name: 'Properties',
    properties: {
      tier: property(4),
      on: property(2),
      sizes: property(5),
      target: property(7),
      state: property(0, 2),
    },
  },
  {
    $type: 'ObjectType',
    name: 'Contoso.Things/things',
    properties: {
      id: property(0, 10),
      type: property(0, 10),
      apiVersion: property(0, 10),
      name: property(0, 9),
      tags: property(6),
      properties: property(9, 1),
    },
  },
  {
    $type: 'ResourceType',
    name: 'Contoso.Things/things@2026-01-01',
    body: ref(10),
    readableScopes: 8,
    writableScopes: 8,
  },
];

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tidemark-types-'));
  const types = join(folder, 'generated/things_0/contoso.things/2026-01-01');
  mkdirSync(types, { recursive: true });
  writeFileSync(join(types, 'types.json'), JSON.stringify(TYPES));
});

afterEach(() => rmSync(folder, { recursive: true }));

async function problemsOf(body: string, reference = 'Contoso.Things/things@2026-01-01'): Promise<readonly string[]> {
  const file = join(folder, 'a.bicep');
  writeFileSync(file, `param p bool\nvar listed = [1, 'two']\nresource thing '${reference}' = ${body}\n`);
  const { problems } = await checkTypes(folder, [file]);
  return problems.map((problem) => problem.slice(file.length + 1));
}

describe('infra/check-types.ts', () => {
  it('finds nothing to say of what fits', async () => {
    const body = `{
  name: 'a'
  parent: other
  tags: { any: 'thing' }
  properties: {
    tier: p ? 'Hot' : null
    on: p
    sizes: [1, 2]
    target: { kind: 'Queue', id: 'x', note: 'y' }
  }
}`;
    expect(await problemsOf(body)).toEqual([]);
  });

  it.each([
    ["{ name: 'a', properties: { teir: 'Hot' } }", 'there is no properties.teir'],
    ["{ name: 'a', properties: { state: 'x' } }", 'properties.state is read-only'],
    ["{ name: 'a', properties: { tier: 'Warm' } }", 'properties.tier may not be "Warm"'],
    ["{ name: 'a', properties: { on: p ? true : 'yes' } }", 'properties.on may not be "yes"'],
    ["{ name: 'a', properties: { sizes: listed } }", 'properties.sizes[] may not be "two"'],
    ["{ name: 'a', properties: { sizes: 1 } }", 'properties.sizes must be an array'],
    ["{ name: 'a', properties: { target: { kind: 'Topic' } } }", 'properties.target.kind may not be Topic'],
    ["{ name: 'a', properties: { target: { kind: 'Queue' } } }", 'properties.target needs id'],
    ["{ name: 'a', tags: { any: 1 }, properties: {} }", 'tags.any may not be 1'],
    ["[for i in [1]: { name: 'a', properties: { on: 1 } }]", 'properties.on may not be 1'],
    ["{ name: 'a' }", ' needs properties'],
  ])('reports %s', async (body, what) => {
    const problems = await problemsOf(body);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(/^\d+: thing: /);
    expect(problems[0]?.endsWith(what)).toBe(true);
  });

  it('reports a type or version that is not published', async () => {
    expect(await problemsOf('{}', 'Contoso.Things/things@2026-01-02')).toEqual([
      '3: thing: there is no Contoso.Things/things@2026-01-02',
    ]);
    expect(await problemsOf('{}', 'Contoso.Things/thing@2026-01-01')).toEqual([
      '3: thing: there is no Contoso.Things/thing@2026-01-01',
    ]);
  });

  it('says what it could not look into', async () => {
    const file = join(folder, 'a.bicep');
    writeFileSync(
      file,
      "resource thing 'Contoso.Things/things@2026-01-01' = { name: concat('a'), properties: { tier: 'Hot' } }\n",
    );
    expect(await checkTypes(folder, [file])).toEqual({ problems: [], resources: 1, compared: 3, computed: 1 });
  });
});
