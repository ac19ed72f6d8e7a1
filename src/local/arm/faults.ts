/** Faults on request, for tests: throttling, outages, lost answers, operations that fail or take long. */

export type FaultAction =
  /** The request is refused: 429, 503 … */
  | { readonly kind: 'refuse'; readonly status: number; readonly code: string; readonly retryAfterSeconds?: number }
  /** The connection breaks before the request is carried out, or after it, without an answer. */
  | { readonly kind: 'drop'; readonly carriedOut: boolean }
  /** The operation that the request begins ends as `Failed`. */
  | { readonly kind: 'fail'; readonly code: string; readonly message: string }
  /** The operation that the request begins does nothing until its status was asked for so many times. */
  | { readonly kind: 'slow'; readonly polls: number };

export interface FaultRule {
  /** Of the requests that it meets; any by default. */
  readonly method?: string;
  /** Part of the path, in any case; any by default. */
  readonly path?: string;
  /** So many requests, then never again; 1 by default. */
  readonly times?: number;
  readonly action: FaultAction;
}

export class Faults {
  readonly #rules: { readonly rule: FaultRule; left: number }[] = [];

  add(rule: FaultRule): void {
    this.#rules.push({ rule, left: rule.times ?? 1 });
  }

  /** What the next rule that meets the request asks for. */
  take(method: string, path: string): FaultAction | undefined {
    const found = this.#rules.find(({ rule, left }) => left > 0 && meets(rule, method, path));
    if (found === undefined) return undefined;
    found.left--;
    return found.rule.action;
  }
}

/** Reads begin no operation, so they do not use up what is meant for one. */
const meets = (rule: FaultRule, method: string, path: string): boolean =>
  (method !== 'GET' || (rule.action.kind !== 'fail' && rule.action.kind !== 'slow')) &&
  (rule.method === undefined || rule.method === method) &&
  (rule.path === undefined || path.toLowerCase().includes(rule.path.toLowerCase()));
