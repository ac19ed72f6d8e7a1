import { describe, expect, it } from 'vitest';
import { at, literalAt, type Resource, type Value, valuesIn } from '../../infra/bicep.ts';
import { CONTAINERS } from '../../src/model/names.ts';
import { readAllBicep, readText, requireFile } from './files.ts';

/** Built-in roles that may be given at all: https://learn.microsoft.com/azure/role-based-access-control/built-in-roles */
const ALLOWED_ROLES = {
  AcrPull: '7f951dda-4ed3-4680-a7ca-43fe172d538d',
  'Azure Service Bus Data Receiver': '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0',
  'Azure Service Bus Data Sender': '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39',
  'Key Vault Secrets User': '4633458b-17de-408a-b874-0445c86b69e6',
  Reader: 'acdd72a7-3385-48ef-bd42-f606fba81ae7',
  'Storage Blob Data Contributor': 'ba92f5b4-2d11-453d-a403-e96b0029c9fe',
  'Storage Blob Data Owner': 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b',
  'Storage Blob Data Reader': '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1',
};

const files = await readAllBicep();
const main = requireFile(files, 'main.bicep');
const allResources = [...files].flatMap(([path, file]) => file.resources.map((resource) => ({ path, file, resource })));
const ofType = (type: string) => allResources.filter(({ resource }) => resource.type === type);

function resource(path: string, symbol: string): Resource {
  const found = requireFile(files, path).resources.find((candidate) => candidate.symbol === symbol);
  if (found === undefined) throw new Error(`${path} has no ${symbol}`);
  return found;
}

/** The roles in a value of main.bicep, also those that come by a variable. */
function rolesIn(value: Value | undefined): readonly string[] {
  if (value === undefined) return [];
  return [...valuesIn(value)].flatMap((inner) => {
    const role = literalAt(inner, 'role');
    const variable = inner.kind === 'expression' ? main.variables.get(inner.text) : undefined;
    return [...(typeof role === 'string' ? [role] : []), ...rolesIn(variable)];
  });
}

const parametersOf = (symbol: string): ReadonlyMap<string, Value> =>
  main.modules.find((module) => module.symbol === symbol)?.parameters ?? new Map<string, Value>();

function literalsOf(path: string, variable: string): readonly unknown[] {
  const value = requireFile(files, path).variables.get(variable);
  return value?.kind === 'array' ? value.items.map((item) => literalAt(item)) : [];
}

describe('roles', () => {
  it('are of the list, with the ids that Azure gives them', () => {
    const ids = requireFile(files, 'modules/roles.bicep').variables.get('roleIds');
    const found = ids?.kind === 'object' ? [...ids.properties].map(([name, id]) => [name, literalAt(id)]) : [];
    expect(Object.fromEntries(found)).toEqual(ALLOWED_ROLES);
  });

  it('are assigned through that list, or made here, and named after scope, principal and role', () => {
    const assignments = ofType('Microsoft.Authorization/roleAssignments');
    expect(assignments.length).toBeGreaterThan(5);
    for (const {
      path,
      resource: { symbol, body },
    } of assignments) {
      const role = String(literalAt(body, 'properties', 'roleDefinitionId'));
      const builtIn =
        /^subscriptionResourceId\('Microsoft\.Authorization\/roleDefinitions', (roleIds(?:\[assignment\.role\]|\.AcrPull))\)$/;
      const own = role === 'definitions[index].id';
      const id = own ? role : builtIn.exec(role)?.[1];
      expect(id, `${path}: ${symbol}`).toBeDefined();
      const scope = own ? 'resourceGroup()' : String(literalAt(body, 'scope'));
      const principal = String(literalAt(body, 'properties', 'principalId'));
      const name = String(literalAt(body, 'name')).replaceAll(/\s+/g, ' ').replaceAll('( ', '(').replaceAll(' )', ')');
      expect(name, `${path}: ${symbol}`).toBe(`guid(${scope}.id, ${principal}, ${String(id)})`);
    }
  });

  it('let the worker write in its containers, and nobody in a whole account of data', () => {
    expect(rolesIn(parametersOf('cache').get('roleAssignments'))).toEqual([]);
    expect(rolesIn(parametersOf('replica').get('roleAssignments'))).toEqual(['Reader']);
    expect(new Set(rolesIn(parametersOf('cache').get('containers')))).toEqual(
      new Set(['Storage Blob Data Contributor']),
    );
    expect(new Set(rolesIn(parametersOf('replica').get('containers')))).toEqual(
      new Set(['Storage Blob Data Contributor', 'Storage Blob Data Reader']),
    );
    // The host of Functions keeps nothing else there.
    expect(rolesIn(parametersOf('host').get('roleAssignments'))).toEqual(['Storage Blob Data Owner']);
    expect(rolesIn(parametersOf('vault').get('roleAssignments'))).toEqual(['Key Vault Secrets User']);
    const onServiceBus = new Set(rolesIn(parametersOf('serviceBus').get('roleAssignments')));
    expect(onServiceBus).toEqual(new Set(['Azure Service Bus Data Receiver', 'Azure Service Bus Data Sender']));
  });

  it('cover the containers that the code has', () => {
    const containersOf = (symbol: string): readonly unknown[] => {
      const value = parametersOf(symbol).get('containers');
      return value?.kind === 'array' ? value.items.map((item) => literalAt(item, 'name')) : [];
    };
    expect(new Set([...containersOf('cache'), ...containersOf('replica')])).toEqual(new Set(Object.values(CONTAINERS)));
    expect(containersOf('cache')).toEqual([CONTAINERS.logs]);
  });
});

