/** Ports whose calls that make and remove points are spans: the snapshot of each disk, the manifest's write, the manifest's end. */
import type { Catalog } from '../catalog/catalog.ts';
import type { SeedDisk, SeedStore } from '../seed/seed-store.ts';
import type { Telemetry } from './telemetry.ts';
import { inSpan } from './tracing.ts';

type Traced = Pick<Telemetry, 'tracer'>;

/** `points/GROUP/POINT.json`, as `catalogName.manifest` makes it. */
const MANIFEST = /^points\/([^/]+)\/([^/]+)\.json$/;
/** The cut is the first part of a point's name. */
const cutOf = (point: string): string => point.split('-', 1)[0] ?? point;

export function tracedCatalog(catalog: Catalog, { tracer }: Traced): Catalog {
  const around = <T>(name: string, blob: string, work: () => Promise<T>): Promise<T> => {
    const [, group, point] = MANIFEST.exec(blob) ?? [];
    if (group === undefined || point === undefined) return work();
    return inSpan(tracer, { name, attributes: { group, point, cut: cutOf(point) } }, work);
  };
  return {
    read: (...given) => catalog.read(...given),
    create: (name, ...rest) => around('tidemark.point.commit', name, () => catalog.create(name, ...rest)),
    replace: (...given) => catalog.replace(...given),
    delete: (name, ...rest) => around('tidemark.point.remove', name, () => catalog.delete(name, ...rest)),
    list: (...given) => catalog.list(...given),
    takeLease: (...given) => catalog.takeLease(...given),
  };
}

export const tracedSeeds = (seeds: SeedStore, telemetry: Traced): SeedStore => ({
  open: async (...given) => tracedDisk(await seeds.open(...given), telemetry),
  reader: (...given) => seeds.reader(...given),
  list: (...given) => seeds.list(...given),
  remove: (...given) => seeds.remove(...given),
});

function tracedDisk(disk: SeedDisk, { tracer }: Traced): SeedDisk {
  return {
    listSnapshots: (...given) => disk.listSnapshots(...given),
    read: (...given) => disk.read(...given),
    ranges: (...given) => disk.ranges(...given),
    putPages: (...given) => disk.putPages(...given),
    clearPages: (...given) => disk.clearPages(...given),
    snapshot: (metadata, signal) => {
      const { group, point, machine, disk: name } = metadata;
      const attributes = { group, point, cut: cutOf(point ?? ''), disk: `${machine}/${name}` };
      return inSpan(tracer, { name: 'tidemark.snapshot', attributes }, () => disk.snapshot(metadata, signal));
    },
    deleteSnapshot: (...given) => disk.deleteSnapshot(...given),
    renew: (...given) => disk.renew(...given),
    close: (...given) => disk.close(...given),
  };
}
