/** What runs of recovery plans are given of the outside world. */
import type { Catalog } from '../catalog/catalog.ts';
import type { CommandService } from '../commands/commands.ts';
import type { MessageTopic } from '../monitoring/message-topic.ts';
import type { Clock } from '../worker/ports.ts';
import type { SecretSource } from './plan-file.ts';
import type { ScriptCall } from './script.ts';
import type { WebhookCall } from './webhook.ts';

/** The machine that executes a run. What is done there may be done again when the executor dies: at least once. */
export interface Actions {
  /** Returns what was answered, for the journal. @throws TidemarkError PLAN_STEP_FAILED */
  webhook(call: WebhookCall, signal: AbortSignal): Promise<string>;
  /** Returns the last lines. @throws ScriptFailure with the last lines; the signal's reason when it aborts */
  script(call: ScriptCall, signal: AbortSignal): Promise<string>;
}

export interface PlanPorts {
  readonly catalog: Catalog;
  readonly topic: MessageTopic;
  readonly clock: Clock;
  readonly commands: CommandService;
  readonly actions: Actions;
  /** Of the executor: what scripts are given of it, and where secrets may be. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** @throws TidemarkError PLAN_SECRET_MISSING */
  secret(source: SecretSource): Promise<string>;
  /** A new id: at least eight letters, digits and dashes. */
  newId(): string;
  /** In [0, 1). */
  random(): number;
}
