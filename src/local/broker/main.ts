/**
 * The broker as a process of the local stack. With a folder for its certificate, clients speak TLS.
 *
 * usage: node main.ts PORT CONFIG_FILE [CERTIFICATE_FOLDER]
 */
import { readFileSync } from 'node:fs';
import { TidemarkError } from '../../errors.ts';
import { ensureCertificate } from '../arm/certificate.ts';
import { BROKER_SAS_KEY } from '../stack-config.ts';
import { Broker } from './broker.ts';
import type { BrokerConfig } from './config.ts';

/** The line that says the broker is ready; the stack waits for it. */
const READY = 'Broker successfully listens on';

try {
  const [port, file, certificateFolder] = process.argv.slice(2);
  if (port === undefined || file === undefined)
    throw new TidemarkError('USAGE', 'usage: node main.ts PORT CONFIG_FILE [CERTIFICATE_FOLDER]');
  const broker = new Broker(JSON.parse(readFileSync(file, 'utf8')) as BrokerConfig, { sasKey: BROKER_SAS_KEY });
  const stop = (): void => {
    void broker.close().then(() => process.exit(0));
  };
  process.once('SIGTERM', stop).once('SIGINT', stop);
  const tls = certificateFolder === undefined ? undefined : await ensureCertificate(certificateFolder, Date.now());
  await broker.listen(Number(port), '127.0.0.1', tls);
  process.stdout.write(`${READY} 127.0.0.1:${broker.port}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