/** What Azure wants for each call of its SDK. */
const ACTION_OF = new Map([
  ['get', 'read'],
  ['createOrUpdate', 'write'],
  ['update', 'write'],
  ['delete', 'delete'],
  ['grantAccess', 'beginGetAccess/action'],
  ['revokeAccess', 'endGetAccess/action'],
]);

describe('the custom roles of failovers', () => {
  const path = 'modules/failover-roles.bicep';
  const calls = [...readText('src/azure/arm-compute.ts').matchAll(/#client\.(\w+)\.(\w+)\(/g)];
  const actionsOf = (group: string) => {
    const called = calls
      .filter(([, of]) => of === group)
      .map(([, , method = '']) => ACTION_OF.get(method) ?? `unknown call ${method}`);
    return new Set(called.map((action) => `Microsoft.Compute/${group}/${action}`));
  };

  it('hold what is called for disks, and nothing else', () => {
    expect(new Set(literalsOf(path, 'diskActions'))).toEqual(actionsOf('disks'));
  });

  it('hold what is called for machines, and what a machine needs of its network interfaces', () => {
    expect(readText('src/azure/arm-resources.ts')).toContain('networkInterfaces: spec.networkInterfaceIds');
    const network = ['Microsoft.Network/networkInterfaces/join/action', 'Microsoft.Network/networkInterfaces/read'];
    expect(new Set(literalsOf(path, 'machineActions'))).toEqual(new Set([...actionsOf('virtualMachines'), ...network]));
  });

  it('know all clients that are called', () => {
    expect(new Set(calls.map(([, group]) => group))).toEqual(new Set(['disks', 'virtualMachines']));
  });

  it('are the ones of docs/compute.md', () => {
    const page = readText('docs/compute.md');
    const listed = [...page.matchAll(/`(Microsoft\.\w+\/\w+)\/\{([^}]+)\}`/g)].flatMap(([, type = '', verbs = '']) =>
      verbs.split(',').map((verb) => `${type}/${verb}`),
    );
    expect(new Set([...literalsOf(path, 'diskActions'), ...literalsOf(path, 'machineActions')])).toEqual(
      new Set(listed),
    );
  });
});

describe('doors', () => {
  it('of storage take tokens only, over TLS', () => {
    const accounts = ofType('Microsoft.Storage/storageAccounts');
    expect(accounts.map(({ path }) => path)).toEqual(['modules/storage-account.bicep']);
    const { body } = resource('modules/storage-account.bicep', 'account');
    const wanted = {
      allowBlobPublicAccess: false,
      allowSharedKeyAccess: false,
      minimumTlsVersion: 'TLS1_2',
      supportsHttpsTrafficOnly: true,
    };
    const found = Object.keys(wanted).map((name) => [name, literalAt(body, 'properties', name)]);
    expect(Object.fromEntries(found)).toEqual(wanted);
    expect(literalAt(body, 'kind')).toBe('StorageV2');
    expect(
      literalAt(resource('modules/storage-account.bicep', 'blobContainers').body, 'properties', 'publicAccess'),
    ).toBe('None');
  });

  it('of the key vault are roles, and nothing is purged', () => {
    const { body } = resource('modules/key-vault.bicep', 'vault');
    expect(literalAt(body, 'properties', 'enableRbacAuthorization')).toBe(true);
    expect(literalAt(body, 'properties', 'enablePurgeProtection')).toBe(true);
  });

  it('are closed together: each module that has public endpoints is told', () => {
    for (const { symbol, path } of main.modules) {
      const takes = requireFile(files, path).parameters.some(({ name }) => name === 'publicNetworkAccess');
      if (takes) expect(literalAt(parametersOf(symbol).get('publicNetworkAccess')), symbol).toBe('publicNetworkAccess');
    }
  });

  it('need no key or connection string, and nothing lists one', () => {
    for (const [path, { text }] of files) {
      expect(text, path).not.toMatch(/listKeys|listAccountSas|AccountKey|SharedAccessKey|primaryKey/i);
    }
  });

  it('of the container are those that its probes ask', () => {
    const worker = resource('modules/container-apps.bicep', 'worker');
    const containers = at(worker.body, 'properties', 'template', 'containers');
    const probes = containers?.kind === 'array' ? at(containers.items[0], 'probes') : undefined;
    const paths =
      probes?.kind === 'array'
        ? probes.items.map((probe) => [literalAt(probe, 'type'), literalAt(probe, 'httpGet', 'path')])
        : [];
    expect(paths).toEqual([
      ['Liveness', '/health/live'],
      ['Readiness', '/health/ready'],
    ]);
  });
});
