/** Pure. Source time: microseconds since 1970 on the source's clock, as a safe integer. */
import { TidemarkError } from '../errors.ts';

/** The distance of crash-consistent cuts; a constant of the service, not a setting (ASR: every 5 minutes). */
export const FIVE_MINUTES_US = 300_000_000;
export const HOUR_US = 3_600_000_000;

/** `2026-11-23T04:30:00.000000Z`. */
export function isoFromUs(timeUs: number): string {
  const seconds = Math.floor(timeUs / 1_000_000);
  const micros = String(timeUs - seconds * 1_000_000).padStart(6, '0');
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${micros}Z`;
}

/** `20261123T043000.000000Z`: sorts by time, and holds no colon, so that it can be part of a blob name. */
export const stampFromUs = (timeUs: number): string => isoFromUs(timeUs).replaceAll(/[-:]/g, '');

const ISO = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,6})\d*)?(Z|[+-]\d{2}:\d{2})$/;

/** @throws TidemarkError USAGE unless `text` is an ISO 8601 date and time with a zone. */
export function usFromIso(text: string): number {
  const match = ISO.exec(text);
  const millis = match === null ? Number.NaN : Date.parse(`${match[1]}${match[3]}`);
  if (match === null || !Number.isFinite(millis)) {
    throw new TidemarkError('USAGE', `${JSON.stringify(text)} is no ISO 8601 time such as 2026-11-23T04:30:00Z`);
  }
  return millis * 1000 + Number((match[2] ?? '').padEnd(6, '0'));
}

/** The first five-minute boundary at or after `timeUs`. */
export const boundaryAtOrAfter = (timeUs: number): number => Math.ceil(timeUs / FIVE_MINUTES_US) * FIVE_MINUTES_US;
