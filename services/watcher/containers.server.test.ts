/** The watcher beside a real engine, which makes, rewrites and takes away the files that it writes. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createDockerEngine } from '@elastic-dns/engine/docker';
import type { Engine } from '@elastic-dns/engine';
import { encodeRecord, view, type StoreRecord } from '@elastic-dns/model';
import { EmbeddedStore } from '@elastic-dns/registry-store/embedded';
import { Mirror } from '@elastic-dns/registry-store/mirror';
import { createLogger, createMetrics, Health } from '@elastic-dns/runtime';
import { startLab, type Lab, type LabNode } from '@elastic-dns/testkit/lab';
import { assertNoneLeft, listHoldings } from '@elastic-dns/testkit/leaks';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { clean } from './clean.ts';
import { hammer } from './fixture.ts';
import { parseHosts } from './hosts-text.ts';
import { readMarked, splitLines } from './marked-line.ts';
import { instanceRecord, registryOf } from './samples.ts';
import { runWatcher, type WatcherStatus } from './watcher.ts';

const SHOP = { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'caller' };
const CALM = [instanceRecord(1, { namespace: 'shop', service: 'calm', ipv4: '10.7.0.1' })];

let lab: Lab;
let node: LabNode;
let holdings: string[];
let network: string;
beforeAll(async () => {
  holdings = listHoldings();
  lab = await startLab({ nodes: 1 });
  node = lab.node('n1');
  network = await node.createNetwork('user-defined');
});
afterAll(async () => {
  await lab.stop();
  await assertNoneLeft(holdings);
});

let folder: string;
let store: EmbeddedStore;
let engine: Engine;
let ending: AbortController;
let running: Promise<void>;
let health: Health;
let status: () => WatcherStatus;
let committed: Map<string, StoreRecord>;

beforeEach(async () => {
  folder = mkdtempSync(path.join(node.dir, 'watcher-'));
  store = new EmbeddedStore({ folder });
  engine = createDockerEngine({ host: node.docker.host });
  committed = new Map();
  await commit(CALM);
  start();
  await waitUntil(() => health.ready().ok, {
    what: 'the watcher to have the registry and the engine in sight',
  });
});
afterEach(async () => {
  await stop();
  await engine.close();
  await store.close();
  if (!node.engine.running()) await node.engine.start();
  await node.docker.remove(...(await node.docker.list()));
});

function start(): void {
  ending = new AbortController();
  health = new Health();
  running = runWatcher({
    mirror: new Mirror({ store }),
    engine,
    config: { hostsDir: path.join(folder, 'hosts'), nodeHosts: null, quietMs: 5, ceilingMs: 50 },
    dataDir: path.join(folder, 'state'),
    node: 'n1',
    logger: createLogger({ level: 'silent' }),
    metrics: createMetrics({ processMetrics: false }),
    health,
    signal: ending.signal,
    onStatus: (given) => (status = given),
  });
}

async function stop(): Promise<void> {
  ending.abort();
  await running;
}

async function commit(puts: StoreRecord[], deletes: StoreRecord[] = []): Promise<void> {
  for (const record of puts) committed.set(encodeRecord(record).key, record);
  for (const record of deletes) committed.delete(encodeRecord(record).key);
  await store.commit({
    puts: puts.map(encodeRecord),
    deletes: deletes.map((record) => encodeRecord(record).key),
  });
}

const run = (overrides: object = {}): Promise<string> =>
  node.docker.run({ image: lab.image, labels: SHOP, ...overrides });

const hostsPathOf = async (id: string): Promise<string> => (await node.docker.inspect(id)).HostsPath;

/** The names of ours that the file gives, against the view of a caller in that namespace. */
async function expectRight(id: string, namespace: string | null = 'shop', timeoutMs = 5_000): Promise<void> {
  const wanted = view(registryOf([...committed.values()]), { namespace });
  const file = await hostsPathOf(id);
  await waitUntil(
    () => {
      const found = parseHosts(readFileSync(file, 'utf8')).filter(({ names }) => names.at(-1)?.includes('.'));
      found.sort((a, b) => (String(a.names.at(-1)) < String(b.names.at(-1)) ? -1 : 1));
      return JSON.stringify(found) === JSON.stringify(wanted);
    },
    { what: `${file} to say ${JSON.stringify(wanted)}`, timeoutMs },
  );
}

