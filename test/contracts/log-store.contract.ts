import { beforeAll, describe, expect, it } from 'vitest';
import type { LogStore, LogUpload } from '../../src/drain/log-store.ts';
import type { LogStream } from '../../src/model/names.ts';
import { MIB } from '../../src/model/sizes.ts';
import { expectAborts, expectBytes, expectCode, freshName, live, pattern } from './support.ts';

export interface LogStorePorts {
  readonly store: LogStore;
  readonly upload: LogUpload;
}

/** What LogStore and LogUpload promise, run on every adapter. */
export function logStoreContract(name: string, make: () => Promise<LogStorePorts>): void {
  describe(`${name}: log store`, () => {
    let store: LogStore;
    let upload: LogUpload;
    let stream: LogStream;
    beforeAll(async () => {
      ({ store, upload } = await make());
    });
    const newStream = (): LogStream => ({ group: freshName('g'), machine: 'm', disk: 'd', epoch: 1 });
    const put = async (stream: LogStream, sequence: number, bytes: Buffer): Promise<string> =>
      (await upload.stage(stream, sequence, bytes, live)).commit(live);
    const sequences = async (from: number, limit = 100): Promise<number[]> =>
      (await store.list(stream, from, limit, live)).map((ref) => ref.sequence);

    it('is empty at first', async () => {
      stream = newStream();
      expect(await store.list(stream, 1, 10, live)).toEqual([]);
      expect(await store.read(stream, 1, 100, live)).toBeUndefined();
      expect(await store.readHead(stream, 1, 100, live)).toBeUndefined();
      expect(await upload.lastSequence(stream, live)).toBe(0);
    });

    it('shows a segment only when it is committed, then at once and whole', async () => {
      stream = newStream();
      const bytes = pattern(1, 9 * MIB + 17); // three blocks on Azure
      const staged = await upload.stage(stream, 1, bytes, live);
      expect(await store.list(stream, 1, 10, live)).toEqual([]);
      expect(await store.read(stream, 1, bytes.length, live)).toBeUndefined();
      expect(await store.readHead(stream, 1, 8, live)).toBeUndefined();
      expect(await upload.lastSequence(stream, live)).toBe(0);
      expect(await staged.commit(live)).toBe('committed');
      expect(await store.list(stream, 1, 10, live)).toEqual([{ sequence: 1, sizeBytes: bytes.length }]);
      expectBytes(await store.read(stream, 1, bytes.length, live), bytes);
      expect(await upload.lastSequence(stream, live)).toBe(1);
    });

    it('stages many at once and makes them visible in the order of commits', async () => {
      stream = newStream();
      const staged = await Promise.all([1, 2, 3].map((n) => upload.stage(stream, n, pattern(n, 1000 * n), live)));
      for (const [index, segment] of staged.entries()) {
        expect(await segment.commit(live)).toBe('committed');
        expect(await sequences(1)).toEqual([1, 2, 3].slice(0, index + 1));
      }
      for (const n of [1, 2, 3]) expectBytes(await store.read(stream, n, 5000, live), pattern(n, 1000 * n));
    });

    it('never changes a segment that is visible', async () => {
      stream = newStream();
      const first = await upload.stage(stream, 1, pattern(1, 700), live);
      const second = await upload.stage(stream, 1, pattern(2, 900), live);
      expect(await first.commit(live)).toBe('committed');
      expect(await second.commit(live)).toBe('exists');
      expect(await put(stream, 1, pattern(3, 700))).toBe('exists');
      expect(await first.commit(live)).toBe('exists');
      expectBytes(await store.read(stream, 1, 1000, live), pattern(1, 700));
    });

    it('lets exactly one of several racing commits win', async () => {
      stream = newStream();
      const staged = await Promise.all([1, 2, 3, 4].map((seed) => upload.stage(stream, 1, pattern(seed, 600), live)));
      const results = await Promise.all(staged.map((segment) => segment.commit(live)));
      expect(results.toSorted()).toEqual(['committed', 'exists', 'exists', 'exists']);
      expectBytes(await store.read(stream, 1, 600, live), pattern(results.indexOf('committed') + 1, 600));
    });

    it('lists from a sequence on, ascending, at most the limit, with sizes', async () => {
      stream = newStream();
      for (const n of [3, 1, 2, 5, 4]) await put(stream, n, pattern(n, n * 10));
      expect(await sequences(1)).toEqual([1, 2, 3, 4, 5]);
      expect(await sequences(3)).toEqual([3, 4, 5]);
      expect(await sequences(2, 2)).toEqual([2, 3]);
      expect(await sequences(6)).toEqual([]);
      expect(await store.list(stream, 5, 1, live)).toEqual([{ sequence: 5, sizeBytes: 50 }]);
    });

    it('lists across the edges of a block of 1,000, and sees a hole there', async () => {
      stream = newStream();
      for (const n of [998, 999, 1000, 1001]) await put(stream, n, pattern(n, 8));
      expect(await sequences(1)).toEqual([998, 999, 1000, 1001]);
      expect(await sequences(998)).toEqual([998, 999, 1000, 1001]);
      expect(await sequences(999)).toEqual([999, 1000, 1001]);
      expect(await sequences(999, 2)).toEqual([999, 1000]);
      expect(await sequences(1000)).toEqual([1000, 1001]);
      expect(await sequences(1001)).toEqual([1001]);
      await store.delete(stream, 999, live);
      expect(await sequences(999)).toEqual([1000, 1001]);
      await store.delete(stream, 998, live);
      expect(await sequences(500)).toEqual([1000, 1001]);
      expect(await upload.lastSequence(stream, live)).toBe(1001);
    });

    it('finds the last sequence wherever it is, even behind holes', async () => {
      stream = newStream();
      for (const n of [1, 2500, 1_000_000]) await put(stream, n, pattern(n, 8));
      expect(await upload.lastSequence(stream, live)).toBe(1_000_000);
    });

    it('keeps streams apart: group, machine, disk and epoch', async () => {
      stream = newStream();
      await put(stream, 1, pattern(1, 10));
      const others: LogStream[] = [
        { ...stream, epoch: 2 },
        { ...stream, disk: 'd2' },
        { ...stream, machine: 'm2' },
        { ...stream, group: `${stream.group}x` },
      ];
      for (const other of others) {
        expect(await store.list(other, 1, 10, live)).toEqual([]);
        expect(await store.read(other, 1, 10, live)).toBeUndefined();
        expect(await upload.lastSequence(other, live)).toBe(0);
      }
    });

    it('reads at most what the caller allows', async () => {
      stream = newStream();
      await put(stream, 1, pattern(1, 5000));
      expectBytes(await store.read(stream, 1, 5000, live), pattern(1, 5000));
      const error = await expectCode(store.read(stream, 1, 4999, live), 'LOG_TOO_LARGE');
      expect(error.details).toMatchObject({ sizeBytes: 5000, maxBytes: 4999 });
      expectBytes(await store.read(stream, 1, 5000, live), pattern(1, 5000));
    });

    it('reads heads, shorter when the segment is', async () => {
      stream = newStream();
      await put(stream, 1, pattern(1, 5000));
      expectBytes(await store.readHead(stream, 1, 100, live), pattern(1, 5000).subarray(0, 100));
      expectBytes(await store.readHead(stream, 1, 9000, live), pattern(1, 5000));
    });

    it('holds a segment without a byte', async () => {
      stream = newStream();
      expect(await put(stream, 1, Buffer.alloc(0))).toBe('committed');
      expect(await store.list(stream, 1, 10, live)).toEqual([{ sequence: 1, sizeBytes: 0 }]);
      expectBytes(await store.read(stream, 1, 10, live), Buffer.alloc(0));
      expectBytes(await store.readHead(stream, 1, 10, live), Buffer.alloc(0));
    });

    it('deletes, and counts deleted as done', async () => {
      stream = newStream();
      await put(stream, 1, pattern(1, 10));
      await put(stream, 2, pattern(2, 10));
      await store.delete(stream, 1, live);
      await store.delete(stream, 1, live);
      await store.delete(newStream(), 1, live);
      expect(await sequences(1)).toEqual([2]);
      expect(await store.read(stream, 1, 10, live)).toBeUndefined();
    });

    it('lists the streams of a group that something is left of, and of no other group', async () => {
      const group = freshName('g');
      expect(await store.listStreams(group, live)).toEqual([]);
      const streams: LogStream[] = [
        { group, machine: 'm', disk: 'd', epoch: 1 },
        { group, machine: 'm', disk: 'd', epoch: 12 },
        { group, machine: 'm', disk: 'd-2', epoch: 2 },
        { group, machine: 'm2', disk: 'd', epoch: 1 },
      ];
      for (const other of [...streams, { ...stream, group: `${group}x` }, { ...stream, group: group.slice(0, -1) }])
        await put(other, 1, pattern(1, 8));
      const label = ({ machine, disk, epoch }: LogStream): string => `${machine}/${disk}/${epoch}`;
      const listed = await store.listStreams(group, live);
      expect(new Set(listed.map(({ group: of }) => of))).toEqual(new Set([group]));
      expect(listed.map(label).toSorted()).toEqual(streams.map(label).toSorted());
      expect(await store.listStreams(group, live)).toEqual(listed);
    });

    it('deletes a stream in portions, and no other stream', async () => {
      stream = newStream();
      const next = { ...stream, epoch: 2 };
      for (const n of [1, 2, 3, 5000, 1_000_000]) await put(stream, n, pattern(n, 8));
      await put(next, 1, pattern(1, 8));
      expect(await store.deleteStream(stream, 2, live)).toBe(2);
      expect(await upload.lastSequence(stream, live)).toBe(1_000_000);
      expect(await store.listStreams(stream.group, live)).toHaveLength(2);
      expect(await store.deleteStream(stream, 2, live)).toBe(2);
      expect(await store.deleteStream(stream, 2, live)).toBe(1);
      expect(await store.deleteStream(stream, 2, live)).toBe(0);
      expect(await store.listStreams(stream.group, live)).toEqual([next]);
      expect(await upload.lastSequence(stream, live)).toBe(0);
      expectBytes(await store.read(next, 1, 8, live), pattern(1, 8));
    });

    it('stops when it is told to', async () => {
      stream = newStream();
      const staged = await upload.stage(stream, 1, pattern(1, 10), live);
      await expectAborts((signal) => store.list(stream, 1, 10, signal));
      await expectAborts((signal) => store.read(stream, 1, 10, signal));
      await expectAborts((signal) => store.readHead(stream, 1, 10, signal));
      await expectAborts((signal) => store.delete(stream, 1, signal));
      await expectAborts((signal) => store.listStreams(stream.group, signal));
      await expectAborts((signal) => store.deleteStream(stream, 1, signal));
      await expectAborts((signal) => upload.lastSequence(stream, signal));
      await expectAborts((signal) => upload.stage(stream, 1, pattern(1, 10), signal));
      await expectAborts((signal) => staged.commit(signal));
      expect(await sequences(1)).toEqual([]);
    });
  });
}
