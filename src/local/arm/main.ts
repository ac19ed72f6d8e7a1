/**
 * The ARM Compute emulator as a process of the local stack.
 *
 * usage: node main.ts PORT FOLDER BLOB_PORT CONFIG_FILE [--control]
 */
import { readFileSync } from 'node:fs';
import { TidemarkError } from '../../errors.ts';
import { accountConnectionString } from '../connection-string.ts';
import type { StackConfig } from '../stack-config.ts';
import { ArmEmulator } from './emulator.ts';

/** The line that says the emulator is ready; the stack waits for it. */
const READY = 'ARM emulator successfully listens on';

try {
  const [port, folder, blobPort, file, control] = process.argv.slice(2);
  if (port === undefined || folder === undefined || blobPort === undefined || file === undefined)
    throw new TidemarkError('USAGE', 'usage: node main.ts PORT FOLDER BLOB_PORT CONFIG_FILE [--control]');
  // The stack has checked the file; checking it again would double the time of the start.
  const config = JSON.parse(readFileSync(file, 'utf8')) as Pick<StackConfig, 'accounts'>;
  const connectionString = accountConnectionString(config.accounts.replica, Number(blobPort));
  const emulator = new ArmEmulator({ folder, connectionString, control: control === '--control' });
  const stop = (): void => {
    void emulator.close().then(() => process.exit(0));
  };
  process.once('SIGTERM', stop).once('SIGINT', stop);
  await emulator.listen(Number(port));
  process.stdout.write(`${READY} 127.0.0.1:${emulator.port}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
