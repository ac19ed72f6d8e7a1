import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { literalAt, type Value, valuesIn } from '../../infra/bicep.ts';
import { INFRA, readAllBicep, readText, requireFile } from './files.ts';

const files = await readAllBicep();
const main = requireFile(files, 'main.bicep');
const page = readText('docs/infrastructure.md');

/** Settings of the Functions host: how it reaches its storage, the queue that wakes it, and where it reports. */
const OF_FUNCTIONS =
  /^(?:(?:AzureWebJobsStorage|TIDEMARK_SERVICE_BUS)__(?:blobServiceUri|fullyQualifiedNamespace|clientId|credential)|APPLICATIONINSIGHTS_CONNECTION_STRING)$/;

const SETTING = /^(?:TIDEMARK|OTEL|APPLICATIONINSIGHTS|AzureWebJobs)\w*_\w+$/;

/** Keys of objects, and names of environment entries. */
function settingsIn(value: Value): readonly string[] {
  return [...valuesIn(value)].flatMap((inner) => {
    const keys = inner.kind === 'object' ? [...inner.properties.keys()] : [];
    return [...keys, String(literalAt(inner, 'name'))].filter((name) => SETTING.test(name));
  });
}

function settingsGiven(): ReadonlySet<string> {
  const values = [...files.values()].flatMap((file) => [
    ...file.variables.values(),
    ...file.resources.map(({ body }) => body),
  ]);
  return new Set(values.flatMap(settingsIn));
}

function settingsKnown(): ReadonlySet<string> {
  const names = readdirSync(new URL('../../src', import.meta.url), { recursive: true, encoding: 'utf8' });
  const texts = names.filter((name) => name.endsWith('.ts')).map((name) => readText(`src/${name}`));
  return new Set(
    texts.flatMap((text) =>
      [...text.matchAll(/\b(?:TIDEMARK|OTEL|APPLICATIONINSIGHTS)(?:_[A-Z]+)+\b/g)].map(([name]) => name),
    ),
  );
}

describe('settings of the containers and the function app', () => {
  it('are ones that the sources read', () => {
    const given = [...settingsGiven()].filter((name) => !OF_FUNCTIONS.test(name));
    expect(given.length).toBeGreaterThan(12);
    const known = settingsKnown();
    expect(given.filter((name) => !known.has(name))).toEqual([]);
  });

  it('hold all that failovers and identities need', () => {
    expect([...settingsGiven()]).toEqual(
      expect.arrayContaining([
        'TIDEMARK_CLOUD',
        'TIDEMARK_SUBSCRIPTION_ID',
        'TIDEMARK_RESOURCE_GROUP',
        'TIDEMARK_LOCATION',
        'TIDEMARK_REPLICA_ACCOUNT_ID',
        'TIDEMARK_MANAGED_IDENTITY_CLIENT_ID',
        'TIDEMARK_LOG_KEY',
      ]),
    );
  });

  it('name the clouds that the code knows', () => {
    const clouds = main.variables.get('kedaClouds');
    const names = clouds?.kind === 'object' ? [...clouds.properties.keys()] : [];
    const known = [...readText('src/azure/clouds.ts').matchAll(/^ {2}(Azure\w+): \{$/gm)].map(([, name]) => name);
    expect(names).toEqual(known);
  });

  it('start programs that the project has', () => {
    const commands = [
      ...requireFile(files, 'modules/container-apps.bicep').text.matchAll(/command: \['node', '([^']+)'/g),
    ].map(([, file]) => file);
    expect(commands).toEqual(['src/hosting/container.ts', 'bin/tidemark.js']);
  });
});

describe('alerts', () => {
  const alerts = requireFile(files, 'modules/alerts.bicep');
  const monitoring = readText('docs/monitoring.md');
  const rules = alerts.variables.get('logAlerts');
  const names = rules?.kind === 'array' ? rules.items.map((item) => String(literalAt(item, 'name'))) : [];

  it('ask for events and symptoms that are reported', () => {
    const quoted = [...alerts.text.matchAll(/"(\w+)"/g)].map(([, word = '']) => word);
    const events = quoted.filter((word) => /^[A-Z][a-z]/.test(word));
    expect(new Set(events).size).toBeGreaterThan(5);
    for (const event of events) expect(monitoring, event).toContain(`\n### ${event}\n`);
    const symptoms = quoted.filter((word) => /^[A-Z]+_/.test(word));
    expect(symptoms).toEqual(['NO_CRASH_CONSISTENT_POINT']);
    for (const symptom of symptoms) expect(monitoring).toContain(`| \`${symptom}\` |`);
  });

  it('are listed in docs/infrastructure.md', () => {
    const section = page.split('\n## Alerts\n')[1]?.split('\n## ')[0] ?? '';
    const listed = [...section.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, name]) => name);
    expect(listed).toEqual([...names, 'dead-letters']);
  });
});

describe('docs/infrastructure.md', () => {
  it('lists the parameters, in their order, and which are required', () => {
    const section = page.split('\n## Parameters\n')[1]?.split('\n## ')[0] ?? '';
    const listed = [...section.matchAll(/^\| `(\w+)` \| ([^|]*) \|/gm)].map(([, name, value = '']) => [
      name,
      value.trim() === 'required',
    ]);
    expect(listed).toEqual(main.parameters.map(({ name, isRequired }) => [name, isRequired]));
  });

  it('names each file', () => {
    for (const path of [...files.keys(), ...readdirSync(`${INFRA}/examples`).map((name) => `examples/${name}`)]) {
      expect(page, path).toContain(`\`${path.replace('modules/', '')}\``);
    }
  });
});
