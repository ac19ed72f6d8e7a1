/** Whether a port is free, and whether the right program answers on it. */
import { get } from 'node:http';
import { get as getSecurely } from 'node:https';
import { connect, createServer } from 'node:net';
import { once } from 'node:events';

const HOST = '127.0.0.1';
/** A service on the loopback that takes longer than this for a first answer is asked again. */
const PROBE_TIMEOUT_MS = 2000;

/** AMQP's SASL protocol header: protocol 3, version 1.0.0 (AMQP 1.0, part 5.3.2). */
const SASL_HEADER = Buffer.from('AMQP\u0003\u0001\u0000\u0000', 'latin1');

/** True when this process can listen on `port`. */
export async function isPortFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, HOST);
    await once(server, 'listening');
    return true;
  } catch {
    return false;
  } finally {
    if (server.listening) {
      server.close();
      await once(server, 'close');
    }
  }
}

/** True when Azurite's blob service answers (it refuses an unsigned request, but says who it is). */
export function azuriteAnswers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get(
      { host: HOST, port, path: '/?comp=list', agent: false, timeout: PROBE_TIMEOUT_MS },
      (response) => {
        response.resume();
        resolve(String(response.headers.server).startsWith('Azurite-Blob/'));
      },
    );
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(false));
  });
}

/** True when the ARM emulator answers (it refuses a request without a token). Its certificate is for its clients to check. */
export function armAnswers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const options = { host: HOST, port, agent: false, rejectUnauthorized: false, timeout: PROBE_TIMEOUT_MS };
    const request = getSecurely(options, (response) => {
      response.resume();
      resolve(response.statusCode === 401);
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(false));
  });
}

/** True when an AMQP server answers the protocol header. */
export function brokerAnswers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: HOST, port });
    socket.setTimeout(PROBE_TIMEOUT_MS);
    const finish = (answers: boolean): void => {
      socket.destroy();
      resolve(answers);
    };
    socket.on('connect', () => socket.write(SASL_HEADER));
    socket.on('data', (answer) => finish(answer.subarray(0, 4).toString('latin1') === 'AMQP'));
    socket.on('timeout', () => finish(false));
    socket.on('close', () => finish(false));
    socket.on('error', () => finish(false));
  });
}
