/**
 * A process that opens a runtime, if it is to, then asks identities for tokens, one after the other.
 *
 * usage: node credential-child.ts JSON of {@link CredentialOrder}; prints {@link CredentialReport} as JSON
 */
import { registerHooks } from 'node:module';
import type { Identity } from '../../src/azure/credentials.ts';

export interface CredentialOrder {
  readonly opensRuntime: boolean;
  readonly identities: readonly Identity[];
  /** Of each identity. */
  readonly scopes: readonly string[];
}

export interface CredentialReport {
  /** Whether the SDK of identities was loaded by the runtime, and by the tokens. */
  readonly loaded: readonly [boolean, boolean];
  /** Of each identity and each scope: the token, or `CODE: message`. */
  readonly tokens: readonly string[];
}

let isLoaded = false;
registerHooks({
  resolve(specifier, context, next) {
    if (specifier === '@azure/identity') isLoaded = true;
    return next(specifier, context);
  },
});

const { opensRuntime, identities, scopes } = JSON.parse(process.argv[2] ?? '') as CredentialOrder;
const { openCredential } = await import('../../src/azure/credentials.ts');
const { TidemarkError } = await import('../../src/errors.ts');

if (opensRuntime) {
  const { parseConfiguration } = await import('../../src/config.ts');
  const { openRuntime } = await import('../../src/runtime.ts');
  const emulators = {
    TIDEMARK_CACHE_CONNECTION_STRING: 'UseDevelopmentStorage=true',
    TIDEMARK_REPLICA_CONNECTION_STRING: 'UseDevelopmentStorage=true',
    TIDEMARK_SERVICE_BUS_CONNECTION_STRING: 'Endpoint=sb://127.0.0.1:1;UseDevelopmentEmulator=true',
  };
  await openRuntime(parseConfiguration(emulators)).close();
}
const byRuntime = isLoaded;
const tokens: string[] = [];
for (const identity of identities) {
  const credential = openCredential(identity);
  for (const scope of scopes) {
    try {
      tokens.push((await credential.getToken(scope))?.token ?? '');
    } catch (error) {
      if (!(error instanceof TidemarkError)) throw error;
      tokens.push(`${error.code}: ${error.message}`);
    }
  }
}
const report: CredentialReport = { loaded: [byRuntime, isLoaded], tokens };
process.stdout.write(JSON.stringify(report));
