/** Pure. Takes secrets out of a text that comes in pieces, and keeps its end. */

export interface Redacted {
  push(text: string): void;
  /** The last characters of all that was pushed, without the secrets. */
  end(): string;
}

/**
 * A secret that lies across pieces is found too: what may be the begin of one waits for the next piece.
 * @param secrets name to value; values below four characters are left alone, since they are everywhere
 */
export function redactor(secrets: ReadonlyMap<string, string>, keepChars: number): Redacted {
  const known = [...secrets].filter(([, value]) => value.length >= 4).toSorted(([, a], [, b]) => b.length - a.length);
  const longest = known[0]?.[1].length ?? 1;
  const nameOf = new Map(known.map(([name, value]) => [value, name]));
  const pattern = new RegExp(
    known.length === 0 ? '(?!)' : known.map(([, value]) => value.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('|'),
    'g',
  );
  let pending = '';
  let kept = '';
  const settle = (throughChars: number): void => {
    let at = 0;
    let out = '';
    for (const match of pending.matchAll(pattern)) {
      if (match.index >= throughChars) break;
      out += `${pending.slice(at, match.index)}[${nameOf.get(match[0]) ?? ''}]`;
      at = match.index + match[0].length;
    }
    const through = Math.max(at, throughChars);
    kept = (kept + out + pending.slice(at, through)).slice(-keepChars);
    pending = pending.slice(through);
  };
  return {
    push(text) {
      pending += text;
      settle(Math.max(0, pending.length - longest + 1));
    },
    end() {
      settle(pending.length);
      return kept.toWellFormed();
    },
  };
}
