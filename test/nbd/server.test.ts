/** The server over real sockets, against a raw client. */
import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { TidemarkError } from '../../src/errors.ts';
import type { NbdExport } from '../../src/nbd/export.ts';
import { NBD_LIMITS, type NbdLimits, type NbdServer, startNbdServer } from '../../src/nbd/server.ts';
import { expectBytes, expectCode, pattern } from '../contracts/support.ts';
import { infoPayload, metaPayload, NbdClient, optionBytes, requestBytes, text, uints } from '../support/nbd-client.ts';

const MIB = 1024 * 1024;
const SIZE = 40 * MIB;
const REFUSED = 2 ** 31;

/** Hexadecimal digits, written field by field. */
const fields = (text: string): string => text.replaceAll(' ', '');

const servers: NbdServer[] = [];
const clients: NbdClient[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

/** Data, a hole from 1 MiB to 8 MiB, data. */
function diskOf(image: Buffer): NbdExport {
  return {
    sizeBytes: image.length,
    read: async (offset, length) => Buffer.from(image.subarray(offset, offset + length)),
    *ranges(offsetBytes, lengthBytes) {
      const end = offsetBytes + lengthBytes;
      for (const [from, to, kind] of [
        [0, MIB, 'data'],
        [MIB, 8 * MIB, 'hole'],
        [8 * MIB, image.length, 'data'],
      ] as const) {
        const start = Math.max(from, offsetBytes);
        const stop = Math.min(to, end);
        if (start < stop) yield { offsetBytes: start, lengthBytes: stop - start, kind };
      }
    },
  };
}

const IMAGE = pattern(7, SIZE).fill(0, MIB, 8 * MIB);
const newImage = (): Buffer => Buffer.from(IMAGE);

function writableDisk(image: Buffer): NbdExport & { readonly flushes: () => number } {
  let flushes = 0;
  return {
    ...diskOf(image),
    *ranges(offsetBytes, lengthBytes) {
      yield { offsetBytes, lengthBytes, kind: 'data' };
    },
    flushes: () => flushes,
    write: {
      write: async (offset, data) => void data.copy(image, offset),
      zero: async (offset, length) => void image.fill(0, offset, offset + length),
      trim: async (offset, length) => void image.fill(0, offset, offset + length),
      flush: async () => void flushes++,
    },
  };
}

async function serve(
  disk: NbdExport,
  limits: Partial<NbdLimits> = {},
  onFailure?: (error: unknown) => void,
): Promise<NbdServer> {
  const server = await startNbdServer({
    exportName: 'shop.point.disk0',
    disk,
    host: '127.0.0.1',
    port: 0,
    limits,
    ...(onFailure !== undefined && { onFailure }),
  });
  servers.push(server);
  return server;
}

function clientOf(server: NbdServer): NbdClient {
  const client = new NbdClient(server.port);
  clients.push(client);
  return client;
}

/** Waits for a state of the server that comes with the end of a connection. */
async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setImmediate(resolve));
}

