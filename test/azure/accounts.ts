import { useStack } from '../support/stack.ts';

export interface Accounts {
  readonly port: number;
  /** With `port`, the account at another place: a proxy in front of the emulator. */
  connectionString(account: 'cache' | 'replica', port?: number): string;
  access(account: 'cache' | 'replica', port?: number): { readonly connectionString: string };
}

/** The storage accounts of a local stack of its own for this test file. */
export function useAccounts(): () => Accounts {
  const stack = useStack();
  const read = (account: string): string => {
    const value = stack.environment[`TIDEMARK_${account.toUpperCase()}_CONNECTION_STRING`];
    if (value === undefined) throw new Error(`the stack has no ${account} account`);
    return value;
  };
  const connectionString: Accounts['connectionString'] = (account, port) =>
    port === undefined ? read(account) : read(account).replace(/(BlobEndpoint=http:\/\/[^:;]+):\d+/, `$1:${port}`);
  return () => ({
    port: Number(/BlobEndpoint=http:\/\/[^:;]+:(\d+)\//.exec(read('cache'))?.[1]),
    connectionString,
    access: (account, port) => ({ connectionString: connectionString(account, port) }),
  });
}
