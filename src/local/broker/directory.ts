/** The entities of the namespace, by path: `queue`, `topic`, `topic/Subscriptions/sub`, each queue with `/$DeadLetterQueue`. */
import type { NamespaceConfig } from './config.ts';
import type { Entity, Neighbours } from './entity.ts';
import { notFound } from './fault.ts';
import { ruleFilter } from './filters.ts';
import { Queue } from './queue.ts';
import type { Timers } from './timers.ts';
import { Topic } from './topic.ts';

export class Directory implements Neighbours {
  readonly #entities = new Map<string, Entity>();

  /** @throws TidemarkError BROKER_CONFIG_INVALID */
  constructor(namespace: NamespaceConfig, timers: Timers) {
    const options = { neighbours: this, timers };
    for (const { Name, Properties = {} } of namespace.Queues ?? [])
      this.#addQueue(new Queue(Name, Properties, options));
    for (const { Name, Properties = {}, Subscriptions } of namespace.Topics ?? []) {
      const topic = new Topic(Name, Properties, timers);
      this.#add(topic);
      for (const subscription of Subscriptions) {
        const path = `${Name}/Subscriptions/${subscription.Name}`;
        const queue = new Queue(path, subscription.Properties ?? {}, options);
        this.#addQueue(queue);
        topic.subscriptions.push({ queue, rules: (subscription.Rules ?? []).map((rule) => ruleFilter(path, rule)) });
      }
    }
  }

  /** Paths are compared without case. @throws Fault amqp:not-found */
  entity(path: string): Entity {
    const entity = this.#entities.get(path.toLowerCase());
    if (entity === undefined) throw notFound(path);
    return entity;
  }

  /** Removes expired messages everywhere. */
  sweep(): void {
    for (const entity of this.#entities.values()) if (entity instanceof Queue) entity.sweep();
  }

  #addQueue(queue: Queue): void {
    this.#add(queue);
    if (queue.deadLetters !== undefined) this.#add(queue.deadLetters);
  }

  #add(entity: Entity): void {
    this.#entities.set(entity.path.toLowerCase(), entity);
  }
}
