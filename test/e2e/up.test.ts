/** A single server: `up` as it ships, on a real engine and without one. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { startLab, type Lab, type LabNode } from '@elastic-dns/testkit/lab';
import { runProcess, spawnProcess, type Output, type SpawnedProcess } from '@elastic-dns/testkit/processes';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readNames } from './cluster.ts';

const BUNDLE = fileURLToPath(new URL('../../dist/elastic-dns.mjs', import.meta.url));

let lab: Lab;
let node: LabNode;
let dataDir: string;
let started: SpawnedProcess[];

beforeAll(async () => {
  lab = await startLab({ nodes: 1 });
  node = lab.node('n1');
});

afterAll(async () => {
  await lab?.stop();
});

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), 'up-'));
  started = [];
});

afterEach(async () => {
  await Promise.all(started.map((each) => each.stop()));
  const containers = await node.docker.list();
  if (containers.length > 0) await node.docker.remove(...containers);
  rmSync(dataDir, { recursive: true });
});

const environment = (engine: string): Record<string, string> => ({
  ELASTIC_DNS_DATA_DIR: dataDir,
  ELASTIC_DNS_HTTP_PORT: 'off',
  ELASTIC_DNS_ENGINE_HOST: engine,
  ELASTIC_DNS_WATCHER_NODE_HOSTS: path.join(dataDir, 'node-hosts'),
});
const engineHost = (): string => `unix://${node.socket}`;

function elasticDns(...argv: string[]): Promise<Output> {
  return runProcess(lab.run, [process.execPath, BUNDLE, ...argv], {
    name: 'elastic-dns',
    env: environment(engineHost()),
  });
}

async function startUp(engine = engineHost(), ...argv: string[]): Promise<SpawnedProcess> {
  const up = await spawnProcess(lab.run, [process.execPath, BUNDLE, 'up', ...argv], {
    name: 'up',
    env: environment(engine),
  });
  started.push(up);
  return up;
}

function run(service: string, command?: string[]): Promise<string> {
  const labels = { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': service };
  return node.docker.run({ image: lab.image, labels, ...(command ? { command } : {}) });
}

async function hostsOf(container: string): Promise<string> {
  return (await node.docker.exec(container, ['cat', '/etc/hosts'])).stdout;
}

const resolves = (container: string, ...names: string[]): Promise<boolean> =>
  waitUntil(
    async () => {
      const said = Object.keys(readNames(await hostsOf(container)));
      return names.every((name) => said.includes(name));
    },
    { what: `${names.join(', ')} in the container's hosts file` },
  );

describe('up on a container engine', () => {
  it('--once ends when the names are in place, and changes nothing the second time', async () => {
    const [web] = [await run('web'), await run('api')];
    const first = await elasticDns('up', '--once');
    expect(first).toMatchObject({ exitCode: 0 });
    const text = await hostsOf(web);
    expect(Object.keys(readNames(text))).toEqual(expect.arrayContaining(['web', 'api', 'api.shop']));
    const files = [path.join(dataDir, 'hosts', 'shop'), path.join(dataDir, 'node-hosts')];
    const before = files.map((file) => [statSync(file).ino, readFileSync(file, 'utf8')]);
    expect(await elasticDns('up', '--once')).toMatchObject({ exitCode: 0 });
    expect(files.map((file) => [statSync(file).ino, readFileSync(file, 'utf8')])).toEqual(before);
    expect(await hostsOf(web)).toBe(text);
  });

  it('follows containers, refuses a second process, answers the commands, and ends in order on Ctrl-C', async () => {
    const up = await startUp();
    const web = await run('web');
    await resolves(web, 'web');
    await run('api');
    await resolves(web, 'api', 'api.shop');
    const second = await elasticDns('up', '--once');
    expect(second).toMatchObject({ exitCode: 2 });
    expect(second.stderr).toContain(String(up.pid));
    const { addresses } = JSON.parse(
      (await elasticDns('resolve', 'api', '--as', 'shop', '--json')).stdout,
    ) as { addresses: string[] };
    expect(addresses).toEqual(readNames(await hostsOf(web))['api']);
    expect((await elasticDns('list')).stdout).toMatch(/shop +api +1\/1/);
    expect((await elasticDns('events', '--service', 'api')).stdout).toContain('instance.started');
    const text = await hostsOf(web);
    process.kill(up.pid, 'SIGINT');
    expect(await up.exited).toMatchObject({ exitCode: 0 });
    expect(await hostsOf(web)).toBe(text);
    expect(readdirSync(path.join(dataDir, 'hosts')).filter((name) => name !== 'shop')).toEqual([]);
  });

  it('is killed with -9 in the middle of a burst, starts again and catches up', async () => {
    const up = await startUp();
    const web = await run('web');
    await resolves(web, 'web');
    const burst = Promise.all(Array.from({ length: 6 }, () => run('api')));
    await up.kill();
    expect(up.state()).toBe('gone');
    const [gone = ''] = await burst;
    await node.docker.remove(gone);
    await startUp();
    const left = (await node.docker.list()).length - 1;
    await waitUntil(async () => readNames(await hostsOf(web))['api']?.length === left, {
      what: 'the five that are left',
    });
  });

  it('clean takes every line out again, and nothing else', async () => {
    const web = await run('web');
    const before = await hostsOf(web);
    expect(await elasticDns('up', '--once')).toMatchObject({ exitCode: 0 });
    expect(await hostsOf(web)).not.toBe(before);
    const cleaned = await elasticDns('clean');
    expect(cleaned).toMatchObject({ exitCode: 0 });
    expect(await hostsOf(web)).toBe(before);
    expect(existsSync(path.join(dataDir, 'hosts', 'shop'))).toBe(false);
    expect(readFileSync(path.join(dataDir, 'node-hosts'), 'utf8')).not.toContain('shop');
    expect((await elasticDns('clean')).stdout).toBe('');
  });

  it('clean is refused while a watcher would write it all again', async () => {
    await startUp();
    await waitUntil(() => existsSync(path.join(dataDir, 'watcher')), { what: 'the watcher to be there' });
    expect(await elasticDns('clean')).toMatchObject({ exitCode: 2 });
  });

  it('waits for an engine that comes later, if told to', async () => {
    await node.engine.stop();
    expect(node.engine.running()).toBe(false);
    const up = await startUp(engineHost(), '--demo', 'never');
    await waitUntil(() => up.stderr().includes('answers'), { what: 'it to say that no engine answers' });
    await node.engine.start();
    const web = await run('web');
    await resolves(web, 'web.shop');
  });
});

describe('up without a container engine', () => {
  it('says so, plays the recorded trace through the same way, and shows what every node resolves', async () => {
    const env = environment(`unix://${path.join(dataDir, 'no.sock')}`);
    const { exitCode, stdout, stderr } = await runProcess(
      lab.run,
      [process.execPath, BUNDLE, 'up', '--once'],
      { name: 'demo', env },
    );
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stderr).toContain('no container engine answers');
    const files = ['node-1', 'node-2', 'node-3'].map((name) =>
      readFileSync(path.join(dataDir, 'demo', name, 'hosts'), 'utf8'),
    );
    expect(new Set(files).size).toBe(1);
    const names = readNames(files[0] ?? '');
    for (const name of ['web.web-front-end', 'api.web-front-end', 'scheduler.backoffice-workers']) {
      expect(names[name]?.length).toBeGreaterThan(0);
      expect(stdout).toContain(`${name} -> `);
    }
    // A crash, a stop and the old version's end are in the trace: names lose addresses again.
    expect(stdout).toMatch(/engine says die/);
    expect(existsSync(path.join(dataDir, 'demo', 'node-1', 'namespaces', 'web-front-end'))).toBe(true);
  });

  it('ends in order on Ctrl-C in the middle', async () => {
    const demo = await startUp(`unix://${path.join(dataDir, 'no.sock')}`);
    await waitUntil(() => demo.stdout().includes('->'), { what: 'the first name' });
    process.kill(demo.pid, 'SIGINT');
    expect(await demo.exited).toMatchObject({ exitCode: 0 });
  });
});
