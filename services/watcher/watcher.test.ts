import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PlayedEngine } from '@elastic-dns/engine/trace';
import { encodeRecord, UnavailableError, view, type Registry, type StoreRecord } from '@elastic-dns/model';
import { sampleContainerId } from '@elastic-dns/model/samples';
import type { Store } from '@elastic-dns/registry-store';
import { EmbeddedStore } from '@elastic-dns/registry-store/embedded';
import { Mirror } from '@elastic-dns/registry-store/mirror';
import { createLogger, createMetrics, Health, VirtualClock, type Metrics } from '@elastic-dns/runtime';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseHosts } from './hosts-text.ts';
import { instanceRecord, registryOf } from './samples.ts';
import { runWatcher, type WatcherStatus } from './watcher.ts';

checkLeaks();

const ENGINE_LINES = '127.0.0.1\tlocalhost\n172.17.0.2\t0c1f2a3b4c5d\n';
/** A store that nobody can reach. */
const LOST: Pick<Store, 'read' | 'watch' | 'get'> = {
  get: () => Promise.reject(new UnavailableError('out of reach')),
  read: () => {
    throw new UnavailableError('out of reach');
  },
  watch: () => {
    throw new UnavailableError('out of reach');
  },
};

let folder: string;
let store: EmbeddedStore;
let clock: VirtualClock;
let engine: PlayedEngine;
let metrics: Metrics;
let health: Health;
let ending: AbortController;
let running: Promise<void> | null;
let status: () => WatcherStatus;
let committed: Map<string, StoreRecord>;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'watcher-'));
  store = new EmbeddedStore({ folder: path.join(folder, 'store') });
  clock = new VirtualClock(1_700_000_000_000);
  engine = new PlayedEngine({ name: 'played', version: '1' });
  committed = new Map();
  running = null;
});

afterEach(async () => {
  await stop();
  await store.close();
  rmSync(folder, { recursive: true });
});

const hostsDir = (): string => path.join(folder, 'hosts');
const nodeHosts = (): string => path.join(folder, 'node-hosts');

function start(source: Pick<Store, 'read' | 'watch' | 'get'> = store): void {
  metrics = createMetrics({ processMetrics: false });
  health = new Health();
  ending = new AbortController();
  running = runWatcher({
    mirror: new Mirror({ store: source, clock }),
    engine,
    config: { hostsDir: hostsDir(), nodeHosts: nodeHosts(), quietMs: 5, ceilingMs: 50 },
    dataDir: path.join(folder, 'state'),
    node: 'node-a',
    logger: createLogger({ level: 'silent' }),
    metrics,
    health,
    clock,
    signal: ending.signal,
    onStatus: (given) => (status = given),
  });
}

async function stop(): Promise<void> {
  if (!running) return;
  ending.abort();
  await clock.advance(10);
  await running;
  running = null;
}

async function commit(puts: StoreRecord[], deletes: StoreRecord[] = []): Promise<void> {
  for (const record of puts) committed.set(encodeRecord(record).key, record);
  for (const record of deletes) committed.delete(encodeRecord(record).key);
  await store.commit({
    puts: puts.map(encodeRecord),
    deletes: deletes.map((record) => encodeRecord(record).key),
  });
}

/** Lets time pass until the check holds; the disk is real and takes its own time. */
async function until(check: () => void): Promise<void> {
  for (let turn = 0; ; turn++) {
    try {
      check();
      return;
    } catch (error) {
      if (turn === 600) throw error;
    }
    await clock.advance(10);
  }
}

async function untilMetric(pattern: RegExp): Promise<void> {
  let text = '';
  await until(() => {
    void metrics.metrics().then((given) => (text = given));
    expect(text).toMatch(pattern);
  });
}

const registry = (): Registry => registryOf([...committed.values()]);
const readNamespace = (namespace: string): string => readFileSync(path.join(hostsDir(), namespace), 'utf8');

