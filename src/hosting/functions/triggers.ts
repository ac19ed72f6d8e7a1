/** The functions of the app, each with its trigger. */
import { app } from '@azure/functions';
import type { Configuration } from '../../config.ts';
import type { Handlers } from './handlers.ts';

/** Begin of the app settings that the host finds Service Bus by: `…__fullyQualifiedNamespace` and so on, or a connection string. */
const CONNECTION = 'TIDEMARK_SERVICE_BUS';

export function registerFunctions(handlers: Handlers, configuration: Configuration): void {
  const { commandQueue, cacheEventsQueue, api, isLocal } = configuration;
  app.timer('schedule', { schedule: '0 * * * * *', handler: () => handlers.schedule() });
  app.timer('prune', { schedule: '0 23 * * * *', handler: () => handlers.prune() });
  app.serviceBusQueue('sessions', {
    connection: CONNECTION,
    queueName: commandQueue,
    isSessionsEnabled: true,
    handler: (body, context) => handlers.takeMessage(body, context),
  });
  app.serviceBusQueue('cacheEvents', {
    connection: CONNECTION,
    queueName: cacheEventsQueue,
    cardinality: 'many',
    handler: (bodies) => handlers.takeCacheEvents(bodies),
  });
  if (!isLocal && api.entra === undefined && api.tokenFile === undefined) return; // nobody could sign in
  app.http('api', {
    route: '{*path}',
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    authLevel: 'anonymous', // the door checks tokens itself
    handler: (request) => handlers.answer(request),
  });
}
