/** What commands on the catalog need from the world; tests give them a catalog in memory. */
import type { Catalog } from '../../catalog/catalog.ts';
import { TidemarkError } from '../../errors.ts';
import { systemClock } from '../../system-clock.ts';
import type { CliContext } from '../context.ts';
import { withRuntime } from '../with-runtime.ts';

export interface CatalogTools {
  /** Opens the configured catalog, runs `work` and closes it. @throws TidemarkError CONFIG_MISSING, CONFIG_INVALID, and what `work` throws */
  withCatalog<T>(context: CliContext, work: (catalog: Catalog, signal: AbortSignal) => Promise<T>): Promise<T>;
  /** Wall clock in microseconds since 1970. */
  nowUs(): number;
}

export const configuredCatalog: CatalogTools = {
  withCatalog: (context, work) => withRuntime(context, ({ ports }) => work(ports.catalog, context.signal)),
  nowUs: () => systemClock.nowUs(),
};

/** An option's number; limits are for the command. @throws TidemarkError USAGE */
export function parseNumber(text: string): number {
  if (/^[+-]?\d{1,15}(?:\.\d{1,15})?$/.test(text)) return Number(text);
  throw new TidemarkError('USAGE', `${JSON.stringify(text.slice(0, 40))} is no number`);
}

/** A document as commands print it: without the version of its stored form. */
export function withoutVersion<T extends { readonly version: number }>(document: T): Omit<T, 'version'> {
  const { version: _, ...rest } = document;
  return rest;
}
