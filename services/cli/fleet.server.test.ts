/** The commands and the adapters' settings against a real etcd and a real NATS. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger, loadConfig, type Config } from '@elastic-dns/runtime';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { startEtcd, startNats, type TestServer } from '@elastic-dns/testkit/servers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openLog, openStore } from './adapters.ts';
import { fill, runCli } from './fixture.ts';

checkLeaks();

let etcd: TestServer;
let nats: TestServer;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  [etcd, nats] = await Promise.all([startEtcd(), startNats()]);
  env = {
    ELASTIC_DNS_NODE_NAME: 'node-a',
    ELASTIC_DNS_LOG_KIND: 'nats',
    ELASTIC_DNS_LOG_NATS_SERVERS: nats.url,
    ELASTIC_DNS_STORE_KIND: 'etcd',
    ELASTIC_DNS_STORE_ETCD_ENDPOINTS: etcd.url,
    ELASTIC_DNS_DATA_DIR: '/nonexistent',
  };
});
afterAll(async () => {
  await Promise.all([etcd.remove(), nats.remove()]);
});

function config(): Config {
  return loadConfig({ env }).config;
}

test(
  'a command that only looks makes no stream; a role that may does, and says so',
  { timeout: 30_000 },
  async () => {
    expect((await runCli(['events'], env)).code).toBe(4);
    const lines: string[] = [];
    const logger = createLogger({ destination: { write: (line) => lines.push(line) } });
    const log = openLog(config(), { managesStream: true, logger });
    try {
      expect(await log.info()).toMatchObject({ first: 1, last: 0 });
    } finally {
      await log.close();
    }
    expect(lines.join('')).toContain('made stream');
  },
);

describe('a filled cluster', () => {
  beforeAll(async () => {
    const log = openLog(config(), { managesStream: true });
    const store = openStore(config());
    try {
      await fill(log, store);
    } finally {
      await store.close();
      await log.close();
    }
  });

  test('is listed', async () => {
    const { code, stdout } = await runCli(['list'], env);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^web-front-end +api +2\/3 +10\.0\.97\.1 10\.0\.98\.2$/m);
  });

  test('is resolved', async () => {
    expect((await runCli(['resolve', 'api', '--as', 'api-2'], env)).stdout).toBe('10.0.97.1\n10.0.98.2\n');
  });

  test('shows its events', async () => {
    const { stdout } = await runCli(['events', '--json', '--namespace', 'backoffice'], env);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { sequence: number });
    expect(lines.map(({ sequence }) => sequence)).toEqual([5, 6, 7, 9]);
  });

  test('needs no data folder to be looked at', async () => {
    expect((await runCli(['list', 'nodes', '--json'], env)).code).toBe(0);
  });
});

describe('a broker with passwords', () => {
  let guarded: TestServer;
  let folder: string;
  beforeAll(async () => {
    guarded = await startNats({ config: 'authorization { user: reader, password: swordfish }' });
    folder = mkdtempSync(join(tmpdir(), 'elastic-dns-fleet-'));
  });
  afterAll(async () => {
    await guarded.remove();
    rmSync(folder, { recursive: true });
  });

  async function look(password: string): Promise<{ code: number; stderr: string }> {
    const path = join(folder, 'password');
    writeFileSync(path, `${password}\n`, { mode: 0o600 });
    return runCli(['events'], {
      ...env,
      ELASTIC_DNS_LOG_NATS_SERVERS: guarded.url,
      ELASTIC_DNS_LOG_NATS_USER: 'reader',
      ELASTIC_DNS_LOG_NATS_PASSWORD_FILE: path,
    });
  }

  test('lets in who has the right one', async () => {
    // There is no stream yet, which is a matter between us and the broker that only those get to who are in.
    expect(await look('swordfish')).toMatchObject({ code: 4 });
  });

  test('is a matter of configuration to who has the wrong one, and the password is not shown', async () => {
    const { code, stderr } = await look('marlin');
    expect(code).toBe(2);
    expect(stderr).not.toContain('marlin');
  });
});