describe('handshake', () => {
  it('greets, and describes the export by its name and by none', async () => {
    const server = await serve(diskOf(newImage()));
    for (const name of ['shop.point.disk0', '']) {
      const client = clientOf(server);
      const greeting = await client.greet();
      expect(greeting.toString('latin1', 0, 16)).toBe('NBDMAGICIHAVEOPT');
      expect(greeting.readUInt16BE(16)).toBe(3);
      const replies = await client.negotiate(6, infoPayload(name, 3));
      expect(replies.map(({ type }) => type)).toEqual([3, 3, 1]);
      expect(replies[0]?.data).toEqual(uints([2, 0], [8, SIZE], [2, 0b101_0000_0011]));
      expect(replies[1]?.data).toEqual(uints([2, 3], [4, 1], [4, 4096], [4, 32 * MIB]));
    }
  });

  it('lists its export, and goes on after what it does not know', async () => {
    const client = clientOf(await serve(diskOf(newImage())));
    await client.greet();
    expect((await client.negotiate(3)).map(({ data }) => data.toString('latin1', 4))).toEqual(['shop.point.disk0', '']);
    expect((await client.negotiate(3, Buffer.from('x'))).map(({ type }) => type)).toEqual([REFUSED + 3]);
    expect((await client.negotiate(5)).map(({ type }) => type)).toEqual([REFUSED + 2]);
    expect((await client.negotiate(11)).map(({ type }) => type)).toEqual([REFUSED + 1]);
    expect((await client.negotiate(7, infoPayload('other'))).map(({ type }) => type)).toEqual([REFUSED + 6]);
    expect((await client.negotiate(7, Buffer.from('?'))).map(({ type }) => type)).toEqual([REFUSED + 3]);
    expect((await client.negotiate(8, Buffer.from('?'))).map(({ type }) => type)).toEqual([REFUSED + 3]);
    expect((await client.negotiate(7, infoPayload(''))).at(-1)?.type).toBe(1);
    expect(await client.simple({ command: 0, offset: 0, length: 512 })).toBe(0);
  });

  it('offers one metadata context, after structured replies only', async () => {
    const client = clientOf(await serve(diskOf(newImage())));
    await client.greet();
    const types = async (option: number, ...args: Parameters<typeof metaPayload>) =>
      (await client.negotiate(option, metaPayload(...args))).map(({ type, data }) =>
        type === 4 ? `${data.readUInt32BE(0)} ${data.toString('latin1', 4)}` : type,
      );
    expect(await types(10, '', 'base:allocation')).toEqual([REFUSED + 3]);
    await client.negotiate(8);
    expect(await types(9, '')).toEqual(['0 base:allocation', 1]);
    expect(await types(9, '', 'base:')).toEqual(['0 base:allocation', 1]);
    expect(await types(9, '', 'qemu:dirty-bitmap')).toEqual([1]);
    expect(await types(10, '', 'base:')).toEqual([1]);
    expect(await types(10, 'other', 'base:allocation')).toEqual([REFUSED + 6]);
    expect(await types(10, '', 'x:y', 'base:allocation')).toEqual(['1 base:allocation', 1]);
    // Selecting again, nothing this time, takes the first selection back.
    expect(await types(10, '')).toEqual([1]);
    await client.negotiate(7, infoPayload(''));
    const [chunk] = await client.chunks({ command: 7, offset: 0, length: 512 });
    expect(chunk?.payload.readUInt32BE(0)).toBe(22);
  });

  it.each([
    [3, 10],
    [1, 134],
  ])('knows the oldest way to choose (client flags %i)', async (flags, bytes) => {
    const client = clientOf(await serve(diskOf(newImage())));
    await client.greet(flags);
    client.send(optionBytes(1, Buffer.from('shop.point.disk0')));
    const reply = await client.take(bytes);
    expect(reply.subarray(0, 10)).toEqual(uints([8, SIZE], [2, 0b101_0000_0011]));
    expect(reply.subarray(10).every((byte) => byte === 0)).toBe(true);
    expect(await client.simple({ command: 0, offset: 0, length: 512 })).toBe(0);
  });

  it('ends after an abort, with an acknowledgement', async () => {
    const client = clientOf(await serve(diskOf(newImage())));
    await client.greet();
    expect((await client.negotiate(2)).map(({ type }) => type)).toEqual([1]);
    expect(await client.rest()).toHaveLength(0);
  });

  it.each([
    ['foreign flags', (client: NbdClient) => client.greet(0xff), ''],
    [
      'bytes that are no option',
      async (client: NbdClient) => {
        await client.greet();
        client.send(Buffer.alloc(64, 'x'));
      },
      '',
    ],
    [
      'an unknown export, named the oldest way',
      async (client: NbdClient) => {
        await client.greet();
        client.send(optionBytes(1, Buffer.from('other')));
      },
      '',
    ],
    [
      'a name that is too long, the oldest way',
      async (client: NbdClient) => {
        await client.greet();
        client.send(optionBytes(1, Buffer.alloc(0), 2 ** 32 - 1));
      },
      '',
    ],
    [
      'an option of four gigabytes',
      async (client: NbdClient) => {
        await client.greet();
        client.send(optionBytes(7, Buffer.alloc(100_000), 2 ** 32 - 1));
      },
      fields('0003e889045565a9 00000007 80000009 00000000'),
    ],
  ])('ends at %s', async (_what, act, lastWords) => {
    const server = await serve(diskOf(newImage()));
    const client = clientOf(server);
    await act(client);
    expect((await client.rest()).toString('hex')).toBe(lastWords);
    await client.close();
    await until(() => server.connections === 0);
  });

  it('ends after 64 options', async () => {
    const client = clientOf(await serve(diskOf(newImage())));
    await client.greet();
    for (let count = 0; count < 64; count++) await client.negotiate(99);
    expect(await client.rest()).toHaveLength(0);
  });

  it('does not wait for a client that says nothing', async () => {
    const server = await serve(diskOf(newImage()), { handshakeTimeoutMs: 50 });
    const client = clientOf(server);
    expect((await client.rest()).length).toBe(18);
    await until(() => server.connections === 0);
  });
});

