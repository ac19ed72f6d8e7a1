/**
 * A process that imports a disk and says what it persisted, to be killed in the middle.
 *
 * usage: node arm-child.ts JSON of {@link ArmChildOrder}
 */
import type { ComputeTimes } from '../../src/azure/arm-client.ts';
import { ArmCompute, type ArmComputeOptions } from '../../src/azure/arm-compute.ts';
import type { DiskSpec } from '../../src/failover/compute.ts';

export interface ArmChildOrder {
  readonly options: Omit<ArmComputeOptions, 'times' | 'credential' | 'random'>;
  readonly times: ComputeTimes;
  readonly spec: DiskSpec;
  readonly sourceUrl: string;
}

const { options, times, spec, sourceUrl } = JSON.parse(process.argv[2] ?? '') as ArmChildOrder;
const credential = { getToken: async () => ({ token: 'child', expiresOnTimestamp: Date.now() + 3_600_000 }) };
const compute = new ArmCompute({ ...options, times, credential, random: Math.random });
const persist = async (token: string): Promise<void> => void process.stdout.write(`${token}\n`);
await compute.importDisk(spec, sourceUrl, { token: null, persist }, AbortSignal.timeout(60_000));
process.stdout.write('done\n');
