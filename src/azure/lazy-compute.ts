import type { Compute } from '../failover/compute.ts';
import type { Credential } from './credentials.ts';
import type { ComputeConnection } from './open-compute.ts';

/** Azure Compute whose SDKs (half a second to load) are imported by the first call. @throws TidemarkError CONFIG_INVALID from that call */
export function lazyCompute(connection: ComputeConnection, credential: Credential): Compute {
  let opened: Promise<Compute> | undefined;
  const open = (): Promise<Compute> =>
    (opened ??= import('./open-compute.ts').then(({ openCompute }) => openCompute(connection, credential)));
  return {
    importDisk: async (...args) => (await open()).importDisk(...args),
    uploadDisk: async (...args) => (await open()).uploadDisk(...args),
    createMachine: async (...args) => (await open()).createMachine(...args),
    findDisk: async (...args) => (await open()).findDisk(...args),
    findMachine: async (...args) => (await open()).findMachine(...args),
    deleteMachine: async (...args) => (await open()).deleteMachine(...args),
    deleteDisk: async (...args) => (await open()).deleteDisk(...args),
  };
}
