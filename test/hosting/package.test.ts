/** What is deployed: the folder of the function app, and the steps of the image. Neither was ever built by its platform. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { ENTRY, packageFiles, writePackage } from '../../infra/functions/package.ts';
import { reach } from '../../infra/functions/reach.ts';
import { accountConnectionString } from '../../src/local/connection-string.ts';
import { PROJECT_ROOT } from '../../src/local/stack-config.ts';

const read = (path: string): string => readFileSync(join(PROJECT_ROOT, path), 'utf8');
const manifest = JSON.parse(read('package.json')) as {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
};

/** Places where nothing listens: what only registers functions asks nobody. */
const ENVIRONMENT = {
  TIDEMARK_CACHE_CONNECTION_STRING: accountConnectionString({ name: 'cache', key: 'AAAA' }, 1),
  TIDEMARK_REPLICA_CONNECTION_STRING: accountConnectionString({ name: 'replica', key: 'AAAA' }, 1),
  TIDEMARK_SERVICE_BUS_CONNECTION_STRING:
    'Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=a;SharedAccessKey=b;UseDevelopmentEmulator=true',
};

/** Loaded when the ARM emulator is started, and never else. */
const OF_THE_LOCAL_STACK = ['selfsigned'];

/** In the place of what the Functions worker provides. */
const CORE = `module.exports = {
  setProgrammingModel: ({ name }) => console.log(JSON.stringify({ model: name })),
  registerFunction: ({ name, bindings }) =>
    console.log(JSON.stringify({ name, type: Object.values(bindings).find(({ direction }) => direction === 'in').type })),
  registerHook: (hook) => { console.log(JSON.stringify({ hook })); return { dispose() {} }; },
  log() {},
};`;

it('packs an app whose entry plain Node imports, and which registers its functions', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-functions-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  writePackage(join(folder, 'app'));
  symlinkSync(join(PROJECT_ROOT, 'node_modules'), join(folder, 'app/node_modules'));
  const core = join(folder, 'host/@azure/functions-core');
  mkdirSync(core, { recursive: true });
  writeFileSync(join(core, 'index.js'), CORE);
  const { main } = JSON.parse(readFileSync(join(folder, 'app/package.json'), 'utf8')) as { main: string };
  const script = `await import(${JSON.stringify(join(folder, 'app', main))}); process.exit();`;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--no-experimental-strip-types', '--input-type=module', '--eval', script],
    { cwd: join(folder, 'app'), env: { ...ENVIRONMENT, NODE_PATH: join(folder, 'host') } },
  );
  expect(
    stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown),
  ).toEqual([
    { model: '@azure/functions' },
    { name: 'schedule', type: 'timerTrigger' },
    { name: 'prune', type: 'timerTrigger' },
    { name: 'sessions', type: 'serviceBusTrigger' },
    { name: 'cacheEvents', type: 'serviceBusTrigger' },
    { name: 'api', type: 'httpTrigger' },
    { hook: 'appTerminate' },
  ]);
});

it('packs JavaScript, its dependencies and their lock file, and nothing else', () => {
  const files = packageFiles();
  const others = [...files.keys()].filter((path) => !path.startsWith('src/'));
  expect(others.sort()).toEqual(['host.json', 'package-lock.json', 'package.json']);
  const sources = [...files].filter(([path]) => path.startsWith('src/'));
  expect(sources.filter(([path, text]) => !path.endsWith('.js') || /'\.{1,2}\/[^']*\.ts'/.test(text))).toEqual([]);
  expect(sources.filter(([, text]) => /^\s*(?:await )?using /m.test(text))).toEqual([]); // Node 22 does not know it
  const app = JSON.parse(files.get('package.json') ?? '') as Record<string, unknown>;
  expect(files.has(String(app['main']))).toBe(true);
  expect(app).toMatchObject({ type: 'module', dependencies: manifest.dependencies });
  const { packages } = JSON.parse(files.get('package-lock.json') ?? '') as {
    packages: Record<string, { dev?: boolean; version?: string; dependencies?: object }>;
  };
  expect(packages['']?.dependencies).toEqual(manifest.dependencies);
  expect(Object.values(packages).some(({ dev }) => dev === true)).toBe(false);
  for (const [name, version] of Object.entries(manifest.dependencies)) {
    expect([name, packages[`node_modules/${name}`]?.version]).toEqual([name, version]);
  }
});

it('needs no package at run time that is not a dependency of the product', () => {
  for (const entry of [ENTRY, 'src/hosting/container.ts', 'src/cli/main.ts']) {
    const { files, packages } = reach(join(PROJECT_ROOT, entry));
    expect(files.size).toBeGreaterThan(100);
    const missing = [...packages].filter((name) => manifest.dependencies[name] === undefined);
    expect(missing.filter((name) => !OF_THE_LOCAL_STACK.includes(name))).toEqual([]);
  }
});

it('has an image of files that exist, for a user without rights, on the Node that is tested', () => {
  const lines = read('infra/Dockerfile')
    .replaceAll('\\\n', ' ')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  const of = (instruction: string): string[] =>
    lines.filter((line) => line.startsWith(`${instruction} `)).map((line) => line.slice(instruction.length + 1).trim());
  expect(new Set(of('FROM').map((from) => from.split(' ')[0]))).toEqual(
    new Set([`node:${manifest.devDependencies['node'] ?? ''}-slim`]),
  );
  const copied = of('COPY')
    .filter((copy) => !copy.startsWith('--from'))
    .flatMap((copy) => copy.split(' ').slice(0, -1));
  expect(copied.length).toBeGreaterThan(4);
  expect(copied.filter((path) => !existsSync(join(PROJECT_ROOT, path)))).toEqual([]);
  const kept = read('.dockerignore')
    .split('\n')
    .filter((line) => line.startsWith('!'))
    .map((line) => line.slice(1));
  expect(copied.filter((path) => !kept.some((one) => path === one || path.startsWith(`${one}/`)))).toEqual([]);
  const last = lines.slice(lines.findLastIndex((line) => line.startsWith('FROM ')));
  expect(last.find((line) => line.startsWith('USER '))).toMatch(/^USER [1-9]\d+:[1-9]\d+$/);
  const entry = JSON.parse(of('ENTRYPOINT')[0] ?? '[]') as string[];
  expect(existsSync(join(PROJECT_ROOT, entry.at(-1) ?? ''))).toBe(true);
  expect(lines.filter((line) => /^(?:ENV|ARG)\b.*(?:KEY|SECRET|TOKEN|PASSWORD|CONNECTION)/i.test(line))).toEqual([]);
});
