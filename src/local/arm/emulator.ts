/** Azure Resource Manager's Compute provider over https, as far as a failover needs it. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { ArmError, asArmError, badRequest, resourceNotFound } from './arm-error.ts';
import { ensureCertificate } from './certificate.ts';
import { type FaultAction, type FaultRule, Faults } from './faults.ts';
import { machineBody, Machines } from './machines.ts';
import { Operations } from './operations.ts';
import type { PageBlobs } from './page-blobs.ts';
import { type Answer, isRecord, resourcePath, type ResourceRequest } from './request.ts';
import { ArmState, keyOf, type Machine, type Operation, type Volume } from './state.ts';
import { volumeBody, Volumes } from './volumes.ts';

const HOST = '127.0.0.1';
const MAX_BODY_BYTES = 1024 * 1024;
const PAGE_ENTRIES = 50;
/** Where tests ask for faults, when that is allowed. */
const CONTROL_PATH = '/_control/faults';

export interface ArmEmulatorOptions {
  /** Of certificate and state; made when it is not there. */
  readonly folder: string;
  /** Of the replica account, whose page blobs hold the disks. */
  readonly connectionString: string;
  /** Entries of a list before `nextLink`. */
  readonly pageEntries?: number;
  /** For tests: faults may be asked for over https too. */
  readonly control?: boolean;
}

export class ArmEmulator {
  readonly faults: Faults = new Faults();
  readonly #options: ArmEmulatorOptions;
  readonly #state: ArmState;
  readonly #operations: Operations;
  readonly #volumes: Volumes;
  readonly #machines: Machines;
  #blobs: Promise<PageBlobs> | undefined;
  #server: Server | undefined;

