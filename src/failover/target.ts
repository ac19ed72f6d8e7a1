/** Pure. What a protected machine becomes in Azure: the target settings of its document. */
import { z } from 'zod';

/** Azure resource names: 1 to 64 letters, digits, dashes, dots and underscores. */
const resourceName = z.string().regex(/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_])?$/);
const resourceId = z
  .string()
  .regex(/^\/subscriptions\/[^/]+\/resourceGroups\/[^/]+\/providers\/.+$/i)
  .max(1000);

/** The largest Azure virtual machines take 64 data disks. */
const MAX_LUN = 63;

/**
 * Settings of one machine. Without `virtualMachine`, a failover ends with managed disks. Disks that `disks` does not name get the
 * defaults: `StandardSSD_LRS`, and data disks by their order in the group.
 */
export const machineTargetSchema = z.strictObject({
  sku: z
    .enum(['Standard_LRS', 'StandardSSD_LRS', 'StandardSSD_ZRS', 'Premium_LRS', 'Premium_ZRS'])
    .default('StandardSSD_LRS'),
  zone: z.enum(['1', '2', '3']).nullable().default(null),
  diskEncryptionSetId: resourceId.nullable().default(null),
  /** The disk that the machine boots from. */
  osDisk: z
    .strictObject({
      disk: z.string().min(1).max(63),
      osType: z.enum(['Linux', 'Windows']),
      hyperVGeneration: z.enum(['V1', 'V2']).default('V2'),
    })
    .nullable()
    .default(null),
  /** Logical unit numbers of data disks. */
  luns: z.record(z.string(), z.int().min(0).max(MAX_LUN)).default({}),
  virtualMachine: z
    .strictObject({
      /** Default: the machine's own name. In a test failover `-test` follows. */
      name: resourceName.optional(),
      size: z.string().min(1).max(64),
      networkInterfaceIds: z.array(resourceId).min(1).max(8),
      /** Network interfaces of a test failover, on an isolated network; without them a test failover ends with managed disks. */
      testNetworkInterfaceIds: z.array(resourceId).max(8).default([]),
    })
    .nullable()
    .default(null),
  tags: z.record(z.string().min(1).max(128), z.string().max(256)).default({}),
});

export type MachineTarget = Readonly<z.infer<typeof machineTargetSchema>>;
