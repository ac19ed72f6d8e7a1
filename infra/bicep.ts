/**
 * Reads Bicep files as far as the checks of this folder need it: declarations, and values as a tree. Syntax only, by tree-sitter; nothing is
 * compiled, so names, types and functions are not known.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Language, type Node, Parser } from 'web-tree-sitter';

/** What a value looks like in the source. */
export type Value =
  | { readonly kind: 'object'; readonly properties: ReadonlyMap<string, Value>; readonly line: number }
  | { readonly kind: 'array'; readonly items: readonly Value[]; readonly line: number }
  | { readonly kind: 'literal'; readonly value: string | number | boolean | null; readonly line: number }
  /** A conditional: one of these. */
  | { readonly kind: 'either'; readonly condition: string; readonly options: readonly Value[]; readonly line: number }
  /** Such an item for each element of a list. */
  | { readonly kind: 'each'; readonly over: string; readonly item: Value; readonly line: number }
  /** A string with insertions. */
  | { readonly kind: 'text'; readonly text: string; readonly line: number }
  | {
      readonly kind: 'call';
      readonly name: string;
      readonly args: readonly Value[];
      readonly text: string;
      readonly line: number;
    }
  /** Anything else, such as a name or an operator. */
  | { readonly kind: 'expression'; readonly text: string; readonly line: number };

export interface Parameter {
  readonly name: string;
  readonly type: string;
  readonly description: string | undefined;
  /** It has no default and may not be null. */
  readonly isRequired: boolean;
  readonly defaultValue: Value | undefined;
}

export interface Resource {
  readonly symbol: string;
  /** Such as `Microsoft.Storage/storageAccounts`. */
  readonly type: string;
  readonly apiVersion: string;
  readonly isExisting: boolean;
  readonly body: Value;
  readonly line: number;
}

export interface ModuleReference {
  readonly symbol: string;
  readonly path: string;
  readonly parameters: ReadonlyMap<string, Value>;
  readonly line: number;
}

export interface Output {
  readonly name: string;
  readonly description: string | undefined;
}

export interface BicepFile {
  readonly text: string;
  /** `LINE: what is wrong`; empty when the syntax is right. */
  readonly syntaxErrors: readonly string[];
  readonly parameters: readonly Parameter[];
  readonly variables: ReadonlyMap<string, Value>;
  readonly resources: readonly Resource[];
  readonly modules: readonly ModuleReference[];
  readonly outputs: readonly Output[];
}

const require = createRequire(import.meta.url);
let parser: Promise<Parser> | undefined;

async function openParser(): Promise<Parser> {
  await Parser.init();
  const made = new Parser();
  made.setLanguage(await Language.load(require.resolve('tree-sitter-bicep/tree-sitter-bicep.wasm')));
  return made;
}

/** @throws when the file cannot be read */
export async function readBicep(file: string | URL): Promise<BicepFile> {
  return parseBicep(readFileSync(file, 'utf8'));
}

/**
 * The assignments of a `.bicepparam` file.
 * @throws when it cannot be read or is no such file
 */
export async function readBicepParameters(
  file: string | URL,
): Promise<{ readonly using: string; readonly values: ReadonlyMap<string, Value> }> {
  const text = readFileSync(file, 'utf8');
  const using = /^using '([^']+)'$/m.exec(text)?.[1];
  if (using === undefined) throw new Error(`${String(file)}: no using`);
  // The grammar knows neither `using` nor assignments to parameters; as variables they have the same form.
  const { syntaxErrors, variables } = await parseBicep(
    text.replace(/^using .*$/m, '').replaceAll(/^param (?=\w+ = )/gm, 'var '),
  );
  if (syntaxErrors.length > 0) throw new Error(`${String(file)}: ${syntaxErrors.join('; ')}`);
  return { using, values: variables };
}

/** The syntax tree of a file's text. */
export async function parseTree(text: string): Promise<Node> {
  const tree = (await (parser ??= openParser())).parse(text);
  if (tree === null) throw new Error('the parser gave nothing');
  return tree.rootNode;
}

