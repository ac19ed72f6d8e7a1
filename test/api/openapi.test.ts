import { describe, expect, it } from 'vitest';
import { openApiDocument } from '../../src/api/openapi.ts';
import { ROUTES } from '../../src/api/routes.ts';
import { commandSchema } from '../../src/commands/commands.ts';
import { ERROR_CATALOGUE } from '../../src/errors.ts';
import { runTidemark } from '../support/cli.ts';

type Json = Readonly<Record<string, unknown>>;

const document = JSON.parse(JSON.stringify(openApiDocument())) as Json;
const at = (value: unknown, ...path: readonly string[]): unknown =>
  path.reduce<unknown>((inner, key) => (inner as Json | undefined)?.[key], value);

interface Operation {
  readonly id: string;
  readonly path: string;
  readonly method: string;
  readonly operation: Json;
}

const operations: readonly Operation[] = Object.entries(document['paths'] as Json).flatMap(([path, methods]) =>
  Object.entries(methods as Json).map(([method, operation]) => ({
    id: `${method} ${path}`,
    path,
    method,
    operation: operation as Json,
  })),
);

/** Every `$ref` in a value. */
function references(value: unknown): readonly string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => (key === '$ref' ? [String(inner)] : references(inner)));
}

describe('the OpenAPI document', () => {
  it('has exactly the routes that are served, and those that docs/api.md names', () => {
    const served = ROUTES.map(({ method, path }) => `${method} ${path}`);
    expect(operations.map(({ id }) => id).toSorted()).toEqual(served.toSorted());
    expect(served).toContain('post /v1/groups/{group}/commands');
  });

  it('is whole: version, no dangling reference, operations with ids of their own', () => {
    expect(document['openapi']).toBe('3.1.0');
    const refs = references(document);
    expect(refs.length).toBeGreaterThan(20);
    for (const ref of refs) expect(at(document, ...ref.slice(2).split('/')), ref).toBeDefined();
    const ids = operations.map(({ operation }) => operation['operationId']);
    expect(new Set(ids).size).toBe(ROUTES.length);
    for (const id of ids) expect(id).toMatch(/^[a-z][A-Za-z]+$/);
  });

  it.each(operations)('$id: parameters, token, answers, errors', ({ path, method, operation }) => {
    const parameters = (operation['parameters'] ?? []) as readonly Json[];
    const inPath = parameters.filter((parameter) => parameter['in'] === 'path').map((parameter) => parameter['name']);
    expect(inPath).toEqual([...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name));
    for (const parameter of parameters) expect(parameter['schema']).toBeDefined();
    const responses = operation['responses'] as Json;
    const statuses = Object.keys(responses);
    const success = statuses.filter((status) => status.startsWith('2'));
    expect(success).toEqual([method === 'post' ? '202' : '200']);
    expect(at(responses, success[0] ?? '', 'content', 'application/json', 'schema')).toBeDefined();
    if (!path.startsWith('/v1')) return;
    expect(operation['security']).toEqual([{ bearer: [] }]);
    for (const status of ['400', '401', '403', '500', '503']) expect(statuses).toContain(status);
    if (inPath.length > 0) expect(statuses).toContain('404');
    for (const status of statuses.filter((each) => each >= '400')) {
      const schema = at(responses, status, 'content', 'application/problem+json', 'schema');
      expect(schema).toEqual({ $ref: '#/components/schemas/Problem' });
    }
    expect(at(responses, '503', 'headers', 'Retry-After')).toBeDefined();
    if (method === 'post') expect(at(responses, '202', 'headers', 'Location')).toBeDefined();
  });

  it('names every error code, and every command', () => {
    const codes = at(document, 'components', 'schemas', 'Problem', 'properties', 'code', 'enum') as string[];
    expect(codes).toEqual(Object.keys(ERROR_CATALOGUE));
    const variants = at(document, 'components', 'schemas', 'Command', 'oneOf') as readonly Json[];
    const names = variants.map((variant) => at(variant, 'properties', 'command', 'enum', '0'));
    expect(names).toEqual(commandSchema.options.map(({ shape }) => shape.command.value));
    for (const variant of variants) {
      expect(variant['required']).not.toContain('group');
      expect(variant['additionalProperties']).toBe(false);
    }
    expect(at(document, 'components', 'securitySchemes', 'bearer', 'scheme')).toBe('bearer');
  });

  it('is printed without connecting to anything', async () => {
    const { exitCode, stdout } = await runTidemark({}, ['api', 'openapi', '--json']);
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toEqual(document);
  });
});
