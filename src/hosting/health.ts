/** The probes of a container's platform: `GET /health/live` and `GET /health/ready`. No token, and nothing secret in the answers. */
import type { Heartbeats } from './heartbeats.ts';
import type { Readiness } from './readiness.ts';

export interface HealthOptions {
  readonly heartbeats: Heartbeats;
  readonly readiness: Readiness;
  /** Aborts when the process begins to end. */
  readonly draining: AbortSignal;
}

/** @returns undefined when the request is no probe */
export async function answerProbe(options: HealthOptions, request: Request): Promise<Response | undefined> {
  const { pathname } = new URL(request.url);
  if (pathname !== '/health/live' && pathname !== '/health/ready') return undefined;
  if (request.method !== 'GET' && request.method !== 'HEAD') return new Response(null, { status: 405 });
  return pathname === '/health/live' ? live(options) : ready(options);
}

/** Whether the loops go round. What they depend on has no say: a restart would mend nothing. One that ends is no longer expected to. */
function live({ heartbeats, draining }: HealthOptions): Response {
  const loops = heartbeats.states().map(({ loop, ageMs, isLate }) => ({
    loop,
    state: isLate ? 'late' : 'ok',
    ageSeconds: Math.round(ageMs / 1000),
  }));
  if (draining.aborted) return answer(200, { status: 'draining', loops });
  const isLate = loops.some(({ state }) => state === 'late');
  return answer(isLate ? 503 : 200, { status: isLate ? 'late' : 'ok', loops });
}

async function ready({ readiness, draining }: HealthOptions): Promise<Response> {
  const dependencies = await readiness.states();
  if (draining.aborted) return answer(503, { status: 'draining', dependencies });
  const isReady = Object.values(dependencies).every(({ state }) => state === 'ok');
  return answer(isReady ? 200 : 503, { status: isReady ? 'ready' : 'not-ready', dependencies });
}

const answer = (status: number, body: unknown): Response =>
  Response.json(body, { status, headers: { 'cache-control': 'no-store' } });