export async function parseBicep(text: string): Promise<BicepFile> {
  const root = await parseTree(text);
  const syntaxErrors: string[] = [];
  const parameters: Parameter[] = [];
  const variables = new Map<string, Value>();
  const resources: Resource[] = [];
  const modules: ModuleReference[] = [];
  const outputs: Output[] = [];
  let decorators: Node | undefined;
  for (const node of namedChildren(root)) {
    const description = descriptionIn(decorators);
    if (node.type === 'parameter_declaration') parameters.push(parameterOf(node, description));
    if (node.type === 'variable_declaration') variables.set(nameOf(node), valueOf(namedChildren(node).at(-1)));
    if (node.type === 'resource_declaration') resources.push(resourceOf(node));
    if (node.type === 'module_declaration') modules.push(moduleOf(node));
    if (node.type === 'output_declaration') outputs.push({ name: nameOf(node), description });
    decorators = node.type === 'decorators' ? node : undefined;
  }
  collectErrors(root, syntaxErrors);
  return { text, syntaxErrors, parameters, variables, resources, modules, outputs };
}

/** The value and all values inside it. */
export function* valuesIn(value: Value): Generator<Value> {
  yield value;
  for (const inner of insideOf(value)) yield* valuesIn(inner);
}

function insideOf(value: Value): Iterable<Value> {
  if (value.kind === 'object') return value.properties.values();
  if (value.kind === 'array') return value.items;
  if (value.kind === 'either') return value.options;
  if (value.kind === 'each') return [value.item];
  return value.kind === 'call' ? value.args : [];
}

/** The value at a path of property names; undefined when there is none, or it is not spelled out. */
export function at(value: Value | undefined, ...path: readonly string[]): Value | undefined {
  return path.reduce<Value | undefined>((inner, name) => {
    const body = inner?.kind === 'each' ? inner.item : inner;
    return body?.kind === 'object' ? body.properties.get(name) : undefined;
  }, value);
}

/** The literal at a path, else the source text of what is there. */
export function literalAt(value: Value | undefined, ...path: readonly string[]): unknown {
  const found = at(value, ...path);
  if (found?.kind === 'literal') return found.value;
  return found !== undefined && 'text' in found ? found.text : found;
}

export const namedChildren = (node: Node): readonly Node[] =>
  node.namedChildren.filter((child): child is Node => child !== null && child.type !== 'comment');

export const lineOf = (node: Node): number => node.startPosition.row + 1;

const nameOf = (node: Node): string => namedChildren(node).find(({ type }) => type === 'identifier')?.text ?? '';

function descriptionIn(decorators: Node | undefined): string | undefined {
  for (const decorator of decorators === undefined ? [] : namedChildren(decorators)) {
    const call = valueOf(namedChildren(decorator)[0]);
    const text = call.kind === 'call' && call.name === 'description' ? call.args[0] : undefined;
    if (text?.kind === 'literal') return String(text.value);
  }
  return undefined;
}

function parameterOf(node: Node, description: string | undefined): Parameter {
  const [, type, fallback] = namedChildren(node);
  const typeText = type?.text ?? '';
  return {
    name: nameOf(node),
    type: typeText,
    description,
    isRequired: fallback === undefined && !typeText.endsWith('?'),
    defaultValue: fallback === undefined ? undefined : valueOf(fallback),
  };
}

function resourceOf(node: Node): Resource {
  const [, reference] = namedChildren(node);
  const [type = '', apiVersion = ''] = stringIn(reference).split('@');
  const isExisting = node.children.some((child) => child?.type === 'existing');
  return { symbol: nameOf(node), type, apiVersion, isExisting, body: valueOf(bodyOf(node)), line: lineOf(node) };
}

function moduleOf(node: Node): ModuleReference {
  const [, reference] = namedChildren(node);
  const parameters = at(valueOf(bodyOf(node)), 'params');
  return {
    symbol: nameOf(node),
    path: stringIn(reference),
    parameters: parameters?.kind === 'object' ? parameters.properties : new Map(),
    line: lineOf(node),
  };
}