describe('reading', () => {
  it('gives exactly the bytes, with and without structure, holes as holes', async () => {
    const image = newImage();
    const server = await serve(diskOf(image));
    const structured = clientOf(server);
    expect(await structured.open()).toEqual({ size: BigInt(SIZE), flags: 0b101_1000_0011 });
    const plain = clientOf(server);
    await plain.open({ structured: false });
    for (const [offset, length] of [
      [0, 1],
      [511, 4098],
      [MIB - 10, 7 * MIB + 20],
      [SIZE - 32 * MIB, 32 * MIB],
      [2 * MIB, 4096],
    ] as const) {
      const expected = image.subarray(offset, offset + length);
      expectBytes(await structured.read(offset, length), expected);
      expectBytes(await structured.read(offset, length, 4), expected);
      expect(await plain.simple({ command: 0, offset, length })).toBe(0);
      expectBytes(await plain.take(length), expected);
    }
    const types = async (offset: number, length: number, flags = 0) =>
      (await structured.chunks({ command: 0, offset, length, flags })).map(({ type }) => type);
    expect(await types(MIB - 512, 7 * MIB + 1024)).toEqual([1, 2, 1]);
    expect(await types(2 * MIB, 4096)).toEqual([2]);
    expect(await types(2 * MIB, 512)).toEqual([1]);
    expect(await types(MIB - 512, 7 * MIB + 1024, 4)).toEqual([1]);
  });

  it('tells what is allocated', async () => {
    const client = clientOf(await serve(diskOf(newImage())));
    await client.open();
    expect(await client.status(0, SIZE)).toEqual([
      [MIB, 0],
      [7 * MIB, 3],
      [32 * MIB, 0],
    ]);
    expect(await client.status(512, SIZE - 512, 8)).toEqual([[MIB - 512, 0]]);
    expect(await client.status(2 * MIB, 100)).toEqual([[100, 3]]);
  });

  it('answers many requests as they end, and each with its cookie', async () => {
    const image = newImage();
    const gates = new Map<number, PromiseWithResolvers<void>>();
    const disk = diskOf(image);
    const server = await serve({
      ...disk,
      read: async (offset, length, signal) => {
        const gate = Promise.withResolvers<void>();
        gates.set(offset, gate);
        await gate.promise;
        return disk.read(offset, length, signal);
      },
    });
    const client = clientOf(server);
    await client.open({ structured: false });
    for (const index of [0, 1, 2]) {
      client.send(requestBytes({ command: 0, cookie: BigInt(index), offset: index * 512, length: 512 }));
    }
    await until(() => gates.size === 3);
    for (const index of [2, 0, 1]) {
      gates.get(index * 512)?.resolve();
      expect(await client.reply()).toEqual({ kind: 'simple', error: 0, cookie: BigInt(index) });
      expectBytes(await client.take(512), image.subarray(index * 512, (index + 1) * 512));
    }
  });

  it('refuses what is outside or forbidden, and goes on', async () => {
    const client = clientOf(await serve(diskOf(newImage())));
    await client.open();
    await expect(client.read(SIZE - 1, 2)).rejects.toThrow('error 22');
    await expect(client.read(0, 32 * MIB + 1)).rejects.toThrow('error 22');
    const [beyond] = await client.chunks({ command: 0, offset: 2n ** 64n - 1n, length: 512 });
    expect(beyond?.payload.readUInt32BE(0)).toBe(22);
    expect(await client.simple({ command: 1, length: 512, payload: Buffer.alloc(512) })).toBe(1);
    expect(await client.simple({ command: 4, length: 512 })).toBe(1);
    expect(await client.simple({ command: 6, length: 512 })).toBe(1);
    expect(await client.simple({ command: 3 })).toBe(22);
    expect(await client.simple({ command: 77 })).toBe(22);
    expect(await client.simple({ command: 5, offset: 0, length: SIZE })).toBe(0);
    expect(await client.read(0, 512)).toHaveLength(512);
  });

  it('gives an error number for what the disk throws, tells the owner, and goes on', async () => {
    const failures: unknown[] = [];
    const thrown = [
      new TidemarkError('STORAGE_UNAVAILABLE', 'away'),
      Object.assign(new Error('full'), { code: 'ENOSPC' }),
      new TidemarkError('SCRATCH_UNUSABLE', 'full', { cause: Object.assign(new Error('full'), { code: 'ENOSPC' }) }),
    ];
    const queue = [...thrown];
    const disk = diskOf(newImage());
    const server = await serve(
      {
        ...disk,
        read: async (...args) => {
          const error = queue.shift();
          if (error !== undefined) throw error;
          return disk.read(...args);
        },
      },
      {},
      (error) => failures.push(error),
    );
    const client = clientOf(server);
    await client.open();
    await expect(client.read(0, 512)).rejects.toThrow('error 5');
    await expect(client.read(0, 512)).rejects.toThrow('error 28');
    await expect(client.read(0, 512)).rejects.toThrow('error 28');
    expect(await client.read(0, 512)).toHaveLength(512);
    expect(failures).toEqual(thrown);
    expect(server.bytesInFlight).toBe(0);
  });
});