/** Changes `busy.shop` this many times a second until told to stop; returns how often it was. */
function keepBusy(perSecond: number): () => Promise<number> {
  let isRunning = true;
  const working = (async () => {
    const beganMs = performance.now();
    let round = 0;
    let before: StoreRecord[] = [];
    for (; isRunning; round++) {
      const next = Array.from({ length: 1 + (round % 3) }, (_, index) =>
        instanceRecord(100 + index + 3 * (round % 50), {
          namespace: 'shop',
          service: 'busy',
          ipv4: `10.8.${round % 250}.${index + 1}`,
        }),
      );
      const keys = new Set(next.map((record) => encodeRecord(record).key));
      await commit(
        next,
        before.filter((record) => !keys.has(encodeRecord(record).key)),
      );
      before = next;
      await sleep(Math.max(0, beganMs + ((round + 1) * 1_000) / perSecond - performance.now()));
    }
    return round;
  })();
  return () => {
    isRunning = false;
    return working;
  };
}

describe("a container's hosts file beside a real engine", () => {
  it("has the names for the container's first command, 30 times out of 30, on the default and a user's network", async () => {
    for (let number = 0; number < 30; number++) {
      const id = await run({
        ...(number % 2 === 0 ? {} : { network }),
        command: ['sh', '-c', 'getent ahosts calm && getent ahosts calm.shop'],
      });
      const exitCode = await node.docker.command(['wait', id]);
      expect({ number, exitCode, said: await node.docker.logs(id) }).toMatchObject({
        exitCode: '0',
        said: expect.stringMatching(/^10\.7\.0\.1 +STREAM calm\n[^]*10\.7\.0\.1 +STREAM calm\n/),
      });
    }
  });

  it('gives each caller its view: own names bare, others qualified, none bare without a namespace', async () => {
    await commit([instanceRecord(2, { namespace: 'blog', service: 'calm', ipv4: '10.7.0.2' })]);
    const [shop, blog, stray, ignored] = await Promise.all([
      run(),
      run({ labels: { 'elastic-dns.namespace': 'blog' } }),
      run({ labels: {} }),
      run({ labels: { ...SHOP, 'elastic-dns.ignore': 'true' } }),
    ]);
    await expectRight(shop);
    await expectRight(blog, 'blog');
    await expectRight(stray, null);
    expect((await node.docker.exec(blog, ['getent', 'ahosts', 'calm'])).stdout).toContain('10.7.0.2');
    expect((await node.docker.exec(stray, ['getent', 'ahosts', 'calm'])).exitCode).not.toBe(0);
    expect(readFileSync(await hostsPathOf(ignored), 'utf8')).not.toContain('elastic-dns');
  });

  it('is right again after the container restarts, stops and starts, and is killed and comes back', async () => {
    const id = await run({ restart: 'always' });
    await expectRight(id);
    await node.docker.restart(id);
    await expectRight(id);
    await node.docker.stop(id);
    expect((await node.docker.inspect(id)).State.Running).toBe(false);
    await node.docker.start(id);
    await expectRight(id);
    const { Pid } = (await node.docker.inspect(id)).State;
    process.kill(Pid, 'SIGKILL');
    await waitUntil(async () => ![0, Pid].includes((await node.docker.inspect(id)).State.Pid), {
      what: 'the engine to start it again',
    });
    await expectRight(id);
  });

  it('is right again after the engine restarts', async () => {
    const id = await run({ restart: 'always' });
    await expectRight(id);
    await node.engine.stop();
    expect(node.engine.running()).toBe(false);
    await node.engine.start();
    await expectRight(id, 'shop', 10_000);
  });

  it('is kept while the engine is dead and its containers run on, and afterwards', async () => {
    const id = await run({ restart: 'always' });
    await expectRight(id);
    const file = await hostsPathOf(id);
    await node.engine.kill();
    expect(node.engine.running()).toBe(false);
    await commit([instanceRecord(3, { namespace: 'shop', service: 'late', ipv4: '10.7.0.3' })]);
    await waitUntil(() => readFileSync(file, 'utf8').includes('10.7.0.3 late late.shop '), {
      what: 'the name to come while the engine is dead',
    });
    await node.engine.start();
    await expectRight(id, 'shop', 10_000);
  });

  it('misses no look-up of an unchanged name while it is written 100 times a second', async () => {
    const id = await run({
      command: [
        'sh',
        '-c',
        'n=0; m=0; while test ! -e /tmp/end; do getent ahosts calm >/dev/null || m=$((m+1)); n=$((n+1)); done; echo "$n look-ups, $m missed"; exec sleep 600',
      ],
    });
    await expectRight(id);
    const calm = '10.7.0.1 calm calm.shop';
    const reader = { path: await hostsPathOf(id), stays: [calm], answers: null, withEngine: false };
    const hammering = await hammer([1_024, 4_096].map((chunkBytes) => ({ ...reader, chunkBytes })));
    const end = keepBusy(100);
    await sleep(5_000);
    const updates = await end();
    const findings = await hammering.end();
    await node.docker.exec(id, ['touch', '/tmp/end']);
    const said = await waitUntil(() => node.docker.logs(id), { what: 'the look-ups to end' });
    console.log(
      `${updates} updates; in the container: ${said.trim()}; beside it: ${JSON.stringify(findings)}`,
    );
    expect(said).toMatch(/^[1-9][0-9]+ look-ups, 0 missed\n$/);
    expect(findings).toMatchObject({ cut: 0, missed: 0, broken: [] });
    expect(findings.changes).toBeGreaterThan(100);
    await expectRight(id);
  });

  it('misses none that the engine’s own rewrite did not cause while networks come and go', async () => {
    const id = await run();
    await expectRight(id);
    const reader = {
      path: await hostsPathOf(id),
      stays: ['10.7.0.1 calm calm.shop'],
      answers: null,
      withEngine: true,
    };
    const hammering = await hammer([1_024, 4_096].map((chunkBytes) => ({ ...reader, chunkBytes })));
    const end = keepBusy(100);
    for (let turn = 0; turn < 12; turn++) {
      await node.docker.command(['network', 'connect', network, id]);
      await node.docker.command(['network', 'disconnect', network, id]);
    }
    const updates = await end();
    const findings = await hammering.end();
    console.log(`${updates} updates, 12 networks: ${JSON.stringify(findings)}`);
    // `cut`: the engine had emptied the file and was writing it. Nothing else is missing anything.
    expect(findings).toMatchObject({ missed: 0, broken: [] });
    await expectRight(id);
    // What the engine leaves of its own lines, it leaves in a file that nobody else writes.
    const control = await run({ labels: { 'elastic-dns.ignore': 'true' } });
    const before = readFileSync(await hostsPathOf(control), 'utf8');
    await node.docker.command(['network', 'connect', network, control]);
    await node.docker.command(['network', 'disconnect', network, control]);
    const after = readFileSync(await hostsPathOf(control), 'utf8');
    expect(after).not.toBe(before);
    const foreign = [...splitLines(readFileSync(reader.path))]
      .filter(({ text }) => readMarked(text).kind === 'foreign')
      .map(({ text }) => `${text}\n`);
    expect(foreign.join('')).toBe(after);
  });

  it('keeps what a process inside has added by hand, and gets back what one has taken out', async () => {
    const id = await run();
    await expectRight(id);
    await node.docker.exec(id, ['sh', '-c', 'echo "10.9.9.9 by-hand" >> /etc/hosts']);
    await commit([instanceRecord(3, { namespace: 'shop', service: 'late', ipv4: '10.7.0.3' })]);
    await expectRight(id);
    expect((await node.docker.exec(id, ['getent', 'ahosts', 'by-hand'])).stdout).toContain('10.9.9.9');
    const harm = 'grep -v elastic-dns /etc/hosts > /tmp/h; cat /tmp/h > /etc/hosts';
    expect((await node.docker.exec(id, ['sh', '-c', harm])).exitCode).toBe(0);
    await expectRight(id);
    expect((await node.docker.exec(id, ['getent', 'ahosts', 'by-hand'])).stdout).toContain('10.9.9.9');
  });

  it('is reported while it is read-only or gone, and right again as soon as it can be', async () => {
    const id = await run();
    await expectRight(id);
    const file = await hostsPathOf(id);
    execFileSync('chattr', ['+i', file]);
    try {
      await commit([instanceRecord(3, { namespace: 'shop', service: 'late', ipv4: '10.7.0.3' })]);
      await waitUntil(() => status().problems[0]?.kind === 'read-only', { what: 'the problem to be seen' });
      expect(readFileSync(file, 'utf8')).not.toContain('late.shop');
    } finally {
      execFileSync('chattr', ['-i', file]);
    }
    await expectRight(id);
    await waitUntil(() => status().problems.length === 0, { what: 'the problem to be over' });
    const content = readFileSync(file);
    rmSync(file);
    await waitUntil(() => status().problems[0]?.kind === 'missing', { what: 'the loss to be seen' });
    writeFileSync(file, content);
    await waitUntil(() => status().problems.length === 0, { what: 'the loss to be over' });
    rmSync(file);
    await node.docker.restart(id);
    await expectRight(id);
  });

  it('is never one of the node that somebody has mounted over the container’s own', async () => {
    const mine = path.join(folder, 'my-hosts');
    writeFileSync(mine, '127.0.0.1 localhost\n192.0.2.9 printer\n');
    const id = await run({ extra: ['--volume', `${mine}:/etc/hosts`] });
    const other = await run();
    await expectRight(other);
    await commit([instanceRecord(3, { namespace: 'shop', service: 'late', ipv4: '10.7.0.3' })]);
    await expectRight(other);
    expect((await node.docker.inspect(id)).State.Running).toBe(true);
    expect(readFileSync(mine, 'utf8')).toBe('127.0.0.1 localhost\n192.0.2.9 printer\n');
  });

  it('is shared by a container that has joined another one’s network, and written once', async () => {
    const id = await run();
    const joined = await run({ network: `container:${id}`, command: ['sleep', '600'] });
    await expectRight(id);
    expect((await node.docker.exec(joined, ['getent', 'ahosts', 'calm'])).stdout).toContain('10.7.0.1');
    expect(status().containers).toBe(1);
  });

  it('is as the engine made it once clean has run, in containers that run and that do not', async () => {
    const before = await run({ labels: { 'elastic-dns.ignore': 'true' } });
    const [id, stopped] = [await run(), await run()];
    await expectRight(id);
    await expectRight(stopped);
    await node.docker.stop(stopped);
    await stop();
    const files = [await hostsPathOf(id), await hostsPathOf(stopped)];
    const cleaned = await clean({ hostsDir: path.join(folder, 'hosts'), nodeHosts: null, engine });
    expect(cleaned.map(({ path: file }) => file)).toEqual(expect.arrayContaining(files));
    const plain = readFileSync(await hostsPathOf(before), 'utf8').split('\n').length;
    for (const file of files) {
      const text = readFileSync(file, 'utf8');
      expect(text).not.toContain('elastic-dns');
      expect(text).toContain('127.0.0.1\tlocalhost\n');
      expect(text.split('\n').length).toBeLessThanOrEqual(plain);
    }
    expect(await clean({ hostsDir: path.join(folder, 'hosts'), nodeHosts: null, engine })).toEqual([]);
  });
});
