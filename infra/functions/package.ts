/**
 * Makes the folder that is deployed as the function app: `node infra/functions/package.ts [FOLDER]`. The sources that the entry reaches, as
 * JavaScript (types blanked out by Node itself, so that lines and columns stay), `host.json`, and the product's dependencies with the
 * lock file that they are installed by. Nothing is installed here.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { reach } from './reach.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
export const ENTRY = 'src/hosting/functions/index.ts';
const DEFAULT_FOLDER = 'dist/functions';

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
}

interface Lock {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
}

const readJson = (path: string): unknown => JSON.parse(readFileSync(join(ROOT, path), 'utf8'));

/** Files of the folder by their path in it. */
export function packageFiles(): ReadonlyMap<string, string> {
  const { name, version, dependencies } = readJson('package.json') as Manifest;
  const manifest = { name, version, private: true, type: 'module', main: asJavaScript(ENTRY), dependencies };
  const lock = readJson('package-lock.json') as Lock;
  const needed = Object.entries(lock.packages).filter(([path, { dev }]) => path !== '' && dev !== true);
  const root = { name, version, dependencies };
  const files = new Map<string, string>([
    ['host.json', readFileSync(join(ROOT, 'infra/functions/host.json'), 'utf8')],
    ['package.json', pretty(manifest)],
    ['package-lock.json', pretty({ ...lock, name, version, packages: { '': root, ...Object.fromEntries(needed) } })],
  ]);
  for (const file of reach(join(ROOT, ENTRY)).files) {
    files.set(asJavaScript(relative(ROOT, file)), stripped(readFileSync(file, 'utf8')));
  }
  return files;
}

const pretty = (value: unknown): string => `${JSON.stringify(value, undefined, 2)}\n`;
const asJavaScript = (path: string): string => path.replace(/\.ts$/, '.js');

/** Relative imports end in `.ts` in the sources, and in nothing else (lint and the compiler see to that). */
function stripped(source: string): string {
  return stripTypeScriptTypes(source).replaceAll(/((?:\bfrom|\bimport)\s*\(?\s*'\.{1,2}\/[^']+)\.ts'/g, "$1.js'");
}

/** Writes the folder anew. */
export function writePackage(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
  for (const [path, text] of packageFiles()) {
    const file = join(folder, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }
}

if (import.meta.main) {
  const folder = resolve(process.argv[2] ?? join(ROOT, DEFAULT_FOLDER));
  writePackage(folder);
  process.stdout.write(`${folder}\n`);
}
