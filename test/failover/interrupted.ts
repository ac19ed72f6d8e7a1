/** The ports of a process that dies, or is held up, at its n-th call that changes something. */
import type { FailoverPorts } from '../../src/failover/ports.ts';
import { newWorker } from '../worker/discard-support.ts';
import type { FailoverWorld } from './support.ts';

export type Moment = 'before' | 'after';

/** Calls that change something: between them are the named crash points. */
const MUTATING: ReadonlySet<string> = new Set(
  (
    'catalog.create catalog.replace catalog.delete catalog.takeLease lease.release seeds.open seeds.remove seed.putPages ' +
    'seed.clearPages seed.snapshot seed.deleteSnapshot seed.close logStore.delete topic.send copies.copy copies.remove ' +
    'compute.importDisk compute.uploadDisk compute.createMachine compute.deleteMachine compute.deleteDisk'
  ).split(' '),
);
const INNER: Readonly<Record<string, string>> = {
  'catalog.takeLease': 'lease',
  'seeds.open': 'seed',
  'seeds.reader': 'seed',
  'copies.reader': 'seed',
};
const SYNCHRONOUS: ReadonlySet<string> = new Set(['seeds.reader', 'copies.reader', 'copies.url']);

/**
 * @param what `dies`: from then on no call of it arrives anywhere; else what happens while it is held up, once
 * @returns the world as that process sees it, and whether it came that far
 */
export function interrupted(
  world: FailoverWorld,
  at: number,
  moment: Moment,
  what: 'dies' | (() => Promise<void>),
): { readonly world: FailoverWorld; readonly died: () => boolean } {
  let calls = 0;
  let reached = false;
  const isDead = (): boolean => reached && what === 'dies';
  const strike = async (isNow: boolean): Promise<void> => {
    if (isDead()) throw new Error('this process is dead');
    if (!isNow || reached) return;
    reached = true;
    if (what === 'dies') throw new Error('this process is dead');
    await what();
  };
  const wrap = <T extends object>(port: T, role: string): T =>
    new Proxy(port, {
      get(target, key) {
        const member: unknown = Reflect.get(target, key, target);
        if (typeof member !== 'function') return member;
        const name = `${role}.${String(key)}`;
        const inner = INNER[name];
        const wrapResult = (result: unknown): unknown =>
          inner !== undefined && typeof result === 'object' && result !== null ? wrap(result, inner) : result;
        if (SYNCHRONOUS.has(name)) return (...args: unknown[]) => wrapResult(member.apply(target, args));
        return async (...args: unknown[]) => {
          const call = MUTATING.has(name) ? ++calls : 0;
          await strike(moment === 'before' && call === at);
          const result: unknown = await member.apply(target, args);
          await strike(moment === 'after' && call === at);
          return wrapResult(result);
        };
      },
    });
  const { failoverPorts, ports } = world;
  const { catalog, seeds, copies, topic, compute } = failoverPorts;
  const gated = {
    catalog: wrap(catalog, 'catalog'),
    seeds: wrap(seeds, 'seeds'),
    copies: wrap(copies, 'copies'),
    topic: wrap(topic, 'topic'),
  };
  const { clock } = failoverPorts;
  const workerPorts = { ...ports, ...gated, clock, logStore: wrap(ports.logStore, 'logStore') };
  const gatedPorts: FailoverPorts = {
    ...failoverPorts,
    ...gated,
    compute: compute === undefined ? undefined : wrap(compute, 'compute'),
    createPoint: (group, moment, signal) => newWorker(workerPorts).createPoint(group, moment, signal),
  };
  return { world: { ...world, failoverPorts: gatedPorts }, died: () => reached };
}
