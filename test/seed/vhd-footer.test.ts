import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MIB, TIB } from '../../src/model/sizes.ts';
import { vhdFooter } from '../../src/seed/vhd-footer.ts';

const key = { group: 'g', machine: 'm', disk: 'disk0' };

describe('the fixed-VHD footer', () => {
  it('has the fields of the specification', () => {
    const footer = vhdFooter(key, 160 * MIB);
    expect(footer.length).toBe(512);
    expect(footer.toString('latin1', 0, 8)).toBe('conectix');
    expect(footer.readUInt32BE(8)).toBe(2);
    expect(footer.readUInt32BE(12)).toBe(0x10000);
    expect(footer.readBigUInt64BE(16)).toBe(0xffff_ffff_ffff_ffffn);
    expect(footer.readBigUInt64BE(40)).toBe(BigInt(160 * MIB));
    expect(footer.readBigUInt64BE(48)).toBe(BigInt(160 * MIB));
    expect(footer.readUInt32BE(60)).toBe(2);
    let sum = 0;
    for (const [i, byte] of footer.entries()) if (i < 64 || i >= 68) sum += byte;
    expect(footer.readUInt32BE(64)).toBe(~sum >>> 0);
    expect(footer.subarray(85).every((byte) => byte === 0)).toBe(true);
  });

  it('is the same for the same disk, and another for another', () => {
    expect(vhdFooter(key, MIB).equals(vhdFooter(key, MIB))).toBe(true);
    expect(vhdFooter(key, MIB).equals(vhdFooter({ ...key, disk: 'disk1' }, MIB))).toBe(false);
  });

  it('knows the geometry of the specification for small and large disks', () => {
    const chs = (size: number): number[] => {
      const footer = vhdFooter(key, size);
      return [footer.readUInt16BE(56), footer.readUInt8(58), footer.readUInt8(59)];
    };
    expect(chs(8 * MIB)).toEqual([240, 4, 17]);
    expect(chs(160 * MIB)).toEqual([660, 16, 31]);
    expect(chs(2 * TIB)).toEqual([65_535, 16, 255]);
  });

  it.runIf(spawnSync('qemu-img', ['--version']).status === 0)('is accepted by qemu-img', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tidemark-vhd-'));
    try {
      for (const sizeBytes of [MIB, 160 * MIB, 3 * 1024 * MIB]) {
        const file = join(folder, 'disk.vhd');
        writeFileSync(file, '');
        truncateSync(file, sizeBytes);
        writeFileSync(file, vhdFooter(key, sizeBytes), { flag: 'a' });
        const info = spawnSync('qemu-img', ['info', '--output=json', '-f', 'vpc', file], { encoding: 'utf8' });
        expect(JSON.parse(info.stdout)).toMatchObject({ 'virtual-size': sizeBytes, format: 'vpc' });
        const check = spawnSync('qemu-img', ['check', '-f', 'vpc', file], { encoding: 'utf8' });
        expect(check.stderr + check.stdout).not.toMatch(/error|corrupt/i);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
