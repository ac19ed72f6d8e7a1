import type { Message } from 'rhea';
import { Entity } from './entity.ts';
import type { Filter } from './filters.ts';
import type { Queue } from './queue.ts';

export interface Subscription {
  readonly queue: Queue;
  /** One of them must match; none means every message. */
  readonly rules: readonly Filter[];
}

/** Copies each message into every subscription whose rules match it. */
export class Topic extends Entity {
  readonly subscriptions: Subscription[] = [];

  override requireAcceptable(message: Message): void {
    super.requireAcceptable(message);
    for (const queue of this.#takers(message)) queue.requireAcceptable(message);
  }

  accept(message: Message): void {
    for (const queue of this.#takers(message)) {
      queue.send({ ...message, message_annotations: { ...message.message_annotations } });
    }
  }

  #takers(message: Message): Queue[] {
    return this.subscriptions
      .filter(({ rules }) => rules.length === 0 || rules.some((matches) => matches(message)))
      .map(({ queue }) => queue);
  }
}
