/**
 * Pure. The part of Service Bus's SQL filter grammar that plain rules use: comparisons, AND, OR, NOT, IN, LIKE, IS [NOT] NULL, EXISTS,
 * parentheses; a comparison with a property that is not there is false; strings, numbers, booleans, `sys.` and application properties. No arithmetic, no functions, no ESCAPE: those are refused.
 */
import type { Message } from 'rhea';
import { TidemarkError } from '../../errors.ts';
import { SYSTEM_FIELDS, type Filter } from './filters.ts';

type Operand = (message: Message) => unknown;

const TOKEN = /\s*('(?:[^']|'')*'|[A-Za-z_][\w.]*|\[[^\]]+\]|-?\d+(?:\.\d+)?|<>|!=|<=|>=|[=<>(),])/y;

const COMPARISONS: Readonly<Record<string, (left: never, right: never) => boolean>> = {
  '=': (left, right) => left === right,
  '<>': (left, right) => left !== right,
  '!=': (left, right) => left !== right,
  '<': (left, right) => left < right,
  '>': (left, right) => left > right,
  '<=': (left, right) => left <= right,
  '>=': (left, right) => left >= right,
};

const KEYWORDS = new Set(['AND', 'OR', 'NOT', 'IN', 'LIKE', 'IS', 'NULL', 'EXISTS', 'ESCAPE']);

/** Compiles a rule's expression. @throws TidemarkError BROKER_CONFIG_INVALID naming the place that is not understood. */
export function sqlFilter(expression: string): Filter {
  return new SqlParser(expression).parse();
}

class SqlParser {
  readonly #expression: string;
  readonly #tokens: string[] = [];
  #next = 0;

  constructor(expression: string) {
    this.#expression = expression;
    TOKEN.lastIndex = 0;
    let end = 0;
    for (let match = TOKEN.exec(expression); match !== null; match = TOKEN.exec(expression)) {
      this.#tokens.push(match[1] ?? '');
      end = TOKEN.lastIndex;
    }
    if (expression.slice(end).trim() !== '') throw this.#fail(`cannot read '${expression.slice(end)}'`);
  }

  parse(): Filter {
    const filter = this.#or();
    if (this.#next < this.#tokens.length) throw this.#fail(`unexpected '${this.#tokens.slice(this.#next).join(' ')}'`);
    return filter;
  }

  #or(): Filter {
    let left = this.#and();
    while (this.#accept('OR')) {
      const [first, second] = [left, this.#and()];
      left = (message) => first(message) || second(message);
    }
    return left;
  }

  #and(): Filter {
    let left = this.#primary();
    while (this.#accept('AND')) {
      const [first, second] = [left, this.#primary()];
      left = (message) => first(message) && second(message);
    }
    return left;
  }

  #primary(): Filter {
    if (this.#accept('(')) {
      const inner = this.#or();
      this.#expect(')');
      return inner;
    }
    if (this.#accept('NOT')) return negateIf(true, this.#primary());
    if (this.#accept('EXISTS')) {
      this.#expect('(');
      const operand = this.#operand();
      this.#expect(')');
      return (message) => operand(message) !== undefined;
    }
    return this.#predicate(this.#operand());
  }

  #predicate(left: Operand): Filter {
    if (this.#accept('IS')) {
      const negated = this.#accept('NOT');
      this.#expect('NULL');
      return negateIf(negated, (message) => isNull(left(message)));
    }
    const negated = this.#accept('NOT');
    if (this.#accept('IN')) {
      const choices = this.#list();
      return (message) => {
        const value = left(message);
        return !isNull(value) && choices.some((choice) => choice(message) === value) !== negated;
      };
    }
    if (this.#accept('LIKE')) {
      const pattern = this.#operand();
      return (message) => {
        const value = left(message);
        return !isNull(value) && isLike(value, pattern(message)) !== negated;
      };
    }
    const operator = this.#take();
    const compare = negated ? undefined : COMPARISONS[operator];
    if (compare === undefined) throw this.#fail(`unsupported operator '${operator}'`);
    const right = this.#operand();
    return (message) => {
      const [a, b] = [left(message), right(message)];
      return !isNull(a) && !isNull(b) && compare(a as never, b as never);
    };
  }

  #list(): Operand[] {
    this.#expect('(');
    const operands = [this.#operand()];
    while (this.#accept(',')) operands.push(this.#operand());
    this.#expect(')');
    return operands;
  }

  #operand(): Operand {
    const token = this.#take();
    if (token.startsWith("'")) {
      const text = token.slice(1, -1).replaceAll("''", "'");
      return () => text;
    }
    if (/^-?\d/.test(token)) {
      const number = Number(token);
      return () => number;
    }
    if (/^(?:true|false)$/i.test(token)) {
      const truth = token.toLowerCase() === 'true';
      return () => truth;
    }
    if (!/^[A-Za-z_[]/.test(token) || KEYWORDS.has(token.toUpperCase())) throw this.#fail(`unexpected '${token}'`);
    return this.#property(token.startsWith('[') ? token.slice(1, -1) : token);
  }

  #property(name: string): Operand {
    if (/^sys\./i.test(name)) {
      const field = SYSTEM_FIELDS[name.slice(4).toLowerCase()];
      if (field === undefined) throw this.#fail(`unknown system property '${name}'`);
      return (message) => message[field];
    }
    const key = name.replace(/^user\./i, '');
    return (message) => message.application_properties?.[key];
  }

  #accept(word: string): boolean {
    if (this.#tokens[this.#next]?.toUpperCase() !== word) return false;
    this.#next++;
    return true;
  }

  #expect(word: string): void {
    if (!this.#accept(word)) throw this.#fail(`expected ${word} at '${this.#tokens.slice(this.#next).join(' ')}'`);
  }

  #take(): string {
    const token = this.#tokens[this.#next++];
    if (token === undefined) throw this.#fail('unexpected end');
    return token;
  }

  #fail(what: string): TidemarkError {
    return new TidemarkError('BROKER_CONFIG_INVALID', `SQL filter "${this.#expression}": ${what}`);
  }
}

const isNull = (value: unknown): boolean => value === undefined || value === null;

const negateIf =
  (negated: boolean, filter: Filter): Filter =>
  (message) =>
    filter(message) !== negated;

/** SQL's LIKE: `%` is any run of characters, `_` one. */
function isLike(value: unknown, pattern: unknown): boolean {
  if (typeof value !== 'string' || typeof pattern !== 'string') return false;
  const source = pattern
    .replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')
    .replaceAll('%', '.*')
    .replaceAll('_', '.');
  return new RegExp(`^${source}$`, 's').test(value);
}
