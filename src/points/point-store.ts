/** Reads points from the catalog. A point exists exactly while its manifest does. */
import type { Catalog } from '../catalog/catalog.ts';
import { readDocument, readDocuments } from '../catalog/documents.ts';
import { TidemarkError } from '../errors.ts';
import { catalogName } from '../model/names.ts';
import { byCut } from '../retention/plan.ts';
import { manifestSchema, pointFact, type Manifest } from './manifest.ts';

/** All manifests of a group, oldest cut first, and in the order of their making within one instant. A point that is pruned meanwhile is left out. */
export async function listPoints(catalog: Catalog, group: string, signal: AbortSignal): Promise<Manifest[]> {
  const manifests = await readDocuments(catalog, catalogName.points(group), manifestSchema, signal);
  return manifests.toSorted((a, b) => byCut(pointFact(a), pointFact(b)));
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
