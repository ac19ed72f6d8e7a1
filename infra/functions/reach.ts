/** What a source file reaches by its imports, static and dynamic ones. */
import { existsSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join } from 'node:path';

export interface Reached {
  /** Absolute paths, the first file included. */
  readonly files: ReadonlySet<string>;
  /** Names of packages, such as `@azure/identity`. */
  readonly packages: ReadonlySet<string>;
}

/** Imports of types alone are none. */
const IMPORT = /^(?:import|export)\s+(?!type\b)(?:[^'";]*?\bfrom\s+)?'([^']+)'|\bimport\(\s*'([^']+)'\s*\)/gm;

/** @throws Error when a relative import leads nowhere */
export function reach(entry: string): Reached {
  const files = new Set<string>([entry]);
  const packages = new Set<string>();
  for (const file of files) {
    for (const [, fixed, dynamic] of readFileSync(file, 'utf8').matchAll(IMPORT)) {
      const specifier = fixed ?? dynamic ?? '';
      if (specifier.startsWith('.')) {
        const target = join(dirname(file), specifier);
        if (!existsSync(target)) throw new Error(`${file} imports ${specifier}, which is not there`);
        files.add(target);
      } else if (!specifier.startsWith('node:') && !builtinModules.includes(specifier)) {
        packages.add(packageOf(specifier));
      }
    }
  }
  return { files, packages };
}

const packageOf = (specifier: string): string =>
  specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
