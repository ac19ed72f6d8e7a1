/** What the routes below `/v1` do. */
import { getGroup, jobHolds, listGroupDocuments, livePins, operationStates } from '../catalog/groups.ts';
import type { GroupDocument } from '../catalog/groups.ts';
import type { JobView } from '../commands/commands.ts';
import { commandFor, hasEnded } from '../commands/job-view.ts';
import { TidemarkError } from '../errors.ts';
import { summarize } from '../points/manifest.ts';
import { listPoints } from '../points/point-store.ts';
import { groupStatus } from '../worker/status.ts';
import { checked, type Api, type ApiOptions } from './context.ts';
import { commandsRoute, groupRoute, jobRoute, jobsRoute, listGroupsRoute, pointsRoute, resumeRoute } from './routes.ts';
import { groupSchema, groupStatusSchema, jobSchema, pageOf, pointSchema } from './schemas.ts';

/** Between two looks at a job that is waited for. */
const LOOK_MS = 500;
/** Requests that wait for a job at once; more are answered as if they had not asked to wait. */
export const MAX_WAITS = 32;
/** Ends `requestedBy` of jobs that came by this door: those it takes up again when it starts. */
export const DOOR = ' (http)';

export function addHandlers(api: Api, options: ApiOptions): void {
  addReading(api, options);
  addJobs(api, options);
  addCommands(api, options);
}

function addReading(api: Api, { ports }: ApiOptions): void {
  api.openapi(listGroupsRoute, async (c) => {
    const groups = await listGroupDocuments(ports.catalog, c.get('signal'));
    const page = pageFrom(groups.map(groupView), ({ group }) => group, c.req.valid('query'));
    return c.json(checked(pageOf('Groups', groupSchema), page), 200);
  });
  api.openapi(groupRoute, async (c) => {
    const status = await groupStatus(ports, c.req.valid('param').group, c.get('signal'));
    return c.json(checked(groupStatusSchema, copyOf(status)), 200);
  });
  api.openapi(pointsRoute, async (c) => {
    const { group } = c.req.valid('param');
    const document = await getGroup(ports.catalog, group, c.get('signal'));
    const held = [...livePins(document, ports.clock.nowUs()), ...jobHolds(document)].map(({ point }) => point);
    const manifests = await listPoints(ports.catalog, group, c.get('signal'));
    const points = manifests.map((manifest) => copyOf(summarize(manifest, held.includes(manifest.point))));
    const page = pageFrom(points, ({ id }) => id, c.req.valid('query'));
    return c.json(checked(pageOf('Points', pointSchema), page), 200);
  });
}

function addJobs(api: Api, { ports, commands }: ApiOptions): void {
  let waits = 0;
  api.openapi(jobsRoute, async (c) => {
    const { group } = c.req.valid('param');
    await getGroup(ports.catalog, group, c.get('signal')); // a group that is not there is no group without jobs
    const jobs = await commands.jobs(group, c.get('signal'));
    const page = pageFrom(jobs.map(copyOf<JobView>), ({ job }) => job, c.req.valid('query'));
    return c.json(checked(pageOf('Jobs', jobSchema), page), 200);
  });
  api.openapi(jobRoute, async (c) => {
    const { group, job } = c.req.valid('param');
    const signal = AbortSignal.any([c.get('signal'), c.req.raw.signal]);
    const endsAtMs = ports.clock.nowMs() + c.req.valid('query').wait * 1000;
    let view = await commands.job(group, job, signal);
    if (waits < MAX_WAITS) {
      waits++;
      try {
        while (!hasEnded(view) && ports.clock.nowMs() < endsAtMs) {
          await ports.clock.sleep(Math.min(LOOK_MS, endsAtMs - ports.clock.nowMs()), signal);
          view = await commands.job(group, job, signal);
        }
      } finally {
        waits--;
      }
    }
    return c.json(checked(jobSchema, copyOf(view)), 200);
  });
}

function addCommands(api: Api, options: ApiOptions): void {
  const { commands, runner, begin = async (job) => executeBehind(options, job) } = options;
  api.openapi(commandsRoute, async (c) => {
    const { group } = c.req.valid('param');
    const command = commandFor(group, c.req.valid('json'));
    const { 'idempotency-key': idempotencyKey } = c.req.valid('header');
    requireRoom(options);
    const requestedBy = `${c.get('caller').name}${DOOR}`;
    const key = idempotencyKey === undefined ? {} : { idempotencyKey };
    const view = await commands.submit(command, { requestedBy, ...key }, c.get('signal'));
    if (!hasEnded(view)) await begin(view, c.get('signal'));
    return c.json(checked(jobSchema, copyOf(view)), 202, { Location: locationOf(view) });
  });
  api.openapi(resumeRoute, async (c) => {
    const { group, job } = c.req.valid('param');
    requireRoom(options);
    const view = await commands.job(group, job, c.get('signal'));
    if (view.state === 'running' || view.state === 'failed') await begin(view, c.get('signal'));
    return c.json(checked(jobSchema, copyOf(view)), 202, { Location: locationOf(view) });
  });
  function requireRoom({ signal }: ApiOptions): void {
    signal.throwIfAborted();
    if (!runner.hasRoom) throw new TidemarkError('BUSY', 'as many jobs wait here as may');
  }
}

/** In the background. What ends it without an end of the job is reported; the job is then taken up at the next start. */
export function executeBehind(
  { runner, report, signal }: Pick<ApiOptions, 'runner' | 'report' | 'signal'>,
  { group, job }: Pick<JobView, 'group' | 'job'>,
): void {
  runner.execute({ group, job }).catch((error: unknown) => {
    const isElsewhere = error instanceof TidemarkError && error.code === 'OWNERSHIP_LOST';
    if (!signal.aborted && !isElsewhere) report(error);
  });
}

const locationOf = ({ group, job }: JobView): string =>
  `/v1/groups/${encodeURIComponent(group)}/jobs/${encodeURIComponent(job)}`;

function groupView(document: GroupDocument) {
  const { group, policy, wanted, machines } = document;
  const { failover, drill } = operationStates(document);
  const disks = machines.reduce((sum, machine) => sum + machine.disks.length, 0);
  return { group, policy, wanted, machines: machines.length, disks, failover, testFailover: drill };
}

/** @throws TidemarkError REQUEST_INVALID when `after` is no item of the list */
function pageFrom<T>(
  items: readonly T[],
  idOf: (item: T) => string,
  { limit, after }: { readonly limit: number; readonly after?: string | undefined },
): { items: T[]; next: string | null } {
  const before = after === undefined ? -1 : items.findIndex((item) => idOf(item) === after);
  if (after !== undefined && before === -1) {
    throw new TidemarkError('REQUEST_INVALID', 'after: the list has no such item any more; begin again');
  }
  const page = items.slice(before + 1, before + 1 + limit);
  const last = page.at(-1);
  const isLast = last === undefined || before + 1 + limit >= items.length;
  return { items: page, next: isLast ? null : idOf(last) };
}

type Mutable<T> = T extends readonly (infer E)[]
  ? Mutable<E>[]
  : T extends object
    ? { -readonly [K in keyof T]: Mutable<T[K]> }
    : T;

/** The schemas' types are mutable, ours are not. */
const copyOf = <T>(value: T): Mutable<T> => structuredClone(value) as Mutable<T>;
