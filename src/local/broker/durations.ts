/** Pure. ISO 8601 durations as the emulator's Config.json writes them: `PT5S`, `PT1M`, `P1DT2H`. */
import { TidemarkError } from '../../errors.ts';

const DURATION = /^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$/;

/** Milliseconds of `text`; `fallbackMs` when it is absent or empty. @throws TidemarkError BROKER_CONFIG_INVALID */
export function parseDurationMs(text: string | undefined, fallbackMs: number): number {
  if (text === undefined || text === '') return fallbackMs;
  const match = DURATION.exec(text);
  if (match === null || /^P(?:.*T)?$/.test(text)) {
    throw new TidemarkError('BROKER_CONFIG_INVALID', `${JSON.stringify(text)} is no ISO 8601 duration such as PT5S`);
  }
  const [days, hours, minutes, seconds] = match.slice(1).map((part: string | undefined) => Number(part ?? 0));
  return (((days ?? 0) * 24 + (hours ?? 0)) * 60 + (minutes ?? 0)) * 60_000 + (seconds ?? 0) * 1000;
}
