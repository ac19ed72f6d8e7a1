/** The ARM emulator as the SDK sees it. */
import { AnonymousCredential, BlobSASPermissions, PageBlobClient } from '@azure/storage-blob';
import type { ComputeManagementClient, Disk } from '@azure/arm-compute';
import { request } from 'node:https';
import { beforeAll, describe, expect, it } from 'vitest';
import { MIB } from '../../src/model/sizes.ts';
import { vhdFooter } from '../../src/seed/vhd-footer.ts';
import { type ArmWorld, GROUP, SUBSCRIPTION, useArm } from '../azure/arm-support.ts';
import { sampleVhd } from '../contracts/compute.contract.ts';
import { expectBytes, freshName, pattern } from '../contracts/support.ts';

const arm = useArm();
const PACE = { updateIntervalInMs: 5 };
const SIZE_BYTES = 2 * MIB;
const NIC = `/subscriptions/${SUBSCRIPTION}/resourceGroups/${GROUP}/providers/Microsoft.Network/networkInterfaces/n0`;

let world: ArmWorld;
let sdk: ComputeManagementClient;
beforeAll(() => {
  world = arm();
  sdk = world.sdk();
});

const create = async (
  name: string,
  creationData: NonNullable<Disk['creationData']>,
  more: Partial<Disk> = {},
): Promise<Disk> => sdk.disks.createOrUpdate(GROUP, name, { location: 'westeurope', creationData, ...more }, PACE);
const importOf = (sourceUri: string): NonNullable<Disk['creationData']> => ({
  createOption: 'Import',
  sourceUri,
  storageAccountId: world.options.storageAccountId,
});
const importDisk = async (seed: number, name = freshName('disk')): Promise<Disk> =>
  create(name, importOf(await world.putSource(sampleVhd(seed))));
const open = (sas: string): PageBlobClient => new PageBlobClient(sas, new AnonymousCredential());

/** The Azure-shaped refusal of a call. */
async function refusal(call: PromiseLike<unknown>): Promise<{ status: unknown; code: unknown }> {
  const error = await Promise.resolve(call).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  const { statusCode: status, code } = error as { statusCode?: unknown; code?: unknown };
  return { status, code };
}

/** Without the SDK, for what it would never send. */
function raw(path: string, headers: Record<string, string>): Promise<{ status: number | undefined; body: unknown }> {
  const { endpoint, ca } = world.options;
  return new Promise((resolve, reject) => {
    const sent = request(`${endpoint}${path}`, { ca, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({ status: response.statusCode, body: JSON.parse(Buffer.concat(chunks).toString()) as unknown }),
      );
    });
    sent.on('error', reject);
    sent.end();
  });
}

describe('requests', () => {
  const path = `/subscriptions/${SUBSCRIPTION}/resourceGroups/${GROUP}/providers/Microsoft.Compute/disks/x`;

  it('need a token, an API version and a resource that is there', async () => {
    const authorization = 'Bearer anything';
    const version = '?api-version=2026-03-02';
    const [noToken, noVersion, noDisk, noType] = await Promise.all([
      raw(`${path}${version}`, {}),
      raw(path, { authorization }),
      raw(`${path}${version}`, { authorization }),
      raw(`${path.replace('/disks/', '/galleries/')}${version}`, { authorization }),
    ]);
    expect(noToken).toMatchObject({ status: 401, body: { error: { code: 'AuthenticationFailed' } } });
    expect(noVersion).toMatchObject({ status: 400, body: { error: { code: 'MissingApiVersionParameter' } } });
    expect(noDisk).toMatchObject({ status: 404, body: { error: { code: 'ResourceNotFound' } } });
    expect(noType).toMatchObject({ status: 404, body: { error: { code: 'InvalidResourceType' } } });
  });

  it('are only answered to clients that trust its certificate', async () => {
    const untrusting = request(`${world.options.endpoint}${path}`, { agent: false });
    const error = await new Promise<NodeJS.ErrnoException>((resolve) => untrusting.on('error', resolve).end());
    expect(error.code).toBe('DEPTH_ZERO_SELF_SIGNED_CERT');
  });
});

