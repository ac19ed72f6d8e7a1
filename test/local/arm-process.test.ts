/** The ARM emulator as a process: killed in the middle of an operation, it goes on with it. */
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { caFileOf } from '../../src/local/arm/certificate.ts';
import type { FaultRule } from '../../src/local/arm/faults.ts';
import { type Service, startService } from '../../src/local/service.ts';
import { armFolder, readStackConfig } from '../../src/local/stack-config.ts';
import { serviceDefinitions } from '../../src/local/stack.ts';
import { ArmCompute } from '../../src/azure/arm-compute.ts';
import { parseConfiguration } from '../../src/config.ts';
import { openRuntime, requireCompute } from '../../src/runtime.ts';
import { ArmWorld, credential, QUICK } from '../azure/arm-support.ts';
import { diskSpec, journal, sampleVhd } from '../contracts/compute.contract.ts';
import { expectBytes, live } from '../contracts/support.ts';
import { onFreePorts, useStack } from '../support/stack.ts';

const stack = useStack();

let home = '';
let port = 0;
let service: Service;

/** A second emulator beside that of the stack, in a home of its own, that takes orders for faults. */
async function start(): Promise<void> {
  const blob = Number(
    /:(\d+)\/tidemarkreplica/.exec(stack.environment['TIDEMARK_REPLICA_CONNECTION_STRING'] ?? '')?.[1],
  );
  const definitions = serviceDefinitions(home, readStackConfig(), { blob, broker: 1, arm: port });
  const definition = definitions.find(({ name }) => name === 'arm');
  if (definition === undefined) throw new Error('the stack has an ARM emulator');
  service = await startService({ ...definition, args: [...definition.args, '--control'] });
  await service.waitUntilReady(AbortSignal.timeout(50_000));
}

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'tidemark-arm-process-'));
  await onFreePorts(async (portBase) => {
    port = portBase;
    await start();
  });
});
afterAll(async () => {
  await service.stop();
  await rm(home, { recursive: true, force: true });
});

const ca = (): string => readFileSync(caFileOf(armFolder(home)), 'utf8');

function order(rule: FaultRule): Promise<number | undefined> {
  const options = { host: '127.0.0.1', port, path: '/_control/faults', method: 'POST', ca: ca(), agent: false };
  return new Promise((resolve, reject) => {
    const sent = request(options, (response) => resolve(response.resume().statusCode));
    sent.on('error', reject);
    sent.end(JSON.stringify(rule));
  });
}

const compute = (): ArmCompute =>
  new ArmCompute({
    ...new ArmWorld(armFolder(home), stack.environment).options,
    endpoint: `https://127.0.0.1:${port}`,
    credential,
    times: QUICK,
  });

describe('a killed emulator', () => {
  it('goes on with the operation that it was in, and the client with the token that it kept', async () => {
    const world = new ArmWorld(armFolder(home), stack.environment);
    const spec = diskSpec();
    const url = await world.putSource(sampleVhd(1));
    expect(await order({ path: spec.name, action: { kind: 'slow', polls: 3 } })).toBe(204);
    const kept = journal();
    const killed = new Error('the emulator was killed');
    const persist = async (token: string): Promise<void> => {
      kept.tokens.push(token);
      process.kill(service.identity.pid, 'SIGKILL');
      await service.ended;
      throw killed;
    };
    await expect(compute().importDisk(spec, url, { token: null, persist }, live)).rejects.toBe(killed);
    await start();
    const disk = await compute().importDisk(spec, url, journal(kept.tokens[0]), live);
    expect(disk).toMatchObject({ isWhole: true });
    const { operations, volumes } = JSON.parse(readFileSync(join(armFolder(home), 'state.json'), 'utf8')) as {
      operations: { kind: string }[];
      volumes: { blob: string }[];
    };
    expect(operations.map(({ kind }) => kind)).toEqual(['create']);
    const blob = (await world.managed()).find(({ name }) => name === volumes[0]?.blob);
    expectBytes(await blob?.downloadToBuffer(), sampleVhd(1));
  });
});

describe('the emulator of a stack', () => {
  it('takes no orders for faults', async () => {
    const endpoint = new URL(stack.environment['TIDEMARK_ARM_ENDPOINT'] ?? '');
    const file = stack.environment['TIDEMARK_ARM_CA_FILE'] ?? '';
    const status = await new Promise((resolve, reject) => {
      const options = { host: endpoint.hostname, port: endpoint.port, path: '/_control/faults', method: 'POST' };
      const sent = request({ ...options, ca: readFileSync(file), agent: false }, (response) =>
        resolve(response.resume().statusCode),
      );
      sent.on('error', reject);
      sent.end('{}');
    });
    expect(status).toBe(401);
  });

  it('is what a configuration without variables means', async () => {
    const { compute: connection } = parseConfiguration({ TIDEMARK_HOME: stack.home });
    expect(connection).toEqual({
      cloud: 'AzureCloud',
      endpoint: stack.environment['TIDEMARK_ARM_ENDPOINT'],
      caFile: stack.environment['TIDEMARK_ARM_CA_FILE'],
      subscriptionId: stack.environment['TIDEMARK_SUBSCRIPTION_ID'],
      resourceGroup: stack.environment['TIDEMARK_RESOURCE_GROUP'],
      location: stack.environment['TIDEMARK_LOCATION'],
      replicaAccountId: stack.environment['TIDEMARK_REPLICA_ACCOUNT_ID'],
    });
  });

  it('makes a disk for whoever has its environment', async () => {
    const runtime = openRuntime(parseConfiguration(stack.environment));
    const world = new ArmWorld(armFolder(stack.home), stack.environment);
    const spec = diskSpec();
    const disk = await requireCompute(runtime).importDisk(spec, await world.putSource(sampleVhd(2)), journal(), live);
    expect(disk).toMatchObject({ name: spec.name, isWhole: true });
    await runtime.close();
  });
});
