/** Actions as they are on this machine: real requests, real processes. */
import type { Actions } from './ports.ts';
import { runScript } from './script.ts';
import { callWebhook, type WebhookPorts } from './webhook.ts';

export const machineActions = (ports: WebhookPorts): Actions => ({
  webhook: (call, signal) => callWebhook(ports, call, signal),
  script: (call, signal) => runScript(ports.clock, call, signal),
});