describe('disks', () => {
  it('are imported with what was asked for', async () => {
    const url = await world.putSource(sampleVhd(1));
    const name = freshName('disk');
    const asked: Partial<Disk> = {
      sku: { name: 'Premium_LRS' },
      zones: ['2'],
      osType: 'Linux',
      hyperVGeneration: 'V2',
      encryption: { diskEncryptionSetId: '/subscriptions/s/des', type: 'EncryptionAtRestWithCustomerKey' },
      tags: { a: 'b' },
    };
    const disk = await create(name, importOf(url), asked);
    const expected = {
      provisioningState: 'Succeeded',
      diskState: 'Unattached',
      diskSizeBytes: SIZE_BYTES,
      diskSizeGB: 1,
    };
    expect(disk).toMatchObject({ name, ...asked, ...expected, sku: { name: 'Premium_LRS' } });
    expect(await sdk.disks.get(GROUP.toUpperCase(), name.toUpperCase())).toEqual(disk);
  });

  it('share nothing with their source, nor with the snapshot that it was copied from', async () => {
    const original = world.sourceAt(await world.putSource(sampleVhd(2)));
    const snapshot = original.withSnapshot((await original.createSnapshot()).snapshot ?? '');
    const url = await world.putSource(await snapshot.downloadToBuffer());
    const before = new Set((await world.managed()).map((blob) => blob.name));
    const disk = await create(freshName('disk'), importOf(url));
    const [own, ...others] = (await world.managed()).filter((blob) => !before.has(blob.name));
    expect(others).toEqual([]);
    await own?.uploadPages(pattern(99, 8192), 0, 8192);
    expectBytes(await world.sourceAt(url).downloadToBuffer(), sampleVhd(2));
    expectBytes(await snapshot.downloadToBuffer(), sampleVhd(2));
    expectBytes(await original.downloadToBuffer(), sampleVhd(2));
    expectBytes((await world.readDisk(disk.name ?? '')).subarray(0, 8192), pattern(99, 8192));
  });

  it('are copied where there is data, not elsewhere', async () => {
    const before = new Set((await world.managed()).map((blob) => blob.name));
    await importDisk(3);
    const [own] = (await world.managed()).filter((blob) => !before.has(blob.name));
    let bytes = 0;
    for await (const { start, end } of own?.listPageRanges() ?? []) bytes += end + 1 - start;
    // 64 KiB pieces are what the source was written in.
    expect(bytes).toBe(3 * 65_536 + 512);
  });

  it.each([
    ['no cookie', (vhd: Buffer) => vhd.write('x', SIZE_BYTES), 'InvalidVhd'],
    [
      'a wrong checksum',
      (vhd: Buffer) => vhd.writeUInt8(vhd.readUInt8(SIZE_BYTES + 80) ^ 1, SIZE_BYTES + 80),
      'InvalidVhd',
    ],
  ])('are not imported from a footer with %s', async (_what, damage, code) => {
    const vhd = sampleVhd(4);
    damage(vhd);
    expect(await refusal(create(freshName('disk'), importOf(await world.putSource(vhd))))).toEqual({
      status: 400,
      code,
    });
  });

  it('are not imported from a dynamic VHD, from one of another size, or of a part of a MiB', async () => {
    const withFooter = (change: (footer: Buffer) => void, dataBytes = SIZE_BYTES): Buffer => {
      const footer = vhdFooter({ group: 'g', machine: 'm', disk: 'd' }, SIZE_BYTES);
      change(footer);
      footer.fill(0, 64, 68);
      footer.writeUInt32BE(~footer.reduce((sum, byte) => sum + byte, 0) >>> 0, 64);
      return Buffer.concat([Buffer.alloc(dataBytes), footer]);
    };
    const odd = SIZE_BYTES + 512;
    const cases = [
      [withFooter((footer) => footer.writeUInt32BE(3, 60)), 'InvalidVhd'],
      [withFooter(() => undefined, MIB), 'InvalidVhd'],
      [withFooter((footer) => footer.writeBigUInt64BE(BigInt(odd), 48), odd), 'UnsupportedVhdVirtualSize'],
    ] as const;
    for (const [bytes, code] of cases) {
      expect(await refusal(create(freshName('disk'), importOf(await world.putSource(bytes))))).toEqual({
        status: 400,
        code,
      });
    }
  });

  it('are not imported from a snapshot, from nothing, or from another account', async () => {
    const url = await world.putSource(sampleVhd(5));
    const { snapshot = '' } = await world.sourceAt(url).createSnapshot();
    const cases: [NonNullable<Disk['creationData']>, string][] = [
      [importOf(`${url}?snapshot=${snapshot}`), 'InvalidParameter'],
      [importOf(`${url}.none`), 'BlobNotFound'],
      [importOf(url.replace('tidemarkreplica', 'tidemarkcache')), 'InvalidParameter'],
      [{ createOption: 'Import', sourceUri: url }, 'InvalidParameter'],
      [{ ...importOf(url), storageAccountId: `${world.options.storageAccountId}x` }, 'InvalidParameter'],
    ];
    for (const [data, code] of cases)
      expect(await refusal(create(freshName('disk'), data))).toEqual({ status: 400, code });
  });

  it('are uploaded over a write SAS that ends', async () => {
    const name = freshName('disk');
    const made = await create(name, { createOption: 'Upload', uploadSizeBytes: SIZE_BYTES + 512 });
    expect(made.diskState).toBe('ReadyToUpload');
    const write = { access: 'Write', durationInSeconds: 600 };
    const { accessSAS = '' } = await sdk.disks.grantAccess(GROUP, name, write, PACE);
    expect((await sdk.disks.get(GROUP, name)).diskState).toBe('ActiveUpload');
    expect(await refusal(sdk.disks.delete(GROUP, name, PACE))).toEqual({ status: 409, code: 'OperationNotAllowed' });
    const vhd = sampleVhd(6);
    await open(accessSAS).uploadPages(vhd, 0, vhd.length);
    await sdk.disks.revokeAccess(GROUP, name, PACE);
    expect((await sdk.disks.get(GROUP, name)).diskState).toBe('Unattached');
    expect(await refusal(open(accessSAS).uploadPages(Buffer.alloc(512), 0, 512))).toMatchObject({ status: 404 });
    expect(await refusal(sdk.disks.grantAccess(GROUP, name, write, PACE))).toMatchObject({
      code: 'OperationNotAllowed',
    });
    expectBytes(await world.readDisk(name), vhd);
  });

  it('stay unfinished when the upload is no VHD, or has no whole size', async () => {
    const name = freshName('disk');
    await create(name, { createOption: 'Upload', uploadSizeBytes: SIZE_BYTES + 512 });
    await sdk.disks.grantAccess(GROUP, name, { access: 'Write', durationInSeconds: 600 }, PACE);
    await expect(sdk.disks.revokeAccess(GROUP, name, PACE)).rejects.toThrow('InvalidVhd');
    expect((await sdk.disks.get(GROUP, name)).diskState).toBe('ReadyToUpload');
    const odd = create(freshName('disk'), { createOption: 'Upload', uploadSizeBytes: SIZE_BYTES });
    expect(await refusal(odd)).toEqual({ status: 400, code: 'UnsupportedVhdVirtualSize' });
  });

  it('give a SAS that reads and does nothing else', async () => {
    const { name = '' } = await importDisk(7);
    const { accessSAS = '' } = await sdk.disks.grantAccess(
      GROUP,
      name,
      { access: 'Read', durationInSeconds: 60 },
      PACE,
    );
    expect(BlobSASPermissions.parse(new URL(accessSAS).searchParams.get('sp') ?? '').toString()).toBe('r');
    expectBytes(await open(accessSAS).downloadToBuffer(), sampleVhd(7));
    expect(await refusal(open(accessSAS).uploadPages(Buffer.alloc(512), 0, 512))).toMatchObject({ status: 403 });
    await sdk.disks.revokeAccess(GROUP, name, PACE);
    expect(await refusal(open(accessSAS).downloadToBuffer())).toMatchObject({ status: 404 });
  });

  it('change their tags, not their origin', async () => {
    const { name = '', creationData } = await importDisk(8);
    const updated = await sdk.disks.update(GROUP, name, { tags: { now: 'other' } }, PACE);
    expect(updated.tags).toEqual({ now: 'other' });
    const other = importOf(await world.putSource(sampleVhd(9)));
    expect(await refusal(create(name, other))).toEqual({ status: 409, code: 'PropertyChangeNotAllowed' });
    expect((await sdk.disks.get(GROUP, name)).creationData).toEqual(creationData);
  });

  it('are busy while an operation is in progress', async () => {
    const url = await world.putSource(sampleVhd(1));
    const name = freshName('disk');
    world.faults.add({ path: name, action: { kind: 'slow', polls: 1 } });
    const poller = sdk.disks.createOrUpdate(GROUP, name, { location: 'l', creationData: importOf(url) }, PACE);
    await poller.submitted();
    expect((await sdk.disks.get(GROUP, name)).provisioningState).toBe('Creating');
    expect(await refusal(sdk.disks.delete(GROUP, name, PACE))).toEqual({
      status: 409,
      code: 'AnotherOperationInProgress',
    });
    expect(await poller).toMatchObject({ provisioningState: 'Succeeded' });
    await sdk.disks.delete(GROUP, name, PACE);
    expect(await refusal(sdk.disks.get(GROUP, name))).toEqual({ status: 404, code: 'ResourceNotFound' });
    await sdk.disks.delete(GROUP, name, PACE);
  });

  it('are listed in pages, of a group and of the subscription', async () => {
    const names = [freshName('listed'), freshName('listed'), freshName('listed')];
    for (const name of names) await create(name, { createOption: 'Empty' }, { diskSizeGB: 1 });
    const listed: (string | undefined)[] = [];
    const pages: number[] = [];
    for await (const page of sdk.disks.listByResourceGroup(GROUP).byPage()) {
      pages.push(page.length);
      listed.push(...page.map(({ name }) => name));
    }
    expect(Math.max(...pages)).toBe(2);
    expect(listed.filter((name) => names.includes(name ?? ''))).toEqual(names.toSorted());
    const all: (string | undefined)[] = [];
    for await (const { name } of sdk.disks.list()) all.push(name);
    expect(all).toEqual(listed);
  });
});

