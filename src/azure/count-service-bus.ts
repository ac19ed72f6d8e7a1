/** Tells an observer of every call of a Service Bus client. */
import type {
  ServiceBusClient,
  ServiceBusReceiver,
  ServiceBusSender,
  ServiceBusSessionReceiver,
} from '@azure/service-bus';
import type { MessagingObserver, MessagingOperation } from '../telemetry/adapter-observer.ts';

/**
 * Changes `client` so that all senders, receivers and sessions that it makes tell `observer` of what they do: one count per call, with the
 * messages that went over. A session that was waited for in vain counts as a call that failed.
 * @returns the client
 */
export function countServiceBus(client: ServiceBusClient, observer: MessagingObserver): ServiceBusClient {
  const tell = teller(observer);
  const createSender = client.createSender.bind(client);
  client.createSender = (...given) => countSender(createSender(...given), tell);
  const createReceiver = client.createReceiver.bind(client) as (...given: unknown[]) => ServiceBusReceiver;
  client.createReceiver = (...given: unknown[]) => countReceiver(createReceiver(...given), tell);
  const acceptSession = client.acceptSession.bind(client) as (
    ...given: unknown[]
  ) => Promise<ServiceBusSessionReceiver>;
  client.acceptSession = async (...given: unknown[]) =>
    countSession(await tell('accept-session', () => acceptSession(...given), none), tell);
  const acceptNext = client.acceptNextSession.bind(client) as (
    ...given: unknown[]
  ) => Promise<ServiceBusSessionReceiver>;
  client.acceptNextSession = async (...given: unknown[]) =>
    countSession(await tell('accept-session', () => acceptNext(...given), none), tell);
  return client;
}

type Tell = <T>(operation: MessagingOperation, call: () => Promise<T>, messages: (result: T) => number) => Promise<T>;

const teller =
  (observer: MessagingObserver): Tell =>
  async (operation, call, messages) => {
    try {
      const result = await call();
      observer.onMessaging({ operation, messages: messages(result), ok: true });
      return result;
    } catch (error) {
      observer.onMessaging({ operation, messages: 0, ok: false });
      throw error;
    }
  };

const none = (): number => 0;
const one = (): number => 1;
const lengthOf = (list: readonly unknown[]): number => list.length;

function countSender(sender: ServiceBusSender, tell: Tell): ServiceBusSender {
  const send = sender.sendMessages.bind(sender);
  sender.sendMessages = (messages, options) => {
    const count = Array.isArray(messages) ? messages.length : 'tryAddMessage' in messages ? messages.count : 1;
    return tell(
      'send',
      () => send(messages, options),
      () => count,
    );
  };
  return sender;
}

function countReceiver<R extends ServiceBusReceiver>(receiver: R, tell: Tell): R {
  const receive = receiver.receiveMessages.bind(receiver);
  const peek = receiver.peekMessages.bind(receiver);
  const complete = receiver.completeMessage.bind(receiver);
  const abandon = receiver.abandonMessage.bind(receiver);
  const deadLetter = receiver.deadLetterMessage.bind(receiver);
  const defer = receiver.deferMessage.bind(receiver);
  receiver.receiveMessages = (...given) => tell('receive', () => receive(...given), lengthOf);
  receiver.peekMessages = (...given) => tell('peek', () => peek(...given), lengthOf);
  receiver.completeMessage = (...given) => tell('settle', () => complete(...given), one);
  receiver.abandonMessage = (...given) => tell('settle', () => abandon(...given), one);
  receiver.deadLetterMessage = (...given) => tell('settle', () => deadLetter(...given), one);
  receiver.deferMessage = (...given) => tell('settle', () => defer(...given), one);
  return receiver;
}

function countSession(session: ServiceBusSessionReceiver, tell: Tell): ServiceBusSessionReceiver {
  const renew = session.renewSessionLock.bind(session);
  session.renewSessionLock = (...given) => tell('renew-lock', () => renew(...given), none);
  return countReceiver(session, tell);
}