describe('writing', () => {
  it('changes exactly the bytes, and all connections see it', async () => {
    const image = newImage();
    const expected = Buffer.from(image);
    const disk = writableDisk(image);
    const server = await serve(disk);
    const [one, two] = [clientOf(server), clientOf(server)];
    expect(await one.open()).toEqual({ size: BigInt(SIZE), flags: 0b101_1110_1101 });
    await two.open();
    for (const [offset, length] of [
      [0, 512],
      [12_345, 7],
      [SIZE - 32 * MIB, 32 * MIB],
    ] as const) {
      const payload = pattern(offset + 1, length);
      payload.copy(expected, offset);
      expect(await one.simple({ command: 1, offset, length, payload })).toBe(0);
      expectBytes(await two.read(offset, length), payload);
    }
    expect(await two.simple({ command: 6, offset: 100, length: 50, flags: 2 })).toBe(0);
    expect(await two.simple({ command: 4, offset: 200, length: 50 })).toBe(0);
    expected.fill(0, 100, 150).fill(0, 200, 250);
    expectBytes(image, expected);
    expect(disk.flushes()).toBe(0);
    expect(await one.simple({ command: 3 })).toBe(0);
    expect(await one.simple({ command: 1, flags: 1, length: 1, payload: Buffer.alloc(1) })).toBe(0);
    expect(await one.simple({ command: 4, flags: 1, length: 1 })).toBe(0);
    expect(await one.simple({ command: 6, flags: 1, length: 1 })).toBe(0);
    expect(disk.flushes()).toBe(4);
  });

  it('reads over the data of a refused write, but ends at one that is too large', async () => {
    const image = newImage();
    const before = Buffer.from(image);
    const client = clientOf(await serve(writableDisk(image)));
    await client.open();
    const payload = Buffer.alloc(3 * MIB, 0xaa);
    expect(await client.simple({ command: 1, offset: SIZE - 5, length: payload.length, payload })).toBe(28);
    expect(await client.simple({ command: 1, flags: 0x8000, length: payload.length, payload })).toBe(22);
    expect(await client.read(0, 512)).toHaveLength(512);
    expect(await client.simple({ command: 1, length: 32 * MIB + 1, payload: Buffer.alloc(1000) })).toBe(22);
    expect(await client.rest()).toHaveLength(0);
    expectBytes(image, before);
  });

  it('does not wait for data that does not come', async () => {
    const server = await serve(writableDisk(newImage()), { payloadTimeoutMs: 50 });
    const client = clientOf(server);
    await client.open();
    client.send(requestBytes({ command: 1, length: 32 * MIB, payload: Buffer.alloc(1000) }));
    expect(await client.rest()).toHaveLength(0);
    await until(() => server.connections === 0);
    expect(server.bytesInFlight).toBe(0);
  });

  it('answers everything before it leaves', async () => {
    const image = newImage();
    const client = clientOf(await serve(writableDisk(image)));
    await client.open();
    const payload = pattern(3, MIB);
    client.send(requestBytes({ command: 1, cookie: 9n, length: MIB, payload }), requestBytes({ command: 2 }));
    client.socket.end();
    expect(await client.reply()).toEqual({ kind: 'simple', error: 0, cookie: 9n });
    expect(await client.rest()).toHaveLength(0);
    expectBytes(image.subarray(0, MIB), payload);
  });
});

