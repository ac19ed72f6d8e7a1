/** A process that asks storage twice, in vain, with whatever telemetry its environment configures; says what it has loaded and opened. */
import { subscribe } from 'node:diagnostics_channel';
import { registerHooks } from 'node:module';

const modules: string[] = [];
const sockets: string[] = [];
registerHooks({
  resolve(specifier, context, next) {
    const resolved = next(specifier, context);
    modules.push(resolved.url);
    return resolved;
  },
});
let isCounting = true;
subscribe('net.client.socket', () => {
  if (isCounting) sockets.push('a connection was opened');
});

const { parseConfiguration } = await import('../../src/config.ts');
const { startTelemetry } = await import('../../src/telemetry/start.ts');
const { openRuntime } = await import('../../src/runtime.ts');
const configuration = parseConfiguration(process.env);
const telemetry = await startTelemetry(configuration.telemetry, {
  report: (message) => process.stderr.write(`${message}\n`),
});
const runtime = openRuntime(configuration, { telemetry });

isCounting = false; // those of storage itself, which refuses them
const { catalog } = runtime.ports;
const signal = AbortSignal.timeout(10_000);
await Promise.allSettled([
  catalog.list('groups/', signal),
  catalog.delete('points/shop/20261123T040000.000000Z-crash.json', undefined, signal),
]);
isCounting = true;

await telemetry.shutdown();
await runtime.close();
const report = { modules: modules.filter((url) => url.includes('/@opentelemetry/')), sockets };
process.stdout.write(JSON.stringify(report), () => process.exit(0));