describe('snapshots', () => {
  it('hold what the disk was, and make disks of their own', async () => {
    const { name = '', id = '' } = await importDisk(10);
    const snapshotName = freshName('snap');
    const from = (sourceResourceId: string) => ({ createOption: 'Copy', sourceResourceId });
    const snapshot = await sdk.snapshots.createOrUpdate(
      GROUP,
      snapshotName,
      { location: 'westeurope', creationData: from(id), incremental: true },
      PACE,
    );
    expect(snapshot).toMatchObject({ provisioningState: 'Succeeded', diskSizeBytes: SIZE_BYTES });
    const { name: copy = '' } = await create(freshName('disk'), from(snapshot.id ?? ''));
    await sdk.disks.delete(GROUP, name, PACE);
    const { accessSAS = '' } = await sdk.snapshots.grantAccess(
      GROUP,
      snapshotName,
      { access: 'Read', durationInSeconds: 60 },
      PACE,
    );
    expectBytes(await open(accessSAS).downloadToBuffer(), sampleVhd(10));
    await sdk.snapshots.revokeAccess(GROUP, snapshotName, PACE);
    await sdk.snapshots.delete(GROUP, snapshotName, PACE);
    expectBytes(await world.readDisk(copy), sampleVhd(10));
  });
});

describe('virtual machines', () => {
  const machine = (os: Disk, data: readonly Disk[] = []) => ({
    location: 'westeurope',
    hardwareProfile: { vmSize: 'Standard_D2s_v5' },
    storageProfile: {
      osDisk: { createOption: 'Attach', osType: 'Linux' as const, managedDisk: { id: os.id ?? '' } },
      dataDisks: data.map(({ id = '' }, lun) => ({ createOption: 'Attach', lun, managedDisk: { id } })),
    },
    networkProfile: { networkInterfaces: [{ id: NIC, primary: true }] },
  });

  it('attach disks, and let go of them', async () => {
    const [os, data] = [await importDisk(1), await importDisk(2)];
    const name = freshName('vm');
    const vm = await sdk.virtualMachines.createOrUpdate(GROUP, name, machine(os, [data]), PACE);
    expect(vm).toMatchObject({ name, provisioningState: 'Succeeded', storageProfile: { dataDisks: [{ lun: 0 }] } });
    for (const disk of [os, data]) {
      expect(await sdk.disks.get(GROUP, disk.name ?? '')).toMatchObject({ diskState: 'Attached', managedBy: vm.id });
    }
    expect(await refusal(sdk.disks.delete(GROUP, os.name ?? '', PACE))).toEqual({
      status: 409,
      code: 'OperationNotAllowed',
    });
    const read = { access: 'Read', durationInSeconds: 60 };
    expect(await refusal(sdk.disks.grantAccess(GROUP, os.name ?? '', read, PACE))).toMatchObject({ status: 409 });
    // Repeated without the data disk: that one is let go.
    await sdk.virtualMachines.createOrUpdate(GROUP, name, machine(os), PACE);
    expect((await sdk.disks.get(GROUP, data.name ?? '')).diskState).toBe('Unattached');
    await sdk.virtualMachines.delete(GROUP, name, PACE);
    const freed = await sdk.disks.get(GROUP, os.name ?? '');
    expect([freed.diskState, freed.managedBy]).toEqual(['Unattached', undefined]);
  });

  it('need disks that are there and free, LUNs that differ, and network interfaces by their ids', async () => {
    const [os, data] = [await importDisk(1), await importDisk(2)];
    const put = (body: ReturnType<typeof machine>) =>
      refusal(sdk.virtualMachines.createOrUpdate(GROUP, freshName('vm'), body, PACE));
    const good = machine(os, [data]);
    const twice = {
      ...good,
      storageProfile: {
        ...good.storageProfile,
        dataDisks: [...good.storageProfile.dataDisks, ...good.storageProfile.dataDisks],
      },
    };
    const noInterface = { ...good, networkProfile: { networkInterfaces: [{ id: 'n0', primary: true }] } };
    expect(
      await put(machine({ location: 'l', id: `${os.id ?? ''}x`, creationData: { createOption: 'Empty' } })),
    ).toEqual({
      status: 404,
      code: 'ResourceNotFound',
    });
    expect(await put(twice)).toEqual({ status: 400, code: 'InvalidParameter' });
    expect(await put(machine(os, [os]))).toEqual({ status: 400, code: 'InvalidParameter' });
    expect(await put(noInterface)).toEqual({ status: 400, code: 'LinkedInvalidPropertyId' });
    await sdk.virtualMachines.createOrUpdate(GROUP, freshName('vm'), good, PACE);
    expect(await put(machine(data))).toEqual({ status: 409, code: 'ConflictingUserInput' });
  });
});

describe('a restart of the emulator', () => {
  it('forgets nothing, and keeps its certificate', async () => {
    const { name = '' } = await importDisk(3);
    const { ca } = world.options;
    const before = await sdk.disks.get(GROUP, name);
    await world.restart();
    expect(world.options.ca).toBe(ca);
    expect(await sdk.disks.get(GROUP, name)).toEqual(before);
    expectBytes(await world.readDisk(name), sampleVhd(3));
  });
});
