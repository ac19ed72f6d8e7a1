import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { STANDARD_PAGE_BLOB } from '../../src/apply/rate-limit.ts';
import { LEASE_SECONDS } from '../../src/catalog/catalog.ts';
import { MAX_DOCUMENT_BYTES } from '../../src/catalog/documents.ts';
import { MAX_DISKS_PER_MACHINE, MAX_MACHINES, MAX_PINS } from '../../src/catalog/group-document.ts';
import { MAX_EXTENTS } from '../../src/coalesce/change-list.ts';
import { MAX_PUT_BYTES } from '../../src/coalesce/requests.ts';
import { parseConfiguration } from '../../src/config.ts';
import { MAX_SEGMENT_BYTES, MAX_SEGMENT_PAYLOAD_BYTES, MAX_SEGMENT_RECORDS } from '../../src/log/limits.ts';
import { MAX_EPOCH, MAX_SEQUENCE } from '../../src/model/names.ts';
import { MAX_DISK_BYTES, MIB } from '../../src/model/sizes.ts';
import { MAX_OUTBOX, MAX_OUTBOX_BYTES } from '../../src/monitoring/outbox.ts';
import { MAX_ACTIONS, MAX_PLAN_GROUPS, MAX_PLAN_MACHINES, MAX_TIMEOUT_MINUTES } from '../../src/plans/plan-file.ts';
import { MAX_APP_CONSISTENT_HOURS, MAX_LOG_RETENTION_HOURS, MAX_RETENTION_HOURS } from '../../src/retention/policy.ts';
import { runTidemark } from '../support/cli.ts';

const root = new URL('../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');
const page = read('docs/operations.md');
const section = (heading: string): string => page.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';

const LIMITS: Readonly<Record<string, number>> = {
  MAX_MACHINES,
  MAX_DISKS_PER_MACHINE,
  MAX_PINS,
  MAX_PLAN_GROUPS,
  MAX_PLAN_MACHINES,
  MAX_ACTIONS,
  MAX_TIMEOUT_MINUTES,
  MAX_DISK_BYTES: MAX_DISK_BYTES / MIB,
  MAX_RETENTION_HOURS,
  MAX_APP_CONSISTENT_HOURS,
  MAX_LOG_RETENTION_HOURS,
  MAX_EPOCH,
  MAX_SEQUENCE,
  MAX_SEGMENT_BYTES: MAX_SEGMENT_BYTES / MIB,
  MAX_SEGMENT_PAYLOAD_BYTES: MAX_SEGMENT_PAYLOAD_BYTES / MIB,
  MAX_SEGMENT_RECORDS,
  MAX_PUT_BYTES: MAX_PUT_BYTES / MIB,
  MAX_EXTENTS,
  MAX_DOCUMENT_BYTES: MAX_DOCUMENT_BYTES / MIB,
  MAX_OUTBOX,
  MAX_OUTBOX_BYTES: MAX_OUTBOX_BYTES / MIB,
  LEASE_SECONDS,
  STANDARD_PAGE_BLOB: STANDARD_PAGE_BLOB.requestsPerSecond,
};

/** Every `TIDEMARK_…` in the sources. */
function variablesInSources(): ReadonlySet<string> {
  const files = readdirSync(new URL('src', root), { recursive: true, encoding: 'utf8' });
  const texts = files.filter((file) => file.endsWith('.ts')).map((file) => read(`src/${file}`));
  return new Set(texts.flatMap((text) => [...text.matchAll(/\bTIDEMARK_[A-Z]+(?:_[A-Z]+)*\b/g)].map(([name]) => name)));
}

/** Each `tidemark …` of the page as far as it names a command: words in lower case, without options. */
function commandsOf(text: string): readonly string[] {
  const commands = [...text.matchAll(/\btidemark((?: [a-z][a-z-]*\b)+)/g)].map(([, words = '']) => words.trim());
  return [...new Set(commands)];
}

