/** The one shared access signature that there is, that of an upload disk: on no way that an upload fails is it told to anybody. */
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { accessSeconds, writePages } from '../../src/azure/arm-upload.ts';
import { reportError } from '../../src/cli/report.ts';
import { TidemarkError } from '../../src/errors.ts';
import { diskSpec, journal, sampleVhd, uploadSource } from '../contracts/compute.contract.ts';
import { live } from '../contracts/support.ts';
import { useArm } from './arm-support.ts';
import { type Fault, FaultyProxy } from './faulty-proxy.ts';

const SECRET = 'dG9wc2VjcmV0';
const QUERY = `sv=2024-11-04&sr=b&sp=w&se=2030-01-01T00%3A00%3A00Z&sig=${SECRET}%3D`;

/** Everything that a person, a log or a debugger would see of the error. */
function textOf(error: unknown): string {
  const written: string[] = [];
  const stderr = { write: (text: string) => void written.push(text) };
  reportError(error, { stderr, env: { TIDEMARK_DEBUG: '1' }, signal: live });
  const details = error instanceof TidemarkError ? JSON.stringify(error.details) : '';
  return [...written, details, inspect(error, { depth: 20, showHidden: true })].join('\n');
}

/** @returns the code of the error */
async function failureOf(upload: Promise<unknown>): Promise<string> {
  const error = await upload.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  const text = textOf(error);
  expect(text).not.toContain(SECRET);
  expect(text).not.toMatch(/\bsig=[^…]/);
  expect(text).not.toMatch(/\bse=2030/);
  return error instanceof TidemarkError ? error.code : String(error);
}

describe('storage that an upload goes to', () => {
  let proxy: FaultyProxy;
  beforeAll(async () => {
    proxy = await FaultyProxy.start(1);
  });
  afterEach(() => proxy.reset());
  afterAll(() => proxy.close());

  const sas = (port = proxy.port): string => `http://127.0.0.1:${port}/account/container/disk.vhd?${QUERY}`;
  const upload = (url = sas(), signal = live): Promise<void> =>
    writePages(diskSpec(), url, uploadSource(sampleVhd(1)), signal);
  const answer = (status: number, code: string): Fault => ({
    status,
    headers: { 'x-ms-error-code': code, 'content-type': 'application/xml' },
    body: `<?xml version="1.0"?><Error><Code>${code}</Code><Message>Signature of ${sas()} did not match</Message></Error>`,
  });

  it.each([
    [403, 'AuthenticationFailed', 'COMPUTE_UNAVAILABLE'],
    [404, 'BlobNotFound', 'COMPUTE_REFUSED'],
    [409, 'InvalidBlobType', 'COMPUTE_UNAVAILABLE'],
    [412, 'LeaseIdMissing', 'COMPUTE_UNAVAILABLE'],
    [400, 'InvalidHeaderValue', 'ASSERTION'],
    [500, 'InternalError', 'COMPUTE_UNAVAILABLE'],
  ])('may answer %i %s', async (status, code, wanted) => {
    proxy.rule = () => answer(status, code);
    expect(await failureOf(upload())).toBe(wanted);
  });

  it.each(['lose-request', 'lose-answer'] as const)('may break the connection: %s', async (fault) => {
    proxy.rule = () => fault;
    expect(await failureOf(upload())).toBe('COMPUTE_UNAVAILABLE');
  });

  it('may hang until the caller gives up', async () => {
    const stop = new AbortController();
    proxy.rule = () => 'hang';
    proxy.onHang = () => stop.abort(new TidemarkError('INTERRUPTED', 'asked to stop'));
    expect(await failureOf(upload(sas(), stop.signal))).toBe('INTERRUPTED');
  });

  it('may not be there', async () => {
    expect(await failureOf(upload(sas(1)))).toBe('COMPUTE_UNAVAILABLE');
  });

  it.each([
    `no URL at all?${QUERY}`,
    `https://host.example.com?${QUERY}`,
    `https://%/c/b?${QUERY}`,
    `ftp://h/c/b?${QUERY}`,
  ])('may be named by nonsense: %s', async (url) => {
    expect(await failureOf(upload(url))).toMatch(/^(?:COMPUTE_UNAVAILABLE|CONNECTION_INVALID)$/);
  });
});

describe('the access', () => {
  it('is as short as the data allows', () => {
    const TIB = 2 ** 40;
    expect(accessSeconds([])).toBe(3600);
    expect(accessSeconds([{ offsetBytes: 0, lengthBytes: 512 }])).toBe(3601);
    const whole = [0, 4].map((at) => ({ offsetBytes: at * TIB, lengthBytes: 4 * TIB }));
    // The largest disk: below the 60 days that Azure allows.
    expect(accessSeconds(whole)).toBe(3600 + 524_288);
  });
});

describe('Azure Compute', () => {
  const arm = useArm();

  it.each([
    ['the access is refused', 'beginGetAccess', { kind: 'refuse', status: 403, code: 'AuthorizationFailed' }],
    ['the access fails', 'beginGetAccess', { kind: 'fail', code: 'Oops', message: `see https://h/c/b?${QUERY}` }],
    ['the end of the access fails', 'endGetAccess', { kind: 'fail', code: 'InvalidVhd', message: `in sig=${SECRET}` }],
    ['the end of the access is refused', 'endGetAccess', { kind: 'refuse', status: 409, code: 'Busy' }],
  ] as const)('may end an upload because %s', async (_why, path, action) => {
    arm().faults.add({ path, action });
    const uploading = arm()
      .compute()
      .uploadDisk(diskSpec(), uploadSource(sampleVhd(1)), journal(), live);
    expect(await failureOf(uploading)).toBe('COMPUTE_REFUSED');
  });

  it('may end an import, and quote what it read from', async () => {
    const world = arm();
    const spec = diskSpec();
    const message = `cannot read https://h/c/b?${QUERY}`;
    world.faults.add({ path: spec.name, action: { kind: 'fail', code: 'Oops', message } });
    const url = await world.putSource(sampleVhd(1));
    expect(await failureOf(world.compute().importDisk(spec, url, journal(), live))).toBe('COMPUTE_REFUSED');
  });

  it('gives an access whose SAS is not in the journal', async () => {
    const notes = journal();
    const spec = diskSpec();
    await arm()
      .compute()
      .uploadDisk(spec, uploadSource(sampleVhd(1)), notes, live);
    expect(notes.tokens.length).toBeGreaterThan(0);
    expect(notes.tokens.join('\n')).not.toMatch(/sig=/);
  });
});
