import { defineConfig } from 'vitest/config';

/**
 * Folders whose tests start no process and keep nothing outside of themselves: their files share a worker and the modules in it, which
 * spares loading the Azure SDKs and zod for each of them.
 */
const SHARED = [
  'api',
  'apply',
  'catalog',
  'coalesce',
  'cuts',
  'docs',
  'failover',
  'inspect',
  'log',
  'memory',
  'monitoring',
  'nbd',
  'plans',
  'points',
  'retention',
  'seed',
  'serve',
  'source',
  'worker',
].map((folder) => `test/${folder}/**/*.test.ts`);

const limits = { testTimeout: 60_000, hookTimeout: 60_000 };

// A project that had maxWorkers itself would not heed --maxWorkers. Groups, since a shared worker ends before a file that wants its own.
export default defineConfig({
  test: {
    // Two cores: more workers only make Azurite's answers slower.
    maxWorkers: 2,
    reporters: ['default', './test/support/closing-line.ts'],
    projects: [
      { test: { ...limits, name: 'shared', include: SHARED, isolate: false, sequence: { groupOrder: 1 } } },
      {
        test: {
          ...limits,
          name: 'alone',
          include: ['test/**/*.test.ts'],
          exclude: SHARED,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
