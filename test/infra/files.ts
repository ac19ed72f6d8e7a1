/** The Bicep files of the project, read once per test file. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type BicepFile, readBicep } from '../../infra/bicep.ts';
import { bicepFiles } from '../../infra/check-types.ts';

export const INFRA = fileURLToPath(new URL('../../infra', import.meta.url));

export const readText = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

/** By path in `infra/`, such as `modules/roles.bicep`. */
export async function readAllBicep(): Promise<ReadonlyMap<string, BicepFile>> {
  const entries = bicepFiles(INFRA).map(async (file) => [file.slice(INFRA.length + 1), await readBicep(file)] as const);
  return new Map(await Promise.all(entries));
}

export function requireFile(files: ReadonlyMap<string, BicepFile>, path: string): BicepFile {
  const file = files.get(path);
  if (file === undefined) throw new Error(`there is no infra/${path}`);
  return file;
}
