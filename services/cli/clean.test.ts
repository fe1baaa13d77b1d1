import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EmbeddedStore } from '@elastic-dns/registry-store/embedded';
import { Mirror } from '@elastic-dns/registry-store/mirror';
import { createLogger, createMetrics, Health, openDataDir } from '@elastic-dns/runtime';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { runWatcher } from '@elastic-dns/watcher';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { fillDataDir, runCli, type Outcome } from './fixture.ts';

checkLeaks();

const FOREIGN = '127.0.0.1 localhost\n192.0.2.9 printer\n';

let folder: string;
let hostsDir: string;
let nodeHosts: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'elastic-dns-clean-'));
  hostsDir = join(folder, 'hosts');
  nodeHosts = join(folder, 'etc-hosts');
  writeFileSync(nodeHosts, FOREIGN);
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Runs a watcher on a filled data folder until its files are there, then ends it. */
async function writeHosts(): Promise<void> {
  await fillDataDir(folder);
  openDataDir(join(folder, 'watcher')).release();
  const store = new EmbeddedStore({ folder });
  const ending = new AbortController();
  const watching = runWatcher({
    mirror: new Mirror({ store }),
    engine: null,
    config: { hostsDir, nodeHosts, quietMs: 0, ceilingMs: 0 },
    dataDir: join(folder, 'watcher'),
    node: 'node-a',
    logger: createLogger({ level: 'silent' }),
    metrics: createMetrics({ processMetrics: false }),
    health: new Health(),
    signal: ending.signal,
  });
  try {
    await waitUntil(() => readFileSync(nodeHosts, 'utf8').includes('api.web-front-end'), {
      what: "the names in the node's file",
    });
    await waitUntil(() => readdirSync(hostsDir).includes('backoffice'), { what: "a namespace's file" });
  } finally {
    ending.abort();
    await watching;
    await store.close();
  }
}

const clean = (...argv: string[]): Promise<Outcome> =>
  runCli(['clean', ...argv, '--data-dir', folder, '--node-hosts', nodeHosts], {
    ELASTIC_DNS_ENGINE_HOST: `unix://${folder}/no-engine.sock`,
  });

test('takes out every line of ours and not a byte of others', async () => {
  await writeHosts();
  writeFileSync(join(hostsDir, 'notes'), 'mine\n');
  const { code, stdout } = await clean('--watcher-containers', 'false');
  expect(code).toBe(0);
  expect(stdout).toContain(`${join(hostsDir, 'backoffice')}: file removed\n`);
  expect(stdout).toContain(`${nodeHosts}: block removed\n`);
  expect(readFileSync(nodeHosts, 'utf8')).toBe(FOREIGN);
  expect(readdirSync(hostsDir)).toEqual(['notes']);
});

test('says what it took out, for programs', async () => {
  await writeHosts();
  const { stdout } = await clean('--watcher-containers', 'false', '--json');
  expect(JSON.parse(stdout)).toContainEqual({ path: nodeHosts, what: 'block removed' });
});

test('is refused while a watcher runs, which would write it all again', async () => {
  await writeHosts();
  const before = readFileSync(nodeHosts, 'utf8');
  const running = openDataDir(join(folder, 'watcher'));
  try {
    const { code, stderr } = await clean();
    expect(code).toBe(2);
    expect(stderr).toContain(`in use by process ${process.pid}`);
    expect(readFileSync(nodeHosts, 'utf8')).toBe(before);
  } finally {
    running.release();
  }
});

test('cleans what it can reach when the engine does not answer, and says what is left', async () => {
  await writeHosts();
  const { code, stderr } = await clean();
  expect(code).toBe(4);
  expect(stderr).toContain("the containers' files were left as they are");
  expect(readFileSync(nodeHosts, 'utf8')).toBe(FOREIGN);
});

test('fails, and names the file, where something cannot be taken out', async () => {
  await writeHosts();
  const broken = readFileSync(nodeHosts, 'utf8').replace(/^# END .*\n/m, '');
  writeFileSync(nodeHosts, broken);
  const { code, stdout } = await clean('--watcher-containers', 'false');
  expect(code).toBe(1);
  expect(stdout).toContain(`${nodeHosts}: failed: `);
});

test('finds nothing, and leaves nothing, where nothing has run', async () => {
  const { code, stderr } = await clean('--watcher-containers', 'false');
  expect([code, stderr]).toEqual([0, 'elastic-dns: there was nothing to take out\n']);
  expect(readdirSync(folder)).toEqual(['etc-hosts']);
});
