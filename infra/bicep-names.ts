/** Names that are used and declared nowhere, and the other way round: what a compiler of Bicep would say first. */
import type { Node } from 'web-tree-sitter';
import { lineOf, namedChildren, parseTree } from './bicep.ts';

/** The functions of Bicep that the files of this folder use. */
const FUNCTIONS = new Set(
  `any concat contains empty environment filter flatten guid indexOf items join json last loadJsonContent map parse_json replace
   resourceGroup split subscription subscriptionResourceId take tenant toObject union uniqueString`.split(/\s+/),
);
const DECLARATIONS = new Set([
  'parameter_declaration',
  'variable_declaration',
  'resource_declaration',
  'module_declaration',
  'type_declaration',
]);
/** Names in these are no names of the file. */
const SKIPPED = new Set(['decorators', 'metadata_declaration', 'target_scope_assignment', 'property_identifier']);

export interface Names {
  /** `LINE: name` */
  readonly unknown: readonly string[];
  /** Parameters, variables, types and imports that nothing uses. */
  readonly unused: readonly string[];
}

export async function namesIn(text: string): Promise<Names> {
  const root = await parseTree(text);
  const declared = new Set<string>();
  const exported = new Set<string>();
  let decorators = '';
  for (const node of namedChildren(root)) {
    const name = namedChildren(node).find(({ type }) => type === 'identifier')?.text;
    if (name !== undefined && DECLARATIONS.has(node.type)) {
      declared.add(name);
      const isUsedElsewhere = decorators.includes('@export()') || /^(?:resource|module)_/.test(node.type);
      if (isUsedElsewhere) exported.add(name);
    }
    if (node.type === 'import_functionality') for (const imported of importedBy(node)) declared.add(imported);
    decorators = node.type === 'decorators' ? node.text : '';
  }
  const uses = namedChildren(root).flatMap((node) => [...usesIn(node, new Set())]);
  const used = new Set(uses.map(({ text: name }) => name));
  const isCall = (node: Node): boolean => text[node.endIndex] === '(';
  return {
    unknown: uses
      .filter((node) => !(isCall(node) ? FUNCTIONS : declared).has(node.text))
      .map((node) => `${lineOf(node)}: ${node.text}`),
    unused: [...declared].filter((name) => !used.has(name) && !exported.has(name)),
  };
}

const importedBy = (node: Node): readonly string[] =>
  namedChildren(node)
    .filter(({ type }) => type === 'identifier')
    .map(({ text }) => text);

/** Identifiers that stand for something declared elsewhere in the file; `local` are those of the loops and lambdas around. */
function* usesIn(node: Node, local: ReadonlySet<string>): Generator<Node> {
  if (SKIPPED.has(node.type) || node.type === 'import_functionality') return;
  const children = namedChildren(node);
  if (node.type === 'identifier') {
    if (!local.has(node.text)) yield node;
    return;
  }
  const bound = boundBy(node, children);
  const inner = bound.length === 0 ? local : new Set([...local, ...bound]);
  for (const child of usedChildren(node, children)) yield* usesIn(child, inner);
}

/** The children that can use names: not the name that is declared, not the key of a property. */
function usedChildren(node: Node, children: readonly Node[]): readonly Node[] {
  const [first, ...rest] = children;
  if (node.type.endsWith('_declaration')) return rest;
  if (node.type === 'object_property' && first?.type === 'identifier') return rest;
  return children;
}

/** Names of loop variables and lambda parameters. */
function boundBy(node: Node, children: readonly Node[]): readonly string[] {
  if (node.type !== 'for_statement' && node.type !== 'lambda_expression') return [];
  const [first] = children;
  if (first === undefined) return [];
  return first.type === 'identifier' ? [first.text] : [...first.text.matchAll(/\w+/g)].map(([name]) => name);
}