  constructor(options: ArmEmulatorOptions) {
    this.#options = options;
    const state = new ArmState(options.folder);
    this.#state = state;
    const operations = (): Operations => this.#operations;
    this.#machines = new Machines({ state, operations });
    this.#volumes = new Volumes({ state, operations, blobs: () => this.#openBlobs() });
    const isMachine = ({ target }: Operation): boolean => target.toLowerCase().includes('/virtualmachines/');
    this.#operations = new Operations({
      state,
      perform: (operation, signal) =>
        isMachine(operation) ? this.#machines.perform(operation) : this.#volumes.perform(operation, signal),
      undo: (operation) => (isMachine(operation) ? this.#machines : this.#volumes).undo(operation),
    });
  }

  /** The storage SDK is loaded by the first request that needs bytes, since loading takes longer than the rest of the start. */
  #openBlobs(): Promise<PageBlobs> {
    this.#blobs ??= import('./page-blobs.ts').then(({ PageBlobs }) => new PageBlobs(this.#options.connectionString));
    return this.#blobs;
  }

  /** @param port 0: any free one */
  async listen(port: number): Promise<void> {
    const { cert, key } = await ensureCertificate(this.#options.folder, Date.now());
    const server = createServer({ cert, key }, (request, response) => void this.#serve(request, response));
    this.#server = server;
    server.listen(port, HOST);
    await once(server, 'listening');
  }

  get port(): number {
    const address = this.#server?.address() as AddressInfo | null | undefined;
    if (!address) throw new Error('the emulator does not listen');
    return address.port;
  }

  /** Operations in progress stay so; the next process goes on with them. */
  async close(): Promise<void> {
    const server = this.#server;
    if (server !== undefined) {
      server.close();
      server.closeAllConnections();
    }
    await this.#operations.close();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A client that goes away is no failure of ours.
    response.on('error', () => undefined);
    try {
      await this.#answer(request, response);
    } catch (error) {
      const { status, code, message } = asArmError(error);
      send(response, status, { error: { code, message } });
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = 'GET' } = request;
    const url = new URL(request.url ?? '/', this.#origin);
    const path = decodeURIComponent(url.pathname);
    const body = await bodyOf(request);
    if (this.#options.control === true && path === CONTROL_PATH) {
      this.faults.add(body as unknown as FaultRule);
      return send(response, 204);
    }
    const fault = this.faults.take(method, path);
    if (fault?.kind === 'refuse') return refuse(response, fault);
    if (fault?.kind === 'drop' && !fault.carriedOut) return void request.socket.destroy();
    requireToken(request);
    if (!/^\d{4}-\d{2}-\d{2}(?:-preview)?$/.test(url.searchParams.get('api-version') ?? '')) {
      throw badRequest(
        'MissingApiVersionParameter',
        'The api-version query parameter (?api-version=) is required for all requests.',
      );
    }
    const answer = await this.#route({ method, path, url, body, fault });
    if (fault?.kind === 'drop') return void request.socket.destroy();
    send(response, answer.status, answer.body, this.#headers(answer, path, url));
  }

  get #origin(): string {
    return `https://${HOST}:${this.port}`;
  }

  #headers({ operation }: Answer, path: string, url: URL): Record<string, string> {
    if (operation === undefined) return {};
    const subscription = /^\/subscriptions\/[^/]+/i.exec(path)?.[0] ?? '';
    const place = `${this.#origin}${subscription}/providers/Microsoft.Compute/locations/local/DiskOperations/${operation.id}`;
    const version = `api-version=${url.searchParams.get('api-version') ?? ''}`;
    return {
      'Azure-AsyncOperation': `${place}?${version}`,
      Location: `${place}?monitor=true&${version}`,
      'Retry-After': '1',
    };
  }

  async #route(request: {
    readonly method: string;
    readonly path: string;
    readonly url: URL;
    readonly body: Record<string, unknown>;
    readonly fault: FaultAction | undefined;
  }): Promise<Answer & { readonly headers?: Record<string, string> }> {
    const { method, path, url, body, fault } = request;
    const operationId = /\/DiskOperations\/([^/]+)$/i.exec(path)?.[1];
    if (operationId !== undefined && method === 'GET') return this.#look(operationId, url);
    const resource = resourcePath(path);
    if (resource === undefined) {
      throw new ArmError(404, 'InvalidResourceType', `The resource type of '${path}' could not be found here.`);
    }
    if (resource.name === undefined) {
      if (method !== 'GET') throw new ArmError(405, 'MethodNotAllowed', `${method} of a list is not possible.`);
      return this.#list(resource.type, resource.id, url);
    }
    return this.#onResource({ ...resource, method, body, fault });
  }

  async #onResource(request: ResourceRequest): Promise<Answer> {
    const { method, type, id, action } = request;
    const handler = type === 'virtualMachines' ? this.#machines : this.#volumes;
    if (action !== undefined) {
      const known = ['begingetaccess', 'endgetaccess'].includes(action.toLowerCase()) && type !== 'virtualMachines';
      if (method === 'POST' && known) return this.#volumes.act(request);
      throw new ArmError(404, 'InvalidResourceType', `There is no ${action} of ${type} here.`);
    }
    switch (method) {
      case 'GET': {
        const found = type === 'virtualMachines' ? this.#state.machine(id) : this.#state.volume(id);
        if (found === undefined) throw resourceNotFound(id);
        return { status: 200, body: bodyFor(found) };
      }
      case 'PUT':
        return handler.put(request);
      case 'PATCH':
        return handler.patch(request);
      case 'DELETE':
        return handler.remove(request);
      default:
        throw new ArmError(405, 'MethodNotAllowed', `${method} is not possible.`);
    }
  }

  /** Status of an operation; with `monitor`, its result once it has one. */
  async #look(id: string, url: URL): Promise<Answer> {
    const operation = await this.#operations.look(id);
    if (operation === undefined) throw new ArmError(404, 'NotFound', `The operation '${id}' was not found.`);
    const { status, error, startedAt, target } = operation;
    if (!url.searchParams.has('monitor')) {
      return {
        status: 200,
        body: { name: id, status, startTime: startedAt, ...(error !== null && { error }) },
        ...(status === 'InProgress' && { operation }),
      };
    }
    if (error !== null) throw new ArmError(409, error.code, error.message);
    if (status === 'InProgress') return { status: 202, operation };
    if (operation.kind === 'grant')
      return { status: 200, body: { accessSAS: await this.#volumes.accessUrl(operation) } };
    const found = this.#state.volume(target) ?? this.#state.machine(target);
    return found === undefined ? { status: 204 } : { status: 200, body: bodyFor(found) };
  }

  #list(type: ResourceRequest['type'], prefix: string, url: URL): Answer {
    const { pageEntries = PAGE_ENTRIES } = this.#options;
    // A list of the subscription covers all its resource groups.
    const scope = /\/resourceGroups\//i.test(prefix)
      ? prefix
      : (/^\/subscriptions\/[^/]+\//.exec(prefix)?.[0] ?? prefix);
    const after = url.searchParams.get('$skiptoken') ?? '';
    const all = this.#state.list(type, scope).filter(({ id }) => keyOf(id) > after);
    const page = all.slice(0, pageEntries);
    const last = page.at(-1);
    const next = new URL(url);
    next.searchParams.set('$skiptoken', keyOf(last?.id ?? ''));
    const more = all.length > page.length && { nextLink: next.href };
    return { status: 200, body: { value: page.map(bodyFor), ...more } };
  }
}

const bodyFor = (resource: Volume | Machine): unknown =>
  resource.type === 'virtualMachines' ? machineBody(resource) : volumeBody(resource);

/** Any token will do here; that one is sent is what is checked. */
function requireToken(request: IncomingMessage): void {
  if (/^Bearer \S+$/.test(request.headers.authorization ?? '')) return;
  throw new ArmError(401, 'AuthenticationFailed', 'Authentication failed. The Authorization header is missing.');
}

async function bodyOf(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw new ArmError(413, 'RequestEntityTooLarge', 'The request is too large.');
    chunks.push(chunk);
  }
  if (bytes === 0) return {};
  try {
    const parsed: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
    if (isRecord(parsed)) return parsed;
  } catch {
    // Reported below, as any other body that is no object.
  }
  throw badRequest('InvalidRequestContent', 'The request content was invalid and could not be deserialized.');
}

function refuse(response: ServerResponse, { status, code, retryAfterSeconds }: FaultAction & { kind: 'refuse' }): void {
  const headers = retryAfterSeconds === undefined ? {} : { 'Retry-After': String(retryAfterSeconds) };
  send(response, status, { error: { code, message: `A fault on request: ${code}.` } }, headers);
}

function send(response: ServerResponse, status: number, body?: unknown, headers: Record<string, string> = {}): void {
  if (response.destroyed || response.headersSent) return;
  response.writeHead(status, { ...headers, ...(body !== undefined && { 'Content-Type': 'application/json' }) });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}
