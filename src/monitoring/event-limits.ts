/** Pure. Keeps an event's data within what a message and the progress document can carry. */

/** Characters of a text that stands for itself, such as a reason. */
export const MAX_TEXT = 1000;
/** Characters of a text inside a list. */
export const MAX_LISTED_TEXT = 200;
/**
 * Entries of a list. 400 disks of the longest names make about 100 KB, which leaves room within the 256 KB that a message may have on the
 * Standard tier of Service Bus. A group may have more disks: then `omitted` counts the rest.
 */
export const MAX_LISTED = 400;

/**
 * Cuts texts (marked by `…`) and lists (counted by `omitted`) to their limits. Long lists and hostile texts are part of what an event
 * may report, so they must not stop the group that reports them.
 */
export function fitEventData(data: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const fitted: Record<string, unknown> = {};
  let omitted = 0;
  for (const [field, value] of Object.entries(data)) {
    if (Array.isArray(value)) {
      fitted[field] = value.slice(0, MAX_LISTED).map(fitListed);
      omitted += Math.max(0, value.length - MAX_LISTED);
    } else if (value !== undefined) {
      fitted[field] = typeof value === 'string' ? cutText(value, MAX_TEXT) : value;
    }
  }
  return omitted === 0 ? fitted : { ...fitted, omitted };
}

function fitListed(value: unknown): unknown {
  if (typeof value === 'string') return cutText(value, MAX_LISTED_TEXT);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([field, inner]) => [field, fitListed(inner)]));
}

/** Well-formed (no half surrogate pairs), at most `limit` UTF-16 units. */
function cutText(text: string, limit: number): string {
  return (text.length <= limit ? text : `${text.slice(0, limit - 1)}…`).toWellFormed();
}