describe('limits', () => {
  /** A disk whose reads wait until they are let go, and end when their signal aborts. */
  function waitingDisk() {
    const state = { begun: 0, open: 0, most: 0, aborted: 0 };
    const go = Promise.withResolvers<void>();
    const disk: NbdExport = {
      ...diskOf(newImage()),
      read: async (_offset, length, signal) => {
        state.begun++;
        state.most = Math.max(state.most, ++state.open);
        const stopped = new Promise<never>((_resolve, reject) =>
          signal.addEventListener('abort', () => {
            state.aborted++;
            reject(signal.reason as Error);
          }),
        );
        await Promise.race([go.promise, stopped]).finally(() => state.open--);
        return Buffer.alloc(length);
      },
    };
    return { state, go, disk };
  }

  it('holds requests back beyond the number per connection', async () => {
    const { state, go, disk } = waitingDisk();
    const client = clientOf(await serve(disk, { requestsInFlight: 3 }));
    await client.open({ structured: false });
    for (let index = 0; index < 10; index++) client.send(requestBytes({ command: 0, offset: 0, length: 512 }));
    await until(() => state.begun === 3);
    go.resolve();
    for (let index = 0; index < 10; index++) {
      await client.reply();
      await client.take(512);
    }
    expect(state).toMatchObject({ begun: 10, most: 3 });
  });

  it('holds requests back beyond the bytes of all connections', async () => {
    const { state, go, disk } = waitingDisk();
    const server = await serve(disk, { bytesInFlight: 64 * MIB });
    const all = [clientOf(server), clientOf(server), clientOf(server)];
    for (const client of all) {
      await client.open({ structured: false });
      client.send(requestBytes({ command: 0, offset: 0, length: 32 * MIB }));
    }
    await until(() => state.begun === 2);
    expect(server.bytesInFlight).toBe(64 * MIB);
    go.resolve();
    for (const client of all) {
      await client.reply();
      await client.take(32 * MIB);
    }
    await until(() => server.bytesInFlight === 0);
    expect(state.most).toBe(2);
  });

  it('closes connections beyond their number at once', async () => {
    const server = await serve(diskOf(newImage()), { connections: 1 });
    const first = clientOf(server);
    await first.open();
    expect(await clientOf(server).rest()).toHaveLength(0);
    expect(await first.read(0, 512)).toHaveLength(512);
  });

  it('ends a client that takes nothing of its replies', async () => {
    const server = await serve(diskOf(newImage()), { stallMs: 100 });
    const socket = connect({ port: server.port, host: '127.0.0.1' });
    socket.on('error', () => undefined);
    socket.pause();
    socket.write(Buffer.concat([uints([4, 3]), optionBytes(7, infoPayload(''))]));
    for (let index = 0; index < 16; index++)
      socket.write(requestBytes({ command: 0, offset: 8 * MIB, length: 32 * MIB }));
    await until(() => server.bytesInFlight > 0);
    await until(() => server.connections === 0);
    expect(server.bytesInFlight).toBe(0);
    socket.destroy();
  });

  it('gives up the requests of a client that is gone', async () => {
    const { state, disk } = waitingDisk();
    const server = await serve(disk);
    const client = clientOf(server);
    await client.open();
    for (let index = 0; index < 5; index++) client.send(requestBytes({ command: 0, offset: 0, length: MIB }));
    await until(() => state.begun === 5);
    client.socket.resetAndDestroy();
    await until(() => server.connections === 0);
    expect(state).toMatchObject({ open: 0, aborted: 5 });
    expect(server.bytesInFlight).toBe(0);
  });

  it('closes within a second whatever is under way', async () => {
    const { state, disk } = waitingDisk();
    const server = await serve(disk);
    const clients = [clientOf(server), clientOf(server), clientOf(server)];
    const [busy, idle, silent] = clients;
    await busy?.open();
    await idle?.open();
    for (let index = 0; index < 5; index++) busy?.send(requestBytes({ command: 0, offset: 0, length: MIB }));
    await until(() => state.begun === 5);
    const startedAt = performance.now();
    await server.close();
    expect(performance.now() - startedAt).toBeLessThan(1000);
    await Promise.all([busy?.rest(), idle?.rest(), silent?.rest()]);
    expect({ ...state, connections: server.connections }).toMatchObject({ open: 0, connections: 0 });
    const again = await startNbdServer({ exportName: 'x', disk, host: '127.0.0.1', port: server.port });
    servers.push(again);
  });

  it('says so when the port is taken', async () => {
    const server = await serve(diskOf(newImage()));
    const options = { exportName: 'x', disk: diskOf(newImage()), host: '127.0.0.1', port: server.port };
    await expectCode(startNbdServer(options), 'SERVE_PORT_TAKEN');
    await expectCode(startNbdServer({ ...options, host: '192.0.2.1' }), 'SERVE_PORT_TAKEN');
  });

  it('has room for the largest request, whatever the limit says', async () => {
    expect(NBD_LIMITS.bytesInFlight).toBeGreaterThanOrEqual(32 * MIB);
    const client = clientOf(await serve(diskOf(newImage()), { bytesInFlight: 1 }));
    await client.open();
    expect(await client.read(8 * MIB, 32 * MIB)).toHaveLength(32 * MIB);
  });
});

