import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { ArmCompute } from '../../src/azure/arm-compute.ts';
import type { FaultRule } from '../../src/local/arm/faults.ts';
import type { Operation } from '../../src/local/arm/state.ts';
import { diskSpec, journal, machineSpec, sampleVhd, uploadSource } from '../contracts/compute.contract.ts';
import { expectBytes, expectCode, live } from '../contracts/support.ts';
import type { ArmChildOrder } from './arm-child.ts';
import { type ArmWorld, GROUP, QUICK, TOKEN, useArm } from './arm-support.ts';

const arm = useArm();

/** Operations that the emulator has carried out, or still does, on a resource: what the adapter really asked for. */
function operationsOn({ folder }: ArmWorld, name: string): string[] {
  const { operations } = JSON.parse(readFileSync(join(folder, 'state.json'), 'utf8')) as { operations: Operation[] };
  return operations.filter(({ target }) => target.endsWith(`/${name}`)).map(({ kind }) => kind);
}

/** One fault on the requests of one resource. */
const fault = (name: string, action: FaultRule['action'], more: Partial<FaultRule> = {}): void =>
  arm().faults.add({ path: name, action, ...more });

/** A journal whose process ends the moment it has noted the token. */
function dyingJournal() {
  const kept = { token: null as string | null };
  const death = new Error('the process ends here');
  const resumable = {
    token: null,
    persist: async (token: string) => {
      kept.token = token;
      throw death;
    },
  };
  return { kept, death, resumable };
}

