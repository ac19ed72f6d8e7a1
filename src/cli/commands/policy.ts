/** `tidemark policy set | list | show | delete`. */
import type { Command } from 'commander';
import {
  deletePolicy,
  getPolicy,
  listPolicies,
  setPolicy,
  type PolicyChanges,
  type PolicyDocument,
} from '../../catalog/policies.ts';
import {
  MAX_APP_CONSISTENT_HOURS,
  MAX_LOG_RETENTION_HOURS,
  MAX_RETENTION_HOURS,
  POLICY_DEFAULTS,
  RPO_THRESHOLD_LIMITS_MINUTES,
} from '../../retention/policy.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine, printTable } from '../output.ts';
import { configuredCatalog, parseNumber, withoutVersion, type CatalogTools } from './catalog-tools.ts';

export function register(program: Command, context: CliContext, tools: CatalogTools = configuredCatalog): void {
  const policy = program
    .command('policy')
    .description('replication policies: retention, app-consistent points, RPO threshold');
  registerSet(policy, context, tools);
  policy
    .command('list')
    .description('all policies')
    .action(async () => {
      const policies = await tools.withCatalog(context, listPolicies);
      if (context.json) printJson(context, policies.map(withoutVersion));
      else printPolicies(context, policies);
    });
  policy
    .command('show')
    .argument('<name>', 'name of the policy')
    .description('one policy')
    .action(async (name: string) => {
      show(context, await tools.withCatalog(context, (catalog, signal) => getPolicy(catalog, name, signal)));
    });
  policy
    .command('delete')
    .argument('<name>', 'name of the policy')
    .description('delete a policy that no group uses')
    .action(async (name: string) => {
      await tools.withCatalog(context, (catalog, signal) => deletePolicy(catalog, name, signal));
      if (context.json) printJson(context, { policy: name, deleted: true });
      else printLine(context, `Policy ${name} is deleted.`);
    });
}

function registerSet(policy: Command, context: CliContext, tools: CatalogTools): void {
  const { retentionHours, appConsistentHours, rpoThresholdMinutes, logRetentionHours } = POLICY_DEFAULTS;
  const rpo = RPO_THRESHOLD_LIMITS_MINUTES;
  policy
    .command('set')
    .argument('<name>', 'name of the policy')
    .description('create a policy, or change the values named of an existing one')
    .option('--retention-hours <n>', `0 to ${MAX_RETENTION_HOURS}; new: ${retentionHours}`, parseNumber)
    .option(
      '--app-consistent-hours <n>',
      `0 (off), or 1 to ${MAX_APP_CONSISTENT_HOURS} and below the retention; new: ${appConsistentHours}`,
      parseNumber,
    )
    .option('--rpo-threshold-minutes <n>', `${rpo.min} to ${rpo.max}; new: ${rpoThresholdMinutes}`, parseNumber)
    .option('--log-retention-hours <n>', `0 to ${MAX_LOG_RETENTION_HOURS}; new: ${logRetentionHours}`, parseNumber)
    .action(
      async (
        name: string,
        { retentionHours, appConsistentHours, rpoThresholdMinutes, logRetentionHours }: PolicyChanges,
      ) => {
        const changes = { retentionHours, appConsistentHours, rpoThresholdMinutes, logRetentionHours };
        show(context, await tools.withCatalog(context, (catalog, signal) => setPolicy(catalog, name, changes, signal)));
      },
    );
}

function show(context: CliContext, policy: PolicyDocument): void {
  if (context.json) printJson(context, withoutVersion(policy));
  else printPolicies(context, [policy]);
}

function printPolicies(context: CliContext, policies: readonly PolicyDocument[]): void {
  printTable(
    context,
    ['POLICY', 'RETENTION', 'APP-CONSISTENT', 'RPO THRESHOLD', 'LOG RETENTION'],
    policies.map((policy) => [
      policy.policy,
      `${policy.retentionHours} h`,
      policy.appConsistentHours === 0 ? 'off' : `every ${policy.appConsistentHours} h`,
      `${policy.rpoThresholdMinutes} min`,
      `${policy.logRetentionHours} h`,
    ]),
  );
}
