/**
 * The main job in a process that has no connection string: protect, ship, drain, export, report, and a command through the queue, with
 * tokens alone; then the same places with tokens that are no good.
 *
 * usage: node identity-child.ts TRACE_FOLDER OUT_FILE, places in the environment; prints {@link ChildReport} as JSON
 */
import { inspect } from 'node:util';
import { getGroup, protectGroup } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { createJobRunner } from '../../src/commands/job-runner.ts';
import { handleWaiting } from '../../src/distribution/listener.ts';
import { parseConfiguration } from '../../src/config.ts';
import { pointReader } from '../../src/copies/copy-store.ts';
import { TidemarkError } from '../../src/errors.ts';
import { usFromIso } from '../../src/model/time.ts';
import { readCloudEvent } from '../../src/monitoring/cloud-event.ts';
import { exportDisk } from '../../src/points/export.ts';
import { pointDisk } from '../../src/points/manifest.ts';
import { listPoints, requirePoint } from '../../src/points/point-store.ts';
import { POLICY_DEFAULTS } from '../../src/retention/policy.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { selectDisks } from '../../src/source/ship-arguments.ts';
import { shipTrace } from '../../src/source/ship.ts';
import { openTraceFolder, traceEndUs } from '../../src/source/trace-folder.ts';
import { Worker } from '../../src/worker/worker.ts';
import type { Credential } from '../../src/azure/credentials.ts';
import { type ChildReport, GROUP, type Refusal, START, STRETCH, UnsignedCredential } from './identity-support.ts';

const DISK_BYTES = 2 * 1024 * 1024;

const signal = AbortSignal.timeout(60_000);
const [traceFolder = '', outFile = ''] = process.argv.slice(2);
const configuration = parseConfiguration(process.env);

async function replicate({ ports, settings }: Runtime): Promise<string[]> {
  const { catalog, clock } = ports;
  await setPolicy(catalog, 'p', { ...POLICY_DEFAULTS, appConsistentHours: 0 }, signal);
  const disks = ['disk0', 'disk1'].map((disk) => ({ disk, sizeBytes: DISK_BYTES }));
  const machines = [{ machine: 'web', disks }];
  await protectGroup(catalog, { group: GROUP, policy: 'p', machines, nowUs: clock.nowUs() }, signal);
  const trace = await openTraceFolder(traceFolder);
  const group = await getGroup(catalog, GROUP, signal);
  const selection = await selectDisks(group, trace, { machine: undefined, mapping: new Map() });
  await shipTrace({
    disks: selection.disks,
    upload: ports.logUpload,
    log: ports.logStore,
    traceEndUs: await traceEndUs(trace.disks, signal),
    startUs: usFromIso(START),
    stretch: STRETCH,
    nowUs: () => clock.nowUs(),
    signal,
  });
  const worker = new Worker({ ports, settings, groups: [], report: () => undefined });
  const outcomes = await worker.runOnce(signal);
  return outcomes.flatMap(({ error }) => (error === undefined ? [] : [inspect(error)]));
}

async function exportDisk0({ ports }: Runtime, id: string): Promise<void> {
  const manifest = await requirePoint(ports.catalog, GROUP, id, signal);
  const [disk] = manifest.disks;
  if (disk === undefined) throw new Error('the point has no disk');
  const seed = pointReader(ports, pointDisk(manifest, disk));
  await exportDisk({ seed, manifest, disk, format: 'raw', outFile, signal });
}

async function command(runtime: Runtime): Promise<Pick<ChildReport, 'reply' | 'made'>> {
  const { commands, ports } = runtime;
  const client = runtime.openCommandClient();
  const queue = runtime.openCommandQueue();
  const body = Buffer.from(JSON.stringify({ command: 'create-point', group: GROUP, at: 'latest' }));
  await client.send({ group: GROUP, messageId: 'k1', body, requestedBy: 'ada', replySession: 'k1' }, signal);
  const { clock, random } = ports;
  const runner = createJobRunner({ commands, sleep: (ms, until) => clock.sleep(ms, until), random, signal });
  await handleWaiting(
    { queue, commands, runner, clock, random, report: (error) => process.stderr.write(inspect(error)) },
    signal,
  );
  await runner.idle();
  const replies = [];
  for await (const reply of client.replies('k1', 'k1', signal)) replies.push(reply);
  await client.close();
  await queue.close();
  const last = replies.at(-1);
  return { reply: last?.reply ?? '', made: last?.reply === 'finished' ? last.job.result : last };
}

async function eventsOf({ ports }: Runtime): Promise<string[]> {
  const types: string[] = [];
  for await (const { body } of ports.topic.tail(signal, { follow: false }))
    types.push(readCloudEvent(body)?.type ?? '');
  return types;
}

/** What becomes of a first request with this credential. */
async function refusal(credential: Credential, request: (runtime: Runtime) => Promise<unknown>): Promise<Refusal> {
  const runtime = openRuntime(configuration, { credential });
  try {
    await request(runtime);
    return { code: '', message: 'it was taken', text: '' };
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    return { code: error.code, message: error.message, text: `${error.stack}${inspect(error, { depth: 20 })}` };
  } finally {
    await runtime.close();
  }
}

const read = ({ ports }: Runtime): Promise<unknown> => ports.catalog.read(`groups/${GROUP}.json`, signal);
const send = ({ ports }: Runtime): Promise<unknown> => {
  const message = { messageId: 'm', subject: 's', body: {}, applicationProperties: {} };
  return ports.topic.send([message], signal);
};
const nobody: Credential = {
  getToken: () => Promise.reject(Object.assign(new Error('nobody is here'), { name: 'CredentialUnavailableError' })),
};

async function refusals(): Promise<ChildReport['refusals']> {
  const stranger = { audience: 'https://management.azure.com' };
  const expired = { leftSeconds: -10 };
  return {
    nobody: await refusal(nobody, read),
    nothing: await refusal({ getToken: async () => null }, read),
    stranger: await refusal(new UnsignedCredential(stranger), read),
    expired: await refusal(new UnsignedCredential(expired), read),
    'topic, nobody': await refusal(nobody, send),
    'topic, stranger': await refusal(new UnsignedCredential(stranger), send),
    'topic, expired': await refusal(new UnsignedCredential(expired), send),
  };
}

const credential = new UnsignedCredential();
const runtime = openRuntime(configuration, { credential });
const workerErrors = await replicate(runtime);
const points = await listPoints(runtime.ports.catalog, GROUP, signal);
await exportDisk0(runtime, points.at(-1)?.point ?? '');
const commanded = await command(runtime);
const events = await eventsOf(runtime);
await runtime.close();
const report: ChildReport = {
  scopes: [...credential.scopes].sort(),
  workerErrors,
  points: points.map(({ point, kind, cut }) => ({ point, kind, cut })),
  events,
  ...commanded,
  refusals: await refusals(),
};
process.stdout.write(JSON.stringify(report));
