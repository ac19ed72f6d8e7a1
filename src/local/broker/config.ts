/** The Service Bus emulator's Config.json, as far as the broker follows it. */
import { z } from 'zod';
import { TidemarkError } from '../../errors.ts';

const entityProperties = {
  DefaultMessageTimeToLive: z.string().optional(),
  DuplicateDetectionHistoryTimeWindow: z.string().optional(),
  RequiresDuplicateDetection: z.boolean().optional(),
};

const queueProperties = z.looseObject({
  ...entityProperties,
  LockDuration: z.string().optional(),
  MaxDeliveryCount: z.int().min(1).optional(),
  RequiresSession: z.boolean().optional(),
  DeadLetteringOnMessageExpiration: z.boolean().optional(),
  ForwardTo: z.string().optional(),
  ForwardDeadLetteredMessagesTo: z.string().optional(),
});

const correlationFilter = z.strictObject({
  ContentType: z.string().optional(),
  CorrelationId: z.string().optional(),
  Label: z.string().optional(),
  MessageId: z.string().optional(),
  ReplyTo: z.string().optional(),
  ReplyToSessionId: z.string().optional(),
  SessionId: z.string().optional(),
  To: z.string().optional(),
  Properties: z.record(z.string(), z.unknown()).optional(),
});

const rule = z.looseObject({
  Name: z.string(),
  Properties: z.looseObject({
    FilterType: z.enum(['Sql', 'Correlation']),
    SqlFilter: z.looseObject({ SqlExpression: z.string() }).optional(),
    CorrelationFilter: correlationFilter.optional(),
    Action: z.unknown().optional(),
  }),
});

const subscription = z.looseObject({
  Name: z.string().min(1),
  Properties: queueProperties.optional(),
  Rules: z.array(rule).optional(),
});

const configSchema = z.looseObject({
  UserConfig: z.looseObject({
    Namespaces: z
      .array(
        z.looseObject({
          Name: z.string(),
          Queues: z
            .array(z.looseObject({ Name: z.string().min(1), Properties: queueProperties.optional() }))
            .optional(),
          Topics: z
            .array(
              z.looseObject({
                Name: z.string().min(1),
                Properties: z.looseObject(entityProperties).optional(),
                Subscriptions: z.array(subscription).min(1),
              }),
            )
            .optional(),
        }),
      )
      .length(1),
  }),
});

export type BrokerConfig = z.input<typeof configSchema>;
export type NamespaceConfig = z.infer<typeof configSchema>['UserConfig']['Namespaces'][number];
export type QueueProperties = z.infer<typeof queueProperties>;
export type EntityProperties = Pick<QueueProperties, keyof typeof entityProperties>;
export type RuleConfig = z.infer<typeof rule>;
export type CorrelationFilterConfig = z.infer<typeof correlationFilter>;

/** The one namespace of `config`. @throws TidemarkError BROKER_CONFIG_INVALID */
export function parseBrokerConfig(config: unknown): NamespaceConfig {
  const result = configSchema.safeParse(config);
  const namespace = result.data?.UserConfig.Namespaces[0];
  if (!result.success || namespace === undefined) {
    throw new TidemarkError(
      'BROKER_CONFIG_INVALID',
      result.error === undefined ? 'no namespace' : z.prettifyError(result.error),
    );
  }
  return namespace;
}