function expectAllRight(): void {
  expect(readdirSync(hostsDir()).sort()).toEqual([...registry().namespaces.keys()].sort());
  for (const namespace of registry().namespaces.keys())
    expect(parseHosts(readNamespace(namespace))).toEqual(view(registry(), { namespace }));
  expect(parseHosts(readFileSync(nodeHosts(), 'utf8'))).toEqual(view(registry(), { namespace: null }));
  expect(status().problems).toEqual([]);
}

function node(observedAtMs: number, sequence: number): StoreRecord {
  const order = { epoch: 1, sequence };
  return {
    kind: 'node',
    node: 'node-a',
    zone: null,
    ipv4: null,
    ipv6: null,
    latest: order,
    snapshot: order,
    observedAtMs,
  };
}

describe('the watcher', () => {
  it('brings every file in line with the registry, and keeps it there as the registry changes (L1)', async () => {
    await commit([instanceRecord(1, { namespace: 'shop' })]);
    start();
    await until(expectAllRight);
    await commit([instanceRecord(2, { namespace: 'blog' }), instanceRecord(3, { namespace: 'shop' })]);
    await until(expectAllRight);
    await commit([], [instanceRecord(2, { namespace: 'blog' })]);
    await until(expectAllRight);
    await until(() => expect(status().writtenRevision).toBe(status().revision));
    expect(status()).toMatchObject({ state: 'live', ageMs: 0, namespaces: 1 });
    expect(health.ready()).toMatchObject({ ok: true });
  });

  it('is settled only when the containers that the engine lists late have their lines as well', async () => {
    const container = startContainer();
    const listed = Promise.withResolvers<void>();
    const list = engine.list.bind(engine);
    engine.list = async () => {
      await listed.promise;
      return list();
    };
    await commit([instanceRecord(1, { namespace: 'shop' })]);
    start();
    await until(expectAllRight);
    await clock.advance(1_000);
    expect(status()).toMatchObject({ isSettled: false, writtenRevision: status().revision });
    listed.resolve();
    await until(() => expect(status().isSettled).toBe(true));
    expect(readFileSync(container, 'utf8')).toContain('api.shop');
  });

  it('writes nothing before anything is known of the registry', async () => {
    mkdirSync(hostsDir());
    writeFileSync(nodeHosts(), '# BEGIN elastic-dns\n10.0.0.9 api.shop\n# END elastic-dns\n');
    const container = startContainer();
    start(LOST);
    await clock.advance(10_000);
    expect(readdirSync(hostsDir())).toEqual([]);
    expect(readFileSync(nodeHosts(), 'utf8')).toContain('10.0.0.9 api.shop');
    expect(readFileSync(container, 'utf8')).toBe(ENGINE_LINES);
    expect(health.ready()).toMatchObject({ ok: false });
  });

  it('takes its lines out where the registry is known to be empty', async () => {
    writeFileSync(nodeHosts(), '# BEGIN elastic-dns\n10.0.0.9 api.shop\n# END elastic-dns\n');
    start();
    await until(() => expect(readFileSync(nodeHosts(), 'utf8')).not.toContain('api.shop'));
  });

  it('keeps every byte when it starts again with the store out of reach, and says how old that is (S7)', async () => {
    await commit([instanceRecord(1, { namespace: 'shop' }), instanceRecord(2, { namespace: 'blog' })]);
    const container = startContainer();
    start();
    await until(expectAllRight);
    await until(() => expect(readFileSync(container, 'utf8')).toContain('api.blog'));
    await stop();
    const files = [path.join(hostsDir(), 'shop'), path.join(hostsDir(), 'blog'), nodeHosts(), container];
    const before = files.map((file) => [readFileSync(file), statSync(file).ino]);
    await clock.advance(60_000);
    start(LOST);
    await until(() => expect(status()).toMatchObject({ state: 'stale', containers: 1, namespaces: 2 }));
    await clock.advance(5_000);
    expect(files.map((file) => [readFileSync(file), statSync(file).ino])).toEqual(before);
    expect(status().ageMs).toBeGreaterThanOrEqual(65_000);
    await untilMetric(/elastic_dns_watcher_state_age_seconds (6[5-9]|[7-9][0-9])/);
    expect(health.ready()).toMatchObject({
      ok: false,
      checks: { watcher: { why: expect.stringMatching(/last good/) } },
    });
    // A file that is lost meanwhile comes back from what is known.
    rmSync(path.join(hostsDir(), 'shop'));
    await until(expectAllRight);
  });

  it('mends what others do to its files within seconds (L1)', async () => {
    await commit([instanceRecord(1, { namespace: 'shop' })]);
    const container = startContainer();
    start();
    await until(expectAllRight);
    await until(() => expect(readFileSync(container, 'utf8')).toContain('api.shop'));
    rmSync(path.join(hostsDir(), 'shop'));
    writeFileSync(nodeHosts(), '');
    writeFileSync(container, ENGINE_LINES);
    const harmedMs = clock.now();
    await until(() => {
      expectAllRight();
      expect(readFileSync(container, 'utf8')).toContain('api.shop');
    });
    expect(clock.now() - harmedMs).toBeLessThanOrEqual(5_000);
  });

  it('measures how long an event took to the files, and tells what it has written', async () => {
    await commit([instanceRecord(1, { namespace: 'shop' }), node(clock.now() - 3_600_000, 1)]);
    start();
    await until(expectAllRight);
    await commit([instanceRecord(2, { namespace: 'shop' }), node(clock.now() - 200, 2)]);
    await until(expectAllRight);
    await until(() => expect(status().writtenRevision).toBe(status().revision));
    const text = await metrics.metrics();
    // The event of an hour ago was there when the watcher came.
    expect(text).toMatch(/elastic_dns_event_to_hosts_seconds_count 1\n/);
    expect(text).toMatch(/elastic_dns_event_to_hosts_seconds_bucket{le="0.1"} 0\n/);
    expect(text).toMatch(/elastic_dns_event_to_hosts_seconds_bucket{le="30"} 1\n/);
    expect(text).toMatch(/elastic_dns_watcher_files_written_total{kind="namespace"} 2\n/);
    await untilMetric(new RegExp(`elastic_dns_watcher_store_revision ${status().revision}\n`));
    expect(status().snapshot).toEqual({ epoch: 1, sequence: 2 });
  });

  it('goes on where a file cannot be kept, says which and why, and mends it once it can', async () => {
    mkdirSync(nodeHosts());
    await commit([instanceRecord(1, { namespace: 'shop' })]);
    start();
    await until(() =>
      expect(parseHosts(readNamespace('shop'))).toEqual(view(registry(), { namespace: 'shop' })),
    );
    await until(() => expect(status().problems).toMatchObject([{ path: nodeHosts(), kind: 'refused' }]));
    expect(health.ready()).toMatchObject({ ok: false });
    expect(status().writtenRevision).toBe(status().revision);
    expect(await metrics.metrics()).toMatch(
      /elastic_dns_watcher_write_problems_total{problem="refused"} 1\n/,
    );
    rmSync(nodeHosts(), { recursive: true });
    await until(expectAllRight);
  });

  it('ends with the error of a store that cannot be followed for good', async () => {
    const wrong = { ...LOST, get: () => Promise.reject(new Error('a bug')) };
    start(wrong);
    const ended = running;
    running = null;
    await Promise.all([expect(ended).rejects.toThrow('a bug'), clock.advance(100)]);
  });

  /** A container that runs, with the file that the engine has made for it. */
  function startContainer(): string {
    const id = sampleContainerId(7);
    const hostsPath = path.join(folder, 'containers', id, 'hosts');
    mkdirSync(path.dirname(hostsPath), { recursive: true });
    writeFileSync(hostsPath, ENGINE_LINES);
    engine.play(
      { containerId: id, atNs: 1n, kind: 'start' },
      {
        id,
        name: 'c',
        labels: { 'com.docker.compose.project': 'blog' },
        status: 'running',
        health: 'none',
        startedAtMs: 1,
        hostNetwork: false,
        networks: [],
        ports: [],
        stopSignal: 15,
        hostsPath,
      },
    );
    return hostsPath;
  }
});
