/**
 * Compares the Bicep files with the resource types that Microsoft publishes: `node infra/check-types.ts FOLDER`, where FOLDER is a checkout of
 * github.com/Azure/bicep-types-az. Looks at types, API versions, names of properties, required and read-only ones, and literals. What is
 * computed (calls, names, parameters) is not looked into, and counted.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { z } from 'zod';
import { type BicepFile, readBicep, type Resource, type Value } from './bicep.ts';

const reference = z.object({ $ref: z.string() });
const property = z.object({ type: reference, flags: z.int() });
const typeSchema = z.discriminatedUnion('$type', [
  z.object({ $type: z.enum(['AnyType', 'BuiltInType', 'ResourceFunctionType', 'NullType']) }),
  z.object({ $type: z.enum(['StringType', 'IntegerType', 'BooleanType']) }),
  z.object({ $type: z.literal('StringLiteralType'), value: z.string() }),
  z.object({ $type: z.literal('UnionType'), elements: z.array(reference) }),
  z.object({ $type: z.literal('ArrayType'), itemType: reference }),
  z.object({
    $type: z.literal('ObjectType'),
    properties: z.record(z.string(), property),
    additionalProperties: reference.optional(),
  }),
  z.object({
    $type: z.literal('DiscriminatedObjectType'),
    discriminator: z.string(),
    baseProperties: z.record(z.string(), property),
    elements: z.record(z.string(), reference),
  }),
  z.object({ $type: z.literal('ResourceType'), name: z.string(), body: reference }),
]);

type TypeNode = z.infer<typeof typeSchema>;
type ObjectNode = Extract<TypeNode, { $type: 'ObjectType' }>;

/** Flags of a property in the published types. */
const REQUIRED = 1;
const READ_ONLY = 2;
/** What Bicep itself adds to a resource; type and version are in its reference. */
const OF_BICEP = new Set(['parent', 'scope', 'dependsOn', 'type', 'apiVersion', 'id']);

export interface TypeReport {
  /** `FILE:LINE: what is wrong` */
  readonly problems: readonly string[];
  readonly resources: number;
  /** Properties whose name and value were compared, and those whose value is computed. */
  readonly compared: number;
  readonly computed: number;
}

/** The types of one provider and version: `types.json`, whose entries refer to each other by index. */
class PublishedTypes {
  readonly #types: readonly TypeNode[];

  constructor(file: string) {
    this.#types = z.array(typeSchema).parse(JSON.parse(readFileSync(file, 'utf8')));
  }

  get({ $ref }: z.infer<typeof reference>): TypeNode {
    const found = this.#types[Number($ref.slice(2))];
    if (found === undefined) throw new Error(`${$ref} leads nowhere`);
    return found;
  }

  body(name: string): TypeNode | undefined {
    const wanted = name.toLowerCase();
    const found = this.#types.find((type) => type.$type === 'ResourceType' && type.name.toLowerCase() === wanted);
    return found?.$type === 'ResourceType' ? this.get(found.body) : undefined;
  }
}

/** Finds the body of a resource type in a checkout. Several folders may hold parts of one provider. */
class Checkout {
  readonly #generated: string;
  readonly #folders: readonly string[];
  readonly #read = new Map<string, PublishedTypes>();

  /** @throws when there is no folder `generated` */
  constructor(folder: string) {
    this.#generated = `${folder}/generated`;
    this.#folders = readdirSync(this.#generated);
  }

  find({ type, apiVersion }: Resource): { readonly types: PublishedTypes; readonly body: TypeNode } | undefined {
    const provider = (type.split('/')[0] ?? '').toLowerCase();
    for (const folder of this.#folders) {
      const file = `${this.#generated}/${folder}/${provider}/${apiVersion}/types.json`;
      if (!existsSync(file)) continue;
      const types = this.#read.get(file) ?? new PublishedTypes(file);
      this.#read.set(file, types);
      const body = types.body(`${type}@${apiVersion}`);
      if (body !== undefined) return { types, body };
    }
    return undefined;
  }
}

/** Compares the values of one file; `say` takes each difference. */
class Comparison {
  readonly #types: PublishedTypes;
  readonly #variables: BicepFile['variables'];
  readonly #say: (line: number, what: string) => void;
  compared = 0;
  computed = 0;

  constructor(types: PublishedTypes, variables: BicepFile['variables'], say: (line: number, what: string) => void) {
    this.#types = types;
    this.#variables = variables;
    this.#say = say;
  }

