// `npx tidemark` in the project root: npm links the commands of dependencies but not the project's own.
import { existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../node_modules/.bin/', import.meta.url));
if (process.platform !== 'win32' && existsSync(new URL('../package-lock.json', import.meta.url))) {
  mkdirSync(folder, { recursive: true });
  rmSync(`${folder}tidemark`, { force: true });
  symlinkSync('../../bin/tidemark.js', `${folder}tidemark`);
}