describe('a process that ends in the middle', () => {
  it('leaves an operation that the next one waits for, instead of a second one', async () => {
    const world = arm();
    const spec = diskSpec();
    const url = await world.putSource(sampleVhd(1));
    fault(spec.name, { kind: 'slow', polls: 2 });
    const { kept, death, resumable } = dyingJournal();
    await expect(world.compute().importDisk(spec, url, resumable, live)).rejects.toBe(death);
    expect(await world.compute().findDisk(spec.name, live)).toMatchObject({ isWhole: false });
    const disk = await world.compute().importDisk(spec, url, journal(kept.token), live);
    expect(disk).toMatchObject({ isWhole: true });
    expect(operationsOn(world, spec.name)).toEqual(['create']);
    expectBytes(await world.readDisk(spec.name), sampleVhd(1));
  });

  it('is resumed by another process after it was killed', async () => {
    const world = arm();
    const spec = diskSpec();
    const sourceUrl = await world.putSource(sampleVhd(2));
    fault(spec.name, { kind: 'slow', polls: 4 });
    const { credential: _, random: __, ...options } = world.options;
    // So long between two looks that the child never sees the end.
    const order: ArmChildOrder = { options, times: { ...QUICK, pollMs: 60_000, maxPollMs: 0 }, spec, sourceUrl };
    const file = fileURLToPath(new URL('./arm-child.ts', import.meta.url));
    const child = spawn(process.execPath, [file, JSON.stringify(order)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(child, 'exit');
    const [token] = (await once(createInterface(child.stdout), 'line')) as [string];
    child.kill('SIGKILL');
    await exited;
    await world.compute().importDisk(spec, sourceUrl, journal(token), live);
    expect(operationsOn(world, spec.name)).toEqual(['create']);
    expectBytes(await world.readDisk(spec.name), sampleVhd(2));
  });

  it('needs no token: what the resource says is enough', async () => {
    const world = arm();
    const spec = diskSpec();
    const url = await world.putSource(sampleVhd(3));
    const { death, resumable } = dyingJournal();
    await expect(world.compute().importDisk(spec, url, resumable, live)).rejects.toBe(death);
    for (const token of [
      null,
      '{}',
      JSON.stringify({ version: 1, verb: 'create', resource: `disks/${spec.name}`, poller: '{' }),
    ]) {
      expect(await world.compute().importDisk(spec, url, journal(token), live)).toMatchObject({ isWhole: true });
    }
    expect(operationsOn(world, spec.name)).toEqual(['create']);
  });

  it('sends no request to the host that a foreign token names', async () => {
    const world = arm();
    const spec = diskSpec();
    const url = await world.putSource(sampleVhd(3));
    const kept = journal();
    await world.compute().importDisk(spec, url, kept, live);
    const foreign = (kept.tokens[0] ?? '').replaceAll(new URL(world.options.endpoint).host, 'attacker.invalid');
    expect(foreign).toContain('attacker.invalid');
    expect(await world.compute().importDisk(spec, url, journal(foreign), live)).toMatchObject({ isWhole: true });
  });

  it('resumes machines, and deletions', async () => {
    const world = arm();
    const os = await world.compute().importDisk(diskSpec(), await world.putSource(sampleVhd(4)), journal(), live);
    const spec = machineSpec(os);
    fault(spec.name, { kind: 'slow', polls: 2 }, { method: 'PUT' });
    fault(spec.name, { kind: 'slow', polls: 2 }, { method: 'DELETE' });
    const creating = dyingJournal();
    await expect(world.compute().createMachine(spec, creating.resumable, live)).rejects.toBe(creating.death);
    await world.compute().createMachine(spec, journal(creating.kept.token), live);
    const deleting = dyingJournal();
    const { name, tags } = spec;
    await expect(world.compute().deleteMachine(name, tags, deleting.resumable, live)).rejects.toBe(deleting.death);
    await world.compute().deleteMachine(name, tags, journal(deleting.kept.token), live);
    expect(operationsOn(world, name)).toEqual(['create', 'delete']);
    expect(await world.compute().findMachine(name, live)).toBeUndefined();
  });

  it('goes on over a restart of the emulator', async () => {
    const world = arm();
    const spec = diskSpec();
    const url = await world.putSource(sampleVhd(5));
    fault(spec.name, { kind: 'slow', polls: 3 });
    const { kept, death, resumable } = dyingJournal();
    await expect(world.compute().importDisk(spec, url, resumable, live)).rejects.toBe(death);
    await world.restart();
    await world.compute().importDisk(spec, url, journal(kept.token), live);
    expect(operationsOn(world, spec.name)).toEqual(['create']);
    expectBytes(await world.readDisk(spec.name), sampleVhd(5));
  });
});

describe('faults of Azure', () => {
  it('are ridden out when they are short: throttling and outages', async () => {
    const world = arm();
    const spec = diskSpec();
    fault(spec.name, { kind: 'refuse', status: 429, code: 'TooManyRequests' }, { times: 2 });
    fault(spec.name, { kind: 'refuse', status: 503, code: 'ServiceUnavailable' }, { method: 'PUT', times: 2 });
    fault(spec.name, { kind: 'refuse', status: 500, code: 'InternalServerError' }, { method: 'GET' });
    fault('DiskOperations', { kind: 'refuse', status: 429, code: 'TooManyRequests' });
    fault('DiskOperations', { kind: 'drop', carriedOut: false });
    const disk = await world.compute().importDisk(spec, await world.putSource(sampleVhd(1)), journal(), live);
    expect(disk).toMatchObject({ isWhole: true });
    expect(operationsOn(world, spec.name)).toEqual(['create']);
  });

  it.each([429, 503])('are given up after four attempts: %i', async (status) => {
    const world = arm();
    const spec = diskSpec();
    const url = await world.putSource(sampleVhd(1));
    fault(spec.name, { kind: 'refuse', status, code: 'Busy' }, { method: 'PUT', times: 4 });
    const error = await expectCode(world.compute().importDisk(spec, url, journal(), live), 'COMPUTE_UNAVAILABLE');
    expect(error.details).toEqual({ status, code: 'Busy' });
    // The rule is used up, so there were exactly four.
    expect(await world.compute().importDisk(spec, url, journal(), live)).toMatchObject({ isWhole: true });
  });

  it('wait as long as Retry-After says, and leave what is longer to the caller', async () => {
    const world = arm();
    const { name } = diskSpec();
    const refuse = { kind: 'refuse', status: 429, code: 'TooManyRequests', retryAfterSeconds: 1 } as const;
    fault(name, refuse);
    const began = performance.now();
    expect(await world.compute({ maxDelayMs: 2000 }).findDisk(name, live)).toBeUndefined();
    // Timers may be a moment early.
    expect(performance.now() - began).toBeGreaterThan(990);
    fault(name, { ...refuse, retryAfterSeconds: 3600 });
    await expectCode(world.compute({ maxDelayMs: 2000 }).findDisk(name, live), 'COMPUTE_UNAVAILABLE');
  });

  it.each([true, false])(
    'take an answer that was lost for neither a success nor a failure (carried out: %s)',
    async (carriedOut) => {
      const world = arm();
      const spec = diskSpec();
      const url = await world.putSource(sampleVhd(2));
      fault(spec.name, { kind: 'drop', carriedOut }, { method: 'PUT' });
      await world.compute().importDisk(spec, url, journal(), live);
      expectBytes(await world.readDisk(spec.name), sampleVhd(2));
      expect(operationsOn(world, spec.name).filter((kind) => kind === 'create')).toHaveLength(1);
      fault(spec.name, { kind: 'drop', carriedOut }, { method: 'DELETE' });
      await world.compute().deleteDisk(spec.name, spec.tags, journal(), live);
      expect(await world.compute().findDisk(spec.name, live)).toBeUndefined();
    },
  );

  it('tell the code and the message of an operation that failed, and begin anew after that', async () => {
    const world = arm();
    const spec = diskSpec();
    const url = await world.putSource(sampleVhd(3));
    fault(spec.name, { kind: 'fail', code: 'DiskQuotaExceeded', message: 'No more disks. Ask for a quota.' });
    const kept = journal();
    const error = await expectCode(world.compute().importDisk(spec, url, kept, live), 'COMPUTE_REFUSED');
    expect(error.details['code']).toBe('DiskQuotaExceeded');
    expect(error.message).toContain('No more disks. Ask for a quota.');
    expect(await world.compute().findDisk(spec.name, live)).toMatchObject({ isWhole: false });
    await world.compute().importDisk(spec, url, journal(kept.tokens.at(-1)), live);
    expectBytes(await world.readDisk(spec.name), sampleVhd(3));
  });

  it('mend a machine that failed', async () => {
    const world = arm();
    const os = await world.compute().importDisk(diskSpec(), await world.putSource(sampleVhd(4)), journal(), live);
    const spec = machineSpec(os);
    fault(spec.name, { kind: 'fail', code: 'AllocationFailed', message: 'No capacity.' });
    const kept = journal();
    await expectCode(world.compute().createMachine(spec, kept, live), 'COMPUTE_REFUSED');
    const machine = await world.compute().createMachine(spec, journal(kept.tokens.at(-1)), live);
    expect(machine.provisioningState).toBe('Succeeded');
  });

  it('are no answer when nobody listens', async () => {
    const { options } = arm();
    const compute = new ArmCompute({ ...options, endpoint: 'https://127.0.0.1:1', times: QUICK });
    await expectCode(compute.findDisk('d', live), 'COMPUTE_UNAVAILABLE');
  });

  it('do not outlast the limit of an operation, nor the signal', async () => {
    const world = arm();
    const spec = diskSpec();
    const url = await world.putSource(sampleVhd(5));
    fault(spec.name, { kind: 'slow', polls: 1_000_000 });
    const limited = world.compute({ operationMs: 200 }).importDisk(spec, url, journal(), live);
    expect((await expectCode(limited, 'COMPUTE_UNAVAILABLE')).message).toContain('not done within 200 ms');
    const reason = new Error('stop now');
    const controller = new AbortController();
    const stopped = world.compute().importDisk(spec, url, journal(), controller.signal);
    // Asked for the resource and found it in the making, it looks again and again.
    setTimeout(() => controller.abort(reason), 100);
    await expect(stopped).rejects.toBe(reason);
  });
});

describe('uploads', () => {
  it('end as disks like any other', async () => {
    const world = arm();
    const spec = diskSpec();
    await world.compute().uploadDisk(spec, uploadSource(sampleVhd(1)), journal(), live);
    expect(await world.sdk().disks.get(GROUP, spec.name)).toMatchObject({
      diskState: 'Unattached',
      tags: spec.tags,
      creationData: { createOption: 'Upload' },
    });
    expect(operationsOn(world, spec.name)).toEqual(['create', 'grant', 'revoke']);
  });

  it('begin anew after a process that ended anywhere', async () => {
    const world = arm();
    const spec = diskSpec();
    const { kept, death, resumable } = dyingJournal();
    await expect(world.compute().uploadDisk(spec, uploadSource(sampleVhd(2)), resumable, live)).rejects.toBe(death);
    let reads = 0;
    const source = uploadSource(sampleVhd(2));
    const dying = {
      ...source,
      read: async (offsetBytes: number, lengthBytes: number) => {
        if (++reads === 3) throw death;
        return source.read(offsetBytes, lengthBytes);
      },
    };
    await expect(world.compute().uploadDisk(spec, dying, journal(kept.token), live)).rejects.toBe(death);
    // Everything is written and the access has ended, but nobody has noted that the disk is whole.
    fault(spec.name, { kind: 'refuse', status: 403, code: 'AuthorizationFailed' }, { method: 'PATCH' });
    await expectCode(
      world.compute().uploadDisk(spec, uploadSource(sampleVhd(3)), journal(kept.token), live),
      'COMPUTE_REFUSED',
    );
    expect(await world.compute().findDisk(spec.name, live)).toMatchObject({ isWhole: false });
    await world.compute().uploadDisk(spec, uploadSource(sampleVhd(4)), journal(kept.token), live);
    expectBytes(await world.readDisk(spec.name), sampleVhd(4));
  });

  it('are refused when what was written is no VHD', async () => {
    const world = arm();
    const spec = diskSpec();
    const bytes = sampleVhd(5);
    bytes.fill(0, spec.sizeBytes);
    const error = await expectCode(
      world.compute().uploadDisk(spec, uploadSource(bytes), journal(), live),
      'COMPUTE_REFUSED',
    );
    expect(error.details['code']).toBe('InvalidVhd');
  });
});

describe('secrets', () => {
  it('are in no error: neither a token nor a SAS', async () => {
    const world = arm();
    const sas = 'https://md-1.blob.storage.azure.net/c/b?sv=2024&sig=topsecret%3D';
    const message = `Cannot read ${sas}. Authorization: Bearer ${TOKEN}; eyJhbGciOi.eyJzdWIi.abc sig=topsecret`;
    const spec = diskSpec();
    fault(spec.name, { kind: 'fail', code: 'Oops', message });
    const url = await world.putSource(sampleVhd(1));
    const errors: unknown[] = [
      await expectCode(world.compute().importDisk(spec, url, journal(), live), 'COMPUTE_REFUSED'),
    ];
    const upload = diskSpec();
    const tooShort = { ...uploadSource(sampleVhd(1)), read: async () => Buffer.alloc(511) };
    errors.push(await expectCode(world.compute().uploadDisk(upload, tooShort, journal(), live), 'ASSERTION'));
    const source = uploadSource(sampleVhd(1));
    const revoking = {
      ...source,
      // Somebody ends the access in the middle: storage refuses the SAS from there on.
      read: async (offsetBytes: number, lengthBytes: number) => {
        const poller = world.sdk().disks.revokeAccess(GROUP, upload.name, { updateIntervalInMs: 5 });
        await poller.pollUntilDone().catch(() => undefined);
        return source.read(offsetBytes, lengthBytes);
      },
    };
    errors.push(await expectCode(world.compute().uploadDisk(upload, revoking, journal(), live), 'COMPUTE_REFUSED'));
    const refused = diskSpec();
    fault(refused.name, { kind: 'refuse', status: 403, code: 'AuthorizationFailed' });
    errors.push(await expectCode(world.compute().findDisk(refused.name, live), 'COMPUTE_REFUSED'));
    const texts = errors.map((error) => inspect(error, { depth: 20, showHidden: true }));
    expect(texts[0]).toContain('https://md-1.blob.storage.azure.net/c/b?…');
    for (const text of texts) {
      expect(text).not.toContain('topsecret');
      expect(text).not.toContain(TOKEN);
      expect(text).not.toContain('eyJ');
      expect(text).not.toMatch(/\bsig=[^…]/);
    }
  });
});