  /** @param path where the value is, for messages */
  compare(given: Value, type: TypeNode, path: string): void {
    const value = this.#resolved(given);
    if (type.$type === 'AnyType') return;
    if (value.kind === 'either') return value.options.forEach((option) => this.compare(option, type, path));
    if (value.kind === 'each') {
      const item = type.$type === 'ArrayType' ? this.#types.get(type.itemType) : type;
      return this.compare(value.item, item, path);
    }
    if (value.kind === 'call' || value.kind === 'expression' || value.kind === 'text') {
      this.computed++;
      return;
    }
    this.compared++;
    if (value.kind === 'literal' && value.value === null) return;
    if (type.$type === 'DiscriminatedObjectType') return this.#discriminated(value, type, path);
    if (type.$type === 'ObjectType') return this.#object(value, type, path);
    if (type.$type === 'ArrayType') {
      if (value.kind !== 'array') return this.#say(value.line, `${path} must be an array`);
      return value.items.forEach((item) => this.compare(item, this.#types.get(type.itemType), `${path}[]`));
    }
    if (value.kind !== 'literal') return this.#say(value.line, `${path} must be a plain value`);
    if (!this.#allows(type, value.value)) this.#say(value.line, `${path} may not be ${JSON.stringify(value.value)}`);
  }

  /** What a name stands for, when it is a variable of the file. */
  #resolved(value: Value): Value {
    if (value.kind !== 'expression') return value;
    const variable = this.#variables.get(value.text);
    return variable === undefined ? value : this.#resolved(variable);
  }

  #object(value: Value, type: Omit<ObjectNode, '$type'>, path: string): void {
    if (value.kind !== 'object') return this.#say(value.line, `${path} must be an object`);
    const isResource = path === '';
    for (const [name, inner] of value.properties) {
      if (isResource && OF_BICEP.has(name)) continue;
      const found = type.properties[name];
      const innerPath = isResource ? name : `${path}.${name}`;
      if (found !== undefined) {
        if ((found.flags & READ_ONLY) !== 0) this.#say(inner.line, `${innerPath} is read-only`);
        this.compare(inner, this.#types.get(found.type), innerPath);
      } else if (type.additionalProperties === undefined) this.#say(inner.line, `there is no ${innerPath}`);
      else this.compare(inner, this.#types.get(type.additionalProperties), innerPath);
    }
    for (const [name, { flags }] of Object.entries(type.properties)) {
      const isImplied = isResource && OF_BICEP.has(name);
      if ((flags & (REQUIRED | READ_ONLY)) === REQUIRED && !isImplied && !value.properties.has(name))
        this.#say(value.line, `${path} needs ${name}`);
    }
  }

  #discriminated(value: Value, type: Extract<TypeNode, { $type: 'DiscriminatedObjectType' }>, path: string): void {
    if (value.kind !== 'object') return this.#say(value.line, `${path} must be an object`);
    const chosen = value.properties.get(type.discriminator);
    if (chosen?.kind !== 'literal') {
      this.computed++;
      return;
    }
    const element = type.elements[String(chosen.value)];
    const special = element === undefined ? undefined : this.#types.get(element);
    if (special?.$type !== 'ObjectType') {
      return this.#say(value.line, `${path}.${type.discriminator} may not be ${String(chosen.value)}`);
    }
    const { additionalProperties } = special;
    const properties = { ...type.baseProperties, ...special.properties };
    this.#object(value, { properties, ...(additionalProperties !== undefined && { additionalProperties }) }, path);
  }

  /** Many lists of values are open to any text, for values that come later; only those that are listed are taken here. */
  #ofUnion({ elements }: Extract<TypeNode, { $type: 'UnionType' }>, value: unknown): boolean {
    const options = elements.map((element) => this.#types.get(element));
    const listed = options.filter(({ $type }) => $type === 'StringLiteralType');
    return (listed.length > 0 ? listed : options).some((option) => this.#allows(option, value));
  }

  #allows(type: TypeNode, value: unknown): boolean {
    if (type.$type === 'UnionType') return this.#ofUnion(type, value);
    if (type.$type === 'StringLiteralType') return value === type.value;
    if (type.$type === 'StringType') return typeof value === 'string';
    if (type.$type === 'BooleanType') return typeof value === 'boolean';
    if (type.$type === 'IntegerType') return Number.isInteger(value);
    return type.$type === 'BuiltInType';
  }
}

/** @throws when a file cannot be read, or the checkout has another form */
export async function checkTypes(checkoutFolder: string, files: readonly string[]): Promise<TypeReport> {
  const checkout = new Checkout(checkoutFolder);
  const problems: string[] = [];
  let [resources, compared, computed] = [0, 0, 0];
  for (const file of files) {
    const bicep = await readBicep(file);
    for (const resource of bicep.resources) {
      resources++;
      const say = (line: number, what: string): void =>
        void problems.push(`${file}:${line}: ${resource.symbol}: ${what}`);
      const found = checkout.find(resource);
      if (found === undefined) say(resource.line, `there is no ${resource.type}@${resource.apiVersion}`);
      else if (!resource.isExisting) {
        const comparison = new Comparison(found.types, bicep.variables, say);
        comparison.compare(resource.body, found.body, '');
        compared += comparison.compared;
        computed += comparison.computed;
      }
    }
  }
  return { problems, resources, compared, computed };
}

/** All Bicep files of this folder. */
export function bicepFiles(folder: string): readonly string[] {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return names
    .filter((name) => name.endsWith('.bicep'))
    .toSorted()
    .map((name) => `${folder}/${name}`);
}

if (import.meta.main) {
  const [folder] = process.argv.slice(2);
  if (folder === undefined) {
    console.error('usage: node infra/check-types.ts FOLDER');
    process.exit(2);
  }
  const { problems, resources, compared, computed } = await checkTypes(folder, bicepFiles(import.meta.dirname));
  for (const problem of problems) console.log(problem);
  console.log(`${resources} resources, ${compared} values compared, ${computed} computed, ${problems.length} problems`);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
