/** A request to the emulator and the answer to it, apart from HTTP. */
import { badRequest } from './arm-error.ts';
import type { FaultAction } from './faults.ts';
import type { Operation, ResourceType } from './state.ts';

export interface ResourceRequest {
  readonly method: string;
  readonly type: ResourceType;
  /** Of the resource; of the list, its beginning. */
  readonly id: string;
  /** Undefined in a list. */
  readonly name: string | undefined;
  /** `beginGetAccess`, `endGetAccess` */
  readonly action: string | undefined;
  readonly body: Readonly<Record<string, unknown>>;
  readonly fault: FaultAction | undefined;
}

export interface Answer {
  readonly status: number;
  readonly body?: unknown;
  /** Its status URL goes into the headers. */
  readonly operation?: Operation;
}

const TYPES: Readonly<Record<string, ResourceType>> = {
  disks: 'disks',
  snapshots: 'snapshots',
  virtualmachines: 'virtualMachines',
};

/** What a path under `…/providers/Microsoft.Compute/` names; undefined when it is something else. */
export function resourcePath(path: string): Pick<ResourceRequest, 'type' | 'id' | 'name' | 'action'> | undefined {
  const match =
    /^(\/subscriptions\/[^/]+(?:\/resourceGroups\/[^/]+)?\/providers\/Microsoft\.Compute\/([A-Za-z]+))(?:\/([^/]+)(?:\/([A-Za-z]+))?)?$/i.exec(
      path,
    );
  const [, collection = '', typeName = '', name, action] = match ?? [];
  const type = TYPES[typeName.toLowerCase()];
  if (type === undefined) return undefined;
  const id = name === undefined ? `${collection}/` : `${collection}/${name}`;
  return { type, id, name, action };
}

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** @throws ArmError InvalidParameter unless it is an object (absent counts as an empty one) */
export function recordAt(body: Readonly<Record<string, unknown>>, name: string): Record<string, unknown> {
  const value = body[name] ?? {};
  if (!isRecord(value)) throw badRequest('InvalidParameter', `The value of parameter ${name} is invalid.`);
  return value;
}

/** @throws ArmError InvalidParameter unless it is a text that is not empty */
export function textAt(body: Readonly<Record<string, unknown>>, name: string): string {
  const value = body[name];
  if (typeof value === 'string' && value !== '') return value;
  throw badRequest('InvalidParameter', `Required parameter '${name}' is missing (null).`);
}

export interface Common {
  readonly location: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly zones: readonly string[];
}

/** What every resource has. @throws ArmError */
export function commonOf(body: Readonly<Record<string, unknown>>): Common {
  const zones = Array.isArray(body['zones']) ? body['zones'].map(String) : [];
  if (typeof body['location'] !== 'string' || body['location'] === '') {
    throw badRequest('LocationRequired', 'The location property is required for this definition.');
  }
  return { location: body['location'], tags: tagsOf(body), zones };
}

/** Azure's limits: 50 tags, names up to 512 characters, values up to 256. @throws ArmError */
export function tagsOf(body: Readonly<Record<string, unknown>>): Record<string, string> {
  const tags = recordAt(body, 'tags');
  for (const [name, value] of Object.entries(tags)) {
    if (typeof value === 'string' && name.length <= 512 && value.length <= 256) continue;
    throw badRequest('InvalidTag', `The tag '${name.slice(0, 64)}' is invalid.`);
  }
  if (Object.keys(tags).length > 50) throw badRequest('TagsTooMany', 'A resource has at most 50 tags.');
  return tags as Record<string, string>;
}
