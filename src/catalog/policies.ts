/** Replication policies in the catalog. Groups name their policy, so a change holds for groups that replicate already. */
import { z } from 'zod';
import { TidemarkError } from '../errors.ts';
import { catalogName, requireName } from '../model/names.ts';
import { changePolicy, parsePolicy, policyFields, withPolicyRules, type Policy } from '../retention/policy.ts';
import type { Catalog } from './catalog.ts';
import { MAX_UPDATE_ATTEMPTS, readDocument, readDocuments, updateDocument, upsertDocument } from './documents.ts';
import { groupDocumentSchema } from './group-document.ts';

export const policyDocumentSchema = withPolicyRules(
  z.strictObject({ version: z.literal(1), policy: z.string(), ...policyFields }),
);

export type PolicyDocument = Readonly<z.infer<typeof policyDocumentSchema>>;

/** The values of a policy that an operator names; unchecked. */
export type PolicyChanges = Readonly<Partial<Record<keyof Policy, unknown>>>;

/**
 * Creates a policy, or changes the named values of one that exists; `parsePolicy` and `changePolicy` say what the others become.
 *
 * @throws TidemarkError NAME_INVALID, POLICY_INVALID, DOCUMENT_INVALID, CONFLICT
 */
export async function setPolicy(
  catalog: Catalog,
  policy: string,
  changes: PolicyChanges,
  signal: AbortSignal,
): Promise<PolicyDocument> {
  requireName('policy', policy);
  const change = (current: PolicyDocument | undefined): PolicyDocument => ({
    version: 1,
    policy,
    ...(current === undefined ? parsePolicy(changes) : changePolicy(valuesOf(current), changes)),
  });
  return upsertDocument(catalog, catalogName.policy(policy), policyDocumentSchema, change, signal);
}

/** All policies, by name. @throws TidemarkError DOCUMENT_INVALID */
export async function listPolicies(catalog: Catalog, signal: AbortSignal): Promise<readonly PolicyDocument[]> {
  return readDocuments(catalog, catalogName.policies, policyDocumentSchema, signal);
}

/** @throws TidemarkError NAME_INVALID, DOCUMENT_INVALID */
export async function findPolicy(
  catalog: Catalog,
  policy: string,
  signal: AbortSignal,
): Promise<PolicyDocument | undefined> {
  const name = catalogName.policy(requireName('policy', policy));
  return (await readDocument(catalog, name, policyDocumentSchema, signal))?.value;
}

/** @throws TidemarkError NAME_INVALID, POLICY_NOT_FOUND, DOCUMENT_INVALID */
export async function getPolicy(catalog: Catalog, policy: string, signal: AbortSignal): Promise<PolicyDocument> {
  const document = await findPolicy(catalog, policy, signal);
  if (document === undefined) throw policyNotFound(policy);
  return document;
}

/**
 * Deletes a policy that no group uses; a disabled group uses none, since its points do not age.
 *
 * @throws TidemarkError NAME_INVALID, POLICY_NOT_FOUND, DOCUMENT_INVALID, CONFLICT; POLICY_IN_USE with the groups' names.
 */
export async function deletePolicy(catalog: Catalog, policy: string, signal: AbortSignal): Promise<void> {
  const name = catalogName.policy(requireName('policy', policy));
  for (let attempt = 1; attempt <= MAX_UPDATE_ATTEMPTS; attempt++) {
    const stored = await readDocument(catalog, name, policyDocumentSchema, signal);
    if (stored === undefined) throw policyNotFound(policy);
    const groups = await readDocuments(catalog, catalogName.groups, groupDocumentSchema, signal);
    const users = groups.filter((group) => group.policy === policy && group.wanted !== 'disabled');
    if (users.length > 0)
      throw policyInUse(
        policy,
        users.map(({ group }) => group),
      );
    if ((await catalog.delete(name, stored.etag, signal)) === 'deleted') return;
  }
  throw new TidemarkError(
    'CONFLICT',
    `policy ${policy} changed during each of ${MAX_UPDATE_ATTEMPTS} attempts to delete it`,
  );
}

/**
 * Gives the policy a new ETag and the same content, so that a deletion that has not seen a group which was written before must look
 * again. Every group is written first and touches its policy afterwards.
 *
 * @returns whether the policy exists.
 */
export async function touchPolicy(catalog: Catalog, policy: string, signal: AbortSignal): Promise<boolean> {
  const name = catalogName.policy(policy);
  return (await updateDocument(catalog, name, policyDocumentSchema, (same) => same, signal)) !== undefined;
}

export const policyNotFound = (policy: string): TidemarkError =>
  new TidemarkError('POLICY_NOT_FOUND', `there is no policy ${policy}`);

/** Groups named in a message. */
const MAX_NAMES_SHOWN = 5;

function policyInUse(policy: string, groups: readonly string[]): TidemarkError {
  const shown = groups.slice(0, MAX_NAMES_SHOWN).join(', ');
  const more = groups.length > MAX_NAMES_SHOWN ? ` and ${groups.length - MAX_NAMES_SHOWN} more` : '';
  return new TidemarkError('POLICY_IN_USE', `policy ${policy} is used by ${shown}${more}`);
}

function valuesOf(document: PolicyDocument): Policy {
  const { retentionHours, appConsistentHours, rpoThresholdMinutes, logRetentionHours } = document;
  return { retentionHours, appConsistentHours, rpoThresholdMinutes, logRetentionHours };
}