describe('docs/operations.md', () => {
  it('lists exactly the variables that the sources know', () => {
    const listed = [...section('Settings').matchAll(/^\| `(TIDEMARK_[A-Z_]+)` \|/gm)].map(([, name]) => name);
    expect(new Set(listed).size).toBe(listed.length);
    expect(new Set(listed)).toEqual(variablesInSources());
  });

  it('names the defaults that the configuration has', () => {
    const connections = {
      TIDEMARK_CACHE_CONNECTION_STRING: 'UseDevelopmentStorage=true',
      TIDEMARK_REPLICA_CONNECTION_STRING: 'UseDevelopmentStorage=true',
      TIDEMARK_SERVICE_BUS_CONNECTION_STRING: 'Endpoint=sb://a;UseDevelopmentEmulator=true',
    };
    const { worker, monitoringTopic, home } = parseConfiguration(connections);
    const fallbackOf = (name: string): string | undefined =>
      new RegExp(`^\\| \`${name}\` \\| \`?([^|\`]+)\`? \\|`, 'm').exec(page)?.[1]?.trim();
    expect(fallbackOf('TIDEMARK_PAYLOAD_BUDGET_MIB')).toBe(String(worker.payloadBudgetBytes / MIB));
    expect(fallbackOf('TIDEMARK_REQUESTS_PER_DISK')).toBe(String(worker.requestsPerDisk));
    expect(fallbackOf('TIDEMARK_REQUESTS_PER_ACCOUNT')).toBe(String(worker.requestsPerAccount));
    expect(fallbackOf('TIDEMARK_MONITORING_TOPIC')).toBe(monitoringTopic);
    expect(fallbackOf('TIDEMARK_HOME')).toBe(home);
  });

  it('names the limits that the code has, and where', () => {
    const rows = [...section('Limits').matchAll(/^\| [^|]+ \| ([\d,]+)[^|]* \| `([A-Z_]+)`, `([^`]+)` \|$/gm)];
    expect(rows.map(([, , name]) => name)).toEqual(Object.keys(LIMITS));
    for (const [, value = '', name = '', file = ''] of rows) {
      expect(Number(value.replaceAll(',', '')), name).toBe(LIMITS[name]);
      expect(read(file), name).toContain(`export const ${name}`);
    }
  });

  it('has a row for each symptom and each state', () => {
    const symptoms = /type SymptomCode =([^;]+);/.exec(read('src/monitoring/health.ts'))?.[1] ?? '';
    const rows = (heading: string) => [...section(heading).matchAll(/^\| `([^`]+)` \|/gm)].map(([, name]) => name);
    expect(rows('Every day')).toEqual([...symptoms.matchAll(/'([A-Z_]+)'/g)].map(([, name]) => name));
    const states = [...read('docs/states.md').matchAll(/^\| `([a-z-]+)` \| (?!`)/gm)].map(([, state]) => state);
    expect(rows('What to do in each state')).toEqual(states.slice(0, 12));
  });

  const commands = commandsOf(page);

  it('shows commands', () => {
    expect(commands.length).toBeGreaterThan(15);
  });

  it.each(commands)('shows a command that exists: tidemark %s', async (command) => {
    const words = command.split(' ');
    // What follows a command may be an argument, such as a name: the longest command that has help counts.
    const tried = words.map((_, index) => words.slice(0, words.length - index));
    const helps = await Promise.all(tried.map((path) => runTidemark({}, [...path, '--help'])));
    const usage = helps.map(({ stdout }) => /^Usage: tidemark (.*)$/m.exec(stdout)?.[1] ?? '');
    const longest = tried.findIndex((path, index) => usage[index]?.startsWith(path.join(' ')));
    const depth = longest === -1 ? 0 : (tried[longest]?.length ?? 0);
    const group = /Commands:/.test(helps[longest]?.stdout ?? '');
    expect(depth, usage.join('; ')).toBeGreaterThan(0);
    expect(group && depth < words.length, `${command} is no command`).toBe(false);
  });
});