const bodyOf = (node: Node): Node | undefined => namedChildren(node).slice(2).at(-1);

function stringIn(node: Node | undefined): string {
  const value = valueOf(node);
  return value.kind === 'literal' ? String(value.value) : '';
}

function valueOf(node: Node | undefined): Value {
  if (node === undefined) return { kind: 'expression', text: '', line: 0 };
  const line = lineOf(node);
  const children = namedChildren(node);
  switch (node.type) {
    case 'object':
      return { kind: 'object', properties: propertiesOf(children), line };
    case 'array':
      return { kind: 'array', items: itemsOf(children), line };
    case 'string':
      return stringOf(node, children);
    case 'number':
      return { kind: 'literal', value: Number(node.text), line };
    case 'boolean':
      return { kind: 'literal', value: node.text === 'true', line };
    case 'null':
      return { kind: 'literal', value: null, line };
    case 'ternary_expression':
      return { kind: 'either', condition: children[0]?.text ?? '', options: children.slice(1).map(valueOf), line };
    case 'member_expression':
    case 'subscript_expression':
      return endOfTernary(node) ?? { kind: 'expression', text: node.text, line };
    case 'for_statement':
      return { kind: 'each', over: children.at(-2)?.text ?? '', item: valueOf(children.at(-1)), line };
    case 'if_statement':
    case 'parenthesized_expression':
      return valueOf(children.at(-1));
    case 'call_expression':
      return callOf(children[0] ?? node, children[1]);
    case 'lambda_expression':
      return valueOf(children.at(-1));
    default:
      return { kind: 'expression', text: node.text, line };
  }
}

/** The grammar takes a call at the begin of an array for a name and something in parentheses. */
function itemsOf(children: readonly Node[]): readonly Value[] {
  return children.flatMap((child, index) => {
    const next = children[index + 1];
    if (child.type === 'identifier' && next?.startIndex === child.endIndex) return [callOf(child, next)];
    return children[index - 1]?.endIndex === child.startIndex ? [] : [valueOf(child)];
  });
}

/** The grammar takes `a ? b : c.d` for `(a ? b : c).d`. */
function endOfTernary(node: Node): Value | undefined {
  let first: Node | undefined = node;
  while (first?.type === 'member_expression' || first?.type === 'subscript_expression') first = namedChildren(first)[0];
  const [condition, then, otherwise] = first?.type === 'ternary_expression' ? namedChildren(first) : [];
  if (condition === undefined || then === undefined || otherwise === undefined) return undefined;
  const text = node.text.slice(otherwise.startIndex - node.startIndex);
  const other: Value = { kind: 'expression', text, line: lineOf(otherwise) };
  return { kind: 'either', condition: condition.text, options: [valueOf(then), other], line: lineOf(node) };
}

function callOf(name: Node, args: Node | undefined): Value {
  const values = args === undefined ? [] : namedChildren(args).map(valueOf);
  return { kind: 'call', name: name.text, args: values, text: `${name.text}${args?.text ?? ''}`, line: lineOf(name) };
}

function stringOf(node: Node, children: readonly Node[]): Value {
  const line = lineOf(node);
  if (children.some(({ type }) => type === 'interpolation'))
    return { kind: 'text', text: node.text.slice(1, -1), line };
  const value = children.map((child) => (child.type === 'escape_sequence' ? child.text.slice(1) : child.text)).join('');
  return { kind: 'literal', value, line };
}

function propertiesOf(properties: readonly Node[]): ReadonlyMap<string, Value> {
  return new Map(
    properties.map((property) => {
      const [key, value] = namedChildren(property);
      const name = valueOf(key);
      const text = name.kind === 'literal' ? String(name.value) : (key?.text ?? '');
      return [text, valueOf(value)] as const;
    }),
  );
}

function collectErrors(node: Node, errors: string[]): void {
  if (node.isError) errors.push(`${lineOf(node)}: ${node.text.slice(0, 60)}`);
  if (node.isMissing) errors.push(`${lineOf(node)}: ${node.type} is missing`);
  for (const child of node.children) if (child !== null && node.hasError) collectErrors(child, errors);
}
