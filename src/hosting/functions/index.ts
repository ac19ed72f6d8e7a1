/** The function app's composition root: the only place of it that reads the process's environment. Logs JSON lines only. */
import { app } from '@azure/functions';
import { bridgeSdkLog } from '../../azure/sdk-log.ts';
import { parseConfiguration } from '../../config.ts';
import { openRuntime } from '../../runtime.ts';
import { createLog, sdkLines } from '../../telemetry/log.ts';
import { startTelemetry } from '../../telemetry/start.ts';
import { observeWorker } from '../../telemetry/worker-observer.ts';
import { Handlers } from './handlers.ts';
import { registerFunctions } from './triggers.ts';

const configuration = parseConfiguration(process.env);
const log = createLog({ level: configuration.telemetry.logLevel, stream: process.stdout });
bridgeSdkLog(configuration.telemetry.logLevel, sdkLines(log));
const telemetry = await startTelemetry(configuration.telemetry, { report: (message) => log.warn(message) });
const runtime = openRuntime(configuration, { telemetry });
const observer = observeWorker({ telemetry, clock: runtime.ports.clock, log });
const handlers = new Handlers({ configuration, runtime, log, observer });
registerFunctions(handlers, configuration);
app.hook.appTerminate(async () => {
  await handlers.close();
  observer.stop();
  await runtime.close();
  await telemetry.shutdown();
});
