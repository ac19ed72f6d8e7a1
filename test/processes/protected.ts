/** A protected machine that a recorded trace plays, and what must come of it. */
import { expect } from 'vitest';
import type { PointSummary } from '../../src/points/manifest.ts';
import { exportNewest, exportSome, verifyPoints } from '../e2e/verify-points.ts';
import { Operator } from '../support/cli.ts';
import { isFullRun } from '../support/extent.ts';
import { expectedPoints, isoOf, type Shipment, usOf } from '../support/point-oracle.ts';
import { download, RawStorage } from '../support/storage.ts';
import { expectations, TraceReplay } from '../support/trace-oracle.ts';
import type { Services } from './services.ts';

/** Disks up to this size are read whole, with one request; an export needs one for each range. */
const WHOLE_READ_BYTES = 4 * 1024 * 1024;

/** How a trace is played. */
export interface Played {
  /** Source time in a segment; points are five minutes apart. */
  readonly segmentSeconds?: number;
  /** Trace time at which it ends; with its last entry when left out. */
  readonly untilSeconds?: number;
}

export interface Status {
  readonly state: string;
  readonly points: number;
  readonly messagesWaiting: number;
  readonly disks: readonly { readonly defect: { readonly code: string } | null }[];
}

interface Manifest {
  readonly disks: readonly { readonly machine: string; readonly disk: string; readonly snapshot: string }[];
}

export class Protected {
  readonly group: string;
  readonly operator: Operator;
  readonly storage: RawStorage;
  readonly disks: readonly string[];
  readonly #home: string;
  readonly #shipment: Shipment;
  readonly #segmentSeconds: number;

  private constructor(services: Services, group: string, dir: string, played: Played) {
    const environment = services.environment();
    this.group = group;
    this.operator = new Operator(() => environment);
    this.storage = new RawStorage(environment);
    this.#home = services.home;
    const { segmentSeconds = 60, untilSeconds } = played;
    this.#segmentSeconds = segmentSeconds;
    const untilUs = untilSeconds === undefined ? {} : { untilUs: untilSeconds * 1e6 };
    this.#shipment = { dir, startUs: usOf('2026-11-20T04:02:00Z'), stretch: 60, ...untilUs };
    this.disks = expectations(this.#shipment.dir).disk_size.map((_, disk) => `${group}/web/disk${disk}`);
  }

  /** `dir`: a trace folder with its expect.json. */
  static async create(services: Services, group: string, dir: string, played: Played = {}): Promise<Protected> {
    const made = new Protected(services, group, dir, played);
    await made.operator.ok('policy', 'set', 'p', '--app-consistent-hours', '1');
    const sizes = expectations(made.#shipment.dir).disk_size;
    const disks = sizes.flatMap((sizeBytes, disk) => ['--disk', `disk${disk}=${sizeBytes}`]);
    await made.operator.ok('group', 'protect', group, '--policy', 'p', '--machine', 'web', ...disks);
    return made;
  }

  /** Arguments that ship everything that is played, or its beginning. */
  ship(untilSeconds?: string): string[] {
    const { dir, startUs, stretch, untilUs } = this.#shipment;
    const endSeconds = untilSeconds ?? (untilUs === undefined ? undefined : String(untilUs / 1e6));
    const until = endSeconds === undefined ? [] : ['--until', endSeconds];
    const times = ['--start', isoOf(startUs), '--stretch', String(stretch)];
    const segments = ['--segment-seconds', String(this.#segmentSeconds)];
    return ['source', 'ship', this.group, '--trace', dir, ...times, ...segments, ...until];
  }

  work(...more: string[]): string[] {
    return ['worker', 'run', '--group', this.group, ...more];
  }

  status(): Promise<Status> {
    return this.operator.json<Status>('status', this.group);
  }

  /** Snapshots of every disk that exist, and those that manifests name; ascending. */
  async snapshots(): Promise<{ readonly exist: readonly string[]; readonly named: readonly string[] }> {
    const exist: string[] = [];
    for (const disk of this.disks) {
      for (const { snapshot } of await this.storage.snapshots(disk)) exist.push(`${disk}@${snapshot}`);
    }
    const named = new Set<string>();
    const points = this.storage.catalog;
    for await (const { name } of points.listBlobsFlat({ prefix: `points/${this.group}/` })) {
      if (!name.endsWith('.json')) continue;
      const { disks } = JSON.parse((await download(points.getBlobClient(name))).toString()) as Manifest;
      for (const { machine, disk, snapshot } of disks) named.add(`${this.group}/${machine}/${disk}@${snapshot}`);
    }
    return { exist: exist.sort(), named: [...named].sort() };
  }

  /** App-consistent points that the worker has still to look at. */
  async uninspected(): Promise<readonly string[]> {
    const points = await this.operator.json<PointSummary[]>('point', 'list', this.group, '--kind', 'app');
    return points.filter(({ verified }) => verified === null).map(({ id }) => id);
  }

  /** Everything that an owner writes: it changes with the slightest write to a seed, a point or a snapshot. */
  async footprint(): Promise<unknown> {
    const seeds = await Promise.all(
      this.disks.map(async (disk) => (await this.storage.seed(disk).getProperties()).etag),
    );
    const points: unknown[] = [];
    for await (const { name, properties } of this.storage.catalog.listBlobsFlat({ prefix: `points/${this.group}/` })) {
      points.push([name, properties.etag]);
    }
    return { seeds, points, snapshots: (await this.snapshots()).exist };
  }

  /** States of the leases on the progress document and on every seed. */
  async leases(): Promise<unknown[]> {
    const blobs = [
      this.storage.catalog.getBlobClient(`progress/${this.group}.json`),
      ...this.disks.map((disk) => this.storage.seed(disk)),
    ];
    return Promise.all(blobs.map(async (blob) => (await blob.getProperties()).leaseState));
  }

  get #replays(): TraceReplay[] {
    return this.disks.map((_, disk) => new TraceReplay(this.#shipment.dir, disk));
  }

  /** Ids of the points that all that is played gives, oldest first. */
  expectedIds(): string[] {
    return expectedPoints(this.#shipment, this.#replays, 'boundaries').map(({ id }) => id);
  }

  /** The whole list of points, every byte of every one (of a large disk: of some), and no snapshot that belongs to none. */
  async requireAllRight(): Promise<void> {
    const replays = this.#replays;
    const isSmall = replays.every(({ image }) => image.length <= WHOLE_READ_BYTES);
    await verifyPoints({
      operator: this.operator,
      storage: this.storage,
      group: this.group,
      disks: replays.map((replay, disk) => ({ machine: 'web', disk: `disk${disk}`, replay })),
      expected: expectedPoints(this.#shipment, replays, 'boundaries'),
      ...(!isFullRun && { depthOf: isSmall ? exportNewest('snapshot') : exportSome }),
      folder: this.#home,
    });
    const { exist, named } = await this.snapshots();
    expect(exist).toEqual(named);
  }
}
