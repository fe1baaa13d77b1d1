/**
 * The three kinds of test. `unit` needs nothing but Node; `server` needs real NATS, etcd and a container
 * engine, which its global set-up starts; `e2e` starts whole clusters, so its files run one after another.
 * Read by the `unit`, `server` and `e2e` scripts of package.json and by setup/run-tests.ts.
 */
import { defineConfig } from 'vitest/config';

const serverTests = ['{packages,services}/**/*.server.test.ts'];
const globalSetup = ['packages/testkit/global-setup.ts'];

export default defineConfig({
  test: {
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['{packages,services}/**/*.test.ts', 'test/house/**/*.test.ts'],
          exclude: ['**/node_modules/**', ...serverTests],
          testTimeout: 20_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'server',
          include: serverTests,
          globalSetup,
          testTimeout: 90_000,
          hookTimeout: 120_000,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'e2e',
          include: ['test/{e2e,faults}/**/*.test.ts'],
          globalSetup,
          testTimeout: 180_000,
          hookTimeout: 300_000,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