describe('hostile clients', () => {
  const SEED = Number(process.env['NBD_SEED'] ?? 20_261_125);
  const ROUNDS = 150;

  /** Numbers below `below`, from one seed. */
  function randomOf(seed: number): (below: number) => number {
    let state = seed >>> 0;
    return (below) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
  }

  /** What a good client says, with bytes changed, left out or put in. */
  function mangled(random: (below: number) => number): Buffer {
    const good = Buffer.concat([
      uints([4, 3]),
      optionBytes(8),
      optionBytes(10, metaPayload('', 'base:allocation')),
      optionBytes(3),
      optionBytes(7, infoPayload('', 3)),
      requestBytes({ command: 0, offset: 0, length: 4096 }),
      requestBytes({ command: 1, offset: 512, length: 512, payload: pattern(random(1000), 512) }),
      requestBytes({ command: 7, offset: 0, length: SIZE }),
      requestBytes({ command: 6, offset: 0, length: 1024 }),
      requestBytes({ command: 2 }),
    ]);
    const bytes = Buffer.from(good);
    for (let changes = random(4); changes >= 0; changes--) bytes[random(bytes.length)] = random(256);
    const from = random(bytes.length);
    switch (random(4)) {
      case 0:
        return pattern(random(2 ** 31), random(2000));
      case 1:
        return bytes.subarray(0, from);
      case 2:
        return Buffer.concat([bytes.subarray(0, from), text('x'.repeat(random(50))), bytes.subarray(from)]);
      default:
        return bytes;
    }
  }

  it(`leave nothing behind, and the next client is served (seed ${SEED})`, async () => {
    const random = randomOf(SEED);
    const failures: unknown[] = [];
    const disk = writableDisk(newImage());
    const server = await serve(disk, { payloadTimeoutMs: 5000 }, (error) => failures.push(error));
    for (let round = 0; round < ROUNDS; round++) {
      const client = clientOf(server);
      client.send(mangled(random));
      client.socket.end();
      await client.rest();
      await client.close();
    }
    await until(() => server.connections === 0);
    expect(server.bytesInFlight).toBe(0);
    expect(failures).toEqual([]);
    const client = clientOf(server);
    expect((await client.open()).size).toBe(BigInt(SIZE));
    expect(await client.read(0, 4096)).toHaveLength(4096);
  });
});
