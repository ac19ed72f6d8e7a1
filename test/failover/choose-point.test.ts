import { describe, expect, it } from 'vitest';
import type { PointSelector } from '../../src/commands/commands.ts';
import { choosePoint, type Choice } from '../../src/failover/choose-point.ts';
import type { Manifest } from '../../src/points/manifest.ts';

const point = (id: string, kind: Manifest['kind'], ok?: boolean): Manifest => ({
  version: 1,
  point: id,
  group: 'shop',
  kind,
  cutUs: 1,
  cut: '',
  mark: null,
  created: '',
  previousPoint: null,
  disks: [],
  changesSha256: '',
  verified: ok === undefined ? null : { at: '', ok, bytes: true },
});

const choice = (...points: readonly Manifest[]): Choice => ({ group: 'shop', points, leaving: new Set() });
const chosen = (selector: PointSelector, from: Choice): string => choosePoint(selector, from).point;
const POINTS = [
  point('a', 'app'),
  point('b', 'crash'),
  point('c', 'app', true),
  point('d', 'crash'),
  point('e', 'latest'),
];

describe('choosePoint', () => {
  it.each([
    ['latest', 'e'],
    ['latest-processed', 'e'],
    ['latest-app', 'c'],
    ['latest-crash', 'd'],
    ['b', 'b'],
  ])('%s gives %s', (selector, expected) => {
    expect(chosen(selector, choice(...POINTS))).toBe(expected);
  });

  it('passes over damaged points unless one is named', () => {
    const points = choice(point('a', 'app'), point('b', 'crash'), point('c', 'app', false), point('d', 'crash', false));
    expect(chosen('latest-processed', points)).toBe('b');
    expect(chosen('latest-app', points)).toBe('a');
    expect(chosen('latest-crash', points)).toBe('b');
    expect(chosen('d', points)).toBe('d');
    expect(() => chosen('latest', points)).toThrow(
      'group shop has no point for "latest": its 2 points end with a, b; 2 more are damaged and must be named to be used',
    );
  });

  it('passes over points that are being pruned, also when one is named', () => {
    const points = { ...choice(...POINTS), leaving: new Set(['e', 'c']) };
    expect(chosen('latest-processed', points)).toBe('d');
    expect(chosen('latest-app', points)).toBe('a');
    expect(() => chosen('e', points)).toThrow(expect.objectContaining({ code: 'POINT_NOT_FOUND' }));
  });

  it('says what there is when there is no such point', () => {
    expect(() => chosen('latest-app', choice(point('b', 'crash')))).toThrow(
      'group shop has no point for "latest-app": its 1 points end with b',
    );
    expect(() => chosen('latest', choice())).toThrow('group shop has no point for "latest": it has none');
  });
});
