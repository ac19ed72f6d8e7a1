/** Pure. Replication policies: their limits, their defaults, and how one is changed. */
import { z } from 'zod';
import { TidemarkError } from '../errors.ts';

/** Longest retention: 15 days (ASR, managed disks). */
export const MAX_RETENTION_HOURS = 15 * 24;
/** Longest distance of app-consistent points (ASR: every 1 to 12 h, 0 = off). */
export const MAX_APP_CONSISTENT_HOURS = 12;
/** Our choice (ASR names no limits): one minute is above the age at which a segment closes, a day is no longer an alarm. */
export const RPO_THRESHOLD_LIMITS_MINUTES = { min: 1, max: 24 * 60 } as const;
/** Our choice: three days, enough to inspect a log; the cache account holds no archive. */
export const MAX_LOG_RETENTION_HOURS = 72;

/** Retention 24 h and an app-consistent point every 4 h are ASR's; the other two are ours. */
export const POLICY_DEFAULTS = {
  retentionHours: 24,
  appConsistentHours: 4,
  rpoThresholdMinutes: 15,
  logRetentionHours: 0,
} as const satisfies Policy;

export interface Policy {
  /** How far before the newest point the points reach; 0 keeps only what is never removed. Whole hours, 0 to 360. */
  readonly retentionHours: number;
  /** Distance of app-consistent points; 0 = off. Whole hours, 0 to 12, smaller than the retention. */
  readonly appConsistentHours: number;
  /** The RPO above which an event is raised. It changes no data. Whole minutes, 1 to 1440. */
  readonly rpoThresholdMinutes: number;
  /** How long a segment stays in the cache account after a committed point contains it. Whole hours, 0 to 72. */
  readonly logRetentionHours: number;
}

interface Limit {
  readonly min: number;
  readonly max: number;
  readonly unit: string;
  readonly why: string;
}

const LIMITS: Readonly<Record<keyof Policy, Limit>> = {
  retentionHours: { min: 0, max: MAX_RETENTION_HOURS, unit: 'hours', why: 'points are kept for at most 15 days' },
  appConsistentHours: {
    min: 0,
    max: MAX_APP_CONSISTENT_HOURS,
    unit: 'hours',
    why: '0 turns app-consistent points off, 1 to 12 is their distance',
  },
  rpoThresholdMinutes: {
    ...RPO_THRESHOLD_LIMITS_MINUTES,
    unit: 'minutes',
    why: 'a shorter RPO cannot be told from a normal delay, a longer one is no alarm',
  },
  logRetentionHours: {
    min: 0,
    max: MAX_LOG_RETENTION_HOURS,
    unit: 'hours',
    why: 'the cache account holds logs for at most 3 days',
  },
};

function wholeNumber(field: keyof Policy): z.ZodNumber {
  const { min, max, unit, why } = LIMITS[field];
  const error = (issue: { readonly input?: unknown }): string =>
    `${field} is ${shown(issue.input)}, but must be a whole number of ${unit} from ${min} to ${max}: ${why}`;
  return z.number({ error }).int({ error }).min(min, { error }).max(max, { error });
}

/** A value as an operator may have typed it, short enough for a message. */
function shown(value: unknown): string {
  if (value === undefined) return 'missing';
  return (typeof value === 'number' ? String(value) : JSON.stringify(value)).slice(0, 40);
}

function checkAppInterval(policy: Policy): string | undefined {
  const { appConsistentHours, retentionHours } = policy;
  if (appConsistentHours === 0 || appConsistentHours < retentionHours) return undefined;
  return `appConsistentHours is ${appConsistentHours}, but must be smaller than retentionHours (${retentionHours}) or 0: the retention has to hold more than one of them`;
}

/** The stored shape: every field present. Fields it does not know are refused. */
export const policyFields = {
  retentionHours: wholeNumber('retentionHours'),
  appConsistentHours: wholeNumber('appConsistentHours'),
  rpoThresholdMinutes: wholeNumber('rpoThresholdMinutes'),
  logRetentionHours: wholeNumber('logRetentionHours'),
};

/** Adds the rule between two fields to a schema that has {@link policyFields}. */
export function withPolicyRules<S extends z.ZodType<Policy>>(schema: S): S {
  return schema.superRefine((policy, context) => {
    const message = checkAppInterval(policy);
    if (message !== undefined) context.addIssue({ code: 'custom', path: ['appConsistentHours'], message });
  });
}

const policySchema = withPolicyRules(z.strictObject(policyFields, { error: 'a policy is an object of numbers' }));

/**
 * Fills in the defaults and checks every limit. The app-consistent interval that is left out is the default, or the largest whole
 * number below a shorter retention (0, off, when the retention is 0 or 1 h).
 *
 * @throws TidemarkError POLICY_INVALID: one sentence per bad value with the value, its limit and the reason.
 */
export function parsePolicy(input: unknown): Policy {
  const filled = isRecord(input) ? { ...POLICY_DEFAULTS, ...defaultAppInterval(input), ...present(input) } : input;
  const result = policySchema.safeParse(filled);
  if (result.success) return result.data;
  const sentences = new Set(result.error.issues.map(sentence));
  throw new TidemarkError('POLICY_INVALID', [...sentences].join('; '));
}

/**
 * The policy after an operator named some of its values; the others stay as they are, so that changing one value never shortens
 * the retention by accident. An app-consistent interval that is not named gives way to a shorter retention, as in {@link parsePolicy}.
 *
 * @throws TidemarkError POLICY_INVALID
 */
export function changePolicy(current: Policy, changes: Readonly<Partial<Record<keyof Policy, unknown>>>): Policy {
  return parsePolicy({ ...current, ...defaultAppInterval(changes, current), ...present(changes) });
}

/** The largest interval that suits the named retention and is not above the current (or default) one. */
function defaultAppInterval(named: Readonly<Record<string, unknown>>, current: Policy = POLICY_DEFAULTS): object {
  const retentionHours = named['retentionHours'];
  if (named['appConsistentHours'] !== undefined || !Number.isSafeInteger(retentionHours)) return {};
  return { appConsistentHours: Math.min(current.appConsistentHours, Math.max(0, Number(retentionHours) - 1)) };
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const present = (named: object): object =>
  Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined));

function sentence(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') return `a policy has no ${issue.keys.map((key) => shown(key)).join(', ')}`;
  return issue.message;
}
