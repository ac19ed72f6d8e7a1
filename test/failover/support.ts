/** A group with points, memory storage and memory Azure, and an operator who gives commands; processes die at any call. */
import { setTarget } from '../../src/failover/set-target.ts';
import { getGroup } from '../../src/catalog/groups.ts';
import type { Command, CommandService, JobView } from '../../src/commands/commands.ts';
import { isCopyName } from '../../src/copies/copy-store.ts';
import type { FailoverPorts } from '../../src/failover/ports.ts';
import { createCommandService } from '../../src/failover/service.ts';
import { MemoryCompute } from '../../src/memory/memory-compute.ts';
import { createMemoryStorage, type MemoryStorage } from '../../src/memory/memory-storage.ts';
import { MIB, SECTOR_BYTES } from '../../src/model/sizes.ts';
import type { Clock } from '../../src/worker/ports.ts';
import {
  GROUP,
  live,
  newWorker,
  newWorld,
  protect,
  run,
  ship,
  START_US,
  type World,
} from '../worker/discard-support.ts';

export const NIC = '/subscriptions/s/resourceGroups/r/providers/Microsoft.Network/networkInterfaces/web';
export const DISKS = ['disk0', 'disk1'] as const;
export const SIZE_BYTES = MIB;
export const GENERATION = { startUs: START_US, seed: 1 };

/** A lease is renewed after so long, and given up after twice as long; see the lease keeper. */
const LEASE_WAITS_MS: ReadonlySet<number> = new Set([20_000, 40_000]);

/** Each wait is over at once, and a microsecond passes between two looks at the clock. The waits of leases end with their signal. */
export function hastyClock(): Clock {
  let nowUs = START_US + 3_600_000_000;
  return {
    nowUs: () => ++nowUs,
    nowMs: () => 0,
    sleep: async (ms, stop) => {
      stop.throwIfAborted();
      if (!LEASE_WAITS_MS.has(ms)) return;
      await new Promise<void>((_, reject) => {
        stop.addEventListener('abort', () => reject(stop.reason as Error), { once: true });
      });
    },
  };
}

export interface FailoverWorld extends World {
  readonly storage: MemoryStorage;
  readonly compute: MemoryCompute;
  readonly failoverPorts: FailoverPorts;
}

/** A group of one machine with two disks, a target with a virtual machine, and three points. */
export async function failoverWorld(): Promise<FailoverWorld> {
  const storage = createMemoryStorage();
  const world = await newWorld(storage);
  await protect(world, DISKS, SIZE_BYTES);
  await setTarget(storage.catalog, { group: GROUP, machine: 'web', target: TARGET }, live);
  await ship(world, GENERATION);
  await run(world.ports);
  const compute = new MemoryCompute(async (url) => {
    const name = url.replace('memory:///', '');
    const blob = isCopyName(name) ? storage.copies.peek(name) : undefined;
    if (blob === undefined) return undefined;
    const { image, blobBytes } = blob;
    const sizeBytes = blobBytes - SECTOR_BYTES;
    const read = async (offsetBytes: number, lengthBytes: number): Promise<Buffer> =>
      image.read(offsetBytes, lengthBytes);
    return { blobBytes, ranges: image.ranges(sizeBytes), read };
  });
  return { storage, topic: world.topic, ports: world.ports, compute, failoverPorts: portsOf(world, storage, compute) };
}

export const TARGET = {
  osDisk: { disk: 'disk0', osType: 'Linux' },
  virtualMachine: { size: 'Standard_D2s_v5', networkInterfaceIds: [NIC], testNetworkInterfaceIds: [`${NIC}-test`] },
};

function portsOf(world: World, storage: MemoryStorage, compute: MemoryCompute): FailoverPorts {
  let ids = 0;
  const clock = hastyClock();
  return {
    ...storage,
    topic: world.topic,
    clock,
    compute,
    createPoint: (group, at, signal) => newWorker({ ...world.ports, clock }).createPoint(group, at, signal),
    newId: () => `job-${++ids}`,
    random: () => 0.5,
  };
}

export const service = (world: FailoverWorld): CommandService => createCommandService(world.failoverPorts);

export const BY = { requestedBy: 'ada' };

/** Submits and executes; the job as it ends. */
export async function give(world: FailoverWorld, command: Command, key?: string): Promise<JobView> {
  const commands = service(world);
  const options = key === undefined ? BY : { ...BY, idempotencyKey: key };
  const { group, job } = await commands.submit(command, options, live);
  return commands.execute(group, job, {}, live);
}

/** As {@link give}, for commands that must succeed. */
export async function succeed(world: FailoverWorld, command: Command): Promise<JobView> {
  const job = await give(world, command);
  if (job.state !== 'succeeded') throw new Error(`${command.command} is ${job.state}: ${JSON.stringify(job.error)}`);
  return job;
}

export const COMMANDS = {
  test: { command: 'test-failover', group: GROUP, point: 'latest-processed' },
  cleanup: { command: 'cleanup-test-failover', group: GROUP, notes: 'it boots' },
  failover: { command: 'failover', group: GROUP, point: 'latest-processed' },
  commit: { command: 'commit', group: GROUP },
  cancel: { command: 'cancel', group: GROUP },
} as const satisfies Record<string, Command>;

export async function statesOf({ storage }: FailoverWorld): Promise<string> {
  const { failover, drill } = await getGroup(storage.catalog, GROUP, live);
  return `${failover?.state ?? 'none'} ${drill?.state ?? 'none'}`;
}

/** Names of the disks and machines that jobs have made or may have made, and that are there. */
export async function inAzure({ storage, compute }: FailoverWorld): Promise<string[]> {
  const jobs = await storage.catalog.list('jobs/', live);
  const found: string[] = [];
  for (const name of jobs) {
    const blob = await storage.catalog.read(name, live);
    const { steps } = JSON.parse(String(blob?.bytes)) as { steps: { kind: string; resource: string | null }[] };
    for (const { resource } of steps) {
      if (resource === null) continue;
      if ((await compute.findDisk(resource, live)) !== undefined) found.push(`disk ${resource}`);
      if ((await compute.findMachine(resource, live)) !== undefined) found.push(`machine ${resource}`);
    }
  }
  return [...new Set(found)].sort();
}

export const copiesOf = ({ storage }: FailoverWorld): Promise<readonly string[]> =>
  storage.copies.list('failover/', live);

/** The command's disks in Azure hold what the point's disks held, byte for byte; the names of those disks. */
export function diskNames(job: JobView): readonly string[] {
  const disks = (job.result?.['disks'] ?? []) as readonly { readonly name: string }[];
  return disks.map(({ name }) => name);
}
