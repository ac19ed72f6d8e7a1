/** Reads points from the catalog. A point exists exactly while its manifest does. */
import type { Catalog } from '../catalog/catalog.ts';
import { readDocument, readDocuments } from '../catalog/documents.ts';
import { TidemarkError } from '../errors.ts';
import { catalogName } from '../model/names.ts';
import { manifestSchema, type Manifest } from './manifest.ts';

/** All manifests of a group, oldest cut first. A point that is pruned meanwhile is left out. */
export async function listPoints(catalog: Catalog, group: string, signal: AbortSignal): Promise<Manifest[]> {
  const manifests = await readDocuments(catalog, catalogName.points(group), manifestSchema, signal);
  return manifests.toSorted(byCutAndOrder);
}

export async function findPoint(
  catalog: Catalog,
  group: string,
  point: string,
  signal: AbortSignal,
): Promise<Manifest | undefined> {
  const document = await readDocument(catalog, catalogName.manifest(group, point), manifestSchema, signal);
  return document?.value;
}

/** @throws TidemarkError POINT_NOT_FOUND */
export async function requirePoint(
  catalog: Catalog,
  group: string,
  point: string,
  signal: AbortSignal,
): Promise<Manifest> {
  const manifest = await findPoint(catalog, group, point, signal);
  if (manifest === undefined) {
    throw new TidemarkError('POINT_NOT_FOUND', `group ${group} has no point ${JSON.stringify(point)}`);
  }
  return manifest;
}

/** Points of one instant (a boundary and an app mark on it) stay in the order in which they were made. */
function byCutAndOrder(a: Manifest, b: Manifest): number {
  if (a.cutUs !== b.cutUs) return a.cutUs - b.cutUs;
  if (a.previousPoint === b.point) return 1;
  if (b.previousPoint === a.point) return -1;
  return a.point < b.point ? -1 : 1;
}
