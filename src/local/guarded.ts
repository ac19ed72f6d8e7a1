/**
 * Runs another program's entry module in this process, and ends it when the parent is gone.
 *
 * The parent holds the other end of this process's stdin and never writes to it. However the parent ends, the kernel closes that
 * pipe, and this process then sends itself SIGTERM, so that Azurite saves its index as on a normal stop.
 *
 * usage: node guarded.ts ENTRY [ARGUMENT …]
 */
import { enableCompileCache } from 'node:module';
import { pathToFileURL } from 'node:url';

/** Azurite saves its whole index when it stops: seconds when it is large. */
const STOP_LIMIT_MS = 20_000;

let stopping = false;
// Azurite takes only its first SIGTERM; without this listener a second one would kill it while it saves.
process.on('SIGTERM', () => {
  if (stopping) return;
  stopping = true;
  // Nobody else listens yet: the program is still starting and has nothing to save.
  if (process.listenerCount('SIGTERM') === 1) process.exit(0);
  setTimeout(() => process.exit(1), STOP_LIMIT_MS).unref();
});

const { stdin } = process;
stdin.on('end', () => process.kill(process.pid, 'SIGTERM'));
stdin.on('error', () => process.kill(process.pid, 'SIGTERM'));
stdin.resume();
// The pipe alone must not keep a stopped program alive.
if ('unref' in stdin) stdin.unref();

const entry = process.argv[2];
if (entry === undefined) {
  process.stderr.write('usage: node guarded.ts ENTRY [ARGUMENT …]\n');
  process.exit(2);
}
process.argv.splice(1, 2, entry);
enableCompileCache(); // sources run unbuilt, and Azurite is large
await import(pathToFileURL(entry).href);
