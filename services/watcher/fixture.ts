/**
 * For the tests beside a real engine: a lab of one node, and on it for each test a watcher with a store of its own.
 */
import { mkdtempSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { createDockerEngine } from '@elastic-dns/engine/docker';
import type { Engine } from '@elastic-dns/engine';
import { encodeRecord, view, type StoreRecord } from '@elastic-dns/model';
import { EmbeddedStore } from '@elastic-dns/registry-store/embedded';
import { Mirror } from '@elastic-dns/registry-store/mirror';
import { createLogger, createMetrics, Health } from '@elastic-dns/runtime';
import { startLab, type Lab, type LabNode } from '@elastic-dns/testkit/lab';
import { assertNoneLeft, listHoldings } from '@elastic-dns/testkit/leaks';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { parseHosts } from './hosts-text.ts';
import { instanceRecord, registryOf } from './samples.ts';
import { runWatcher, type WatcherStatus } from './watcher.ts';

export const SHOP = { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'caller' };
/** Is there from the beginning: `calm.shop` at 10.7.0.1. */
const CALM = [instanceRecord(1, { namespace: 'shop', service: 'calm', ipv4: '10.7.0.1' })];

let lab: Lab;
let holdings: string[];
let store: EmbeddedStore;
let ending: AbortController;
let running: Promise<void>;
let committed: Map<string, StoreRecord>;

/** What a test has at hand. */
export const beside: {
  node: LabNode;
  /** A network of a user's. */
  network: string;
  /** The watcher's own. */
  folder: string;
  engine: Engine;
  status: () => WatcherStatus;
} = {} as never;

/** Registers all of that around the tests of a file. */
export function setUpBeside(): void {
  beforeAll(async () => {
    holdings = listHoldings();
    lab = await startLab({ nodes: 1 });
    beside.node = lab.node('n1');
    beside.network = await beside.node.createNetwork('user-defined');
  });
  afterAll(async () => {
    await lab.stop();
    await assertNoneLeft(holdings);
  });
  beforeEach(async () => {
    beside.folder = mkdtempSync(path.join(beside.node.dir, 'watcher-'));
    store = new EmbeddedStore({ folder: beside.folder });
    beside.engine = createDockerEngine({ host: beside.node.docker.host });
    committed = new Map();
    await commit(CALM);
    const health = startWatcher();
    await waitUntil(() => health.ready().ok, {
      what: 'the watcher to have the registry and the engine in sight',
    });
  });
  afterEach(async () => {
    const { node, engine } = beside;
    await stopWatcher();
    await engine.close();
    await store.close();
    if (!node.engine.running()) await node.engine.start();
    await node.docker.remove(...(await node.docker.list()));
  });
}

function startWatcher(): Health {
  const health = new Health();
  ending = new AbortController();
  running = runWatcher({
    mirror: new Mirror({ store }),
    engine: beside.engine,
    config: { hostsDir: path.join(beside.folder, 'hosts'), nodeHosts: null, quietMs: 5, ceilingMs: 50 },
    dataDir: path.join(beside.folder, 'state'),
    node: 'n1',
    logger: createLogger({ level: 'silent' }),
    metrics: createMetrics({ processMetrics: false }),
    health,
    signal: ending.signal,
    onStatus: (status) => (beside.status = status),
  });
  return health;
}

export async function stopWatcher(): Promise<void> {
  ending.abort();
  await running;
}

export async function commit(puts: StoreRecord[], deletes: StoreRecord[] = []): Promise<void> {
  for (const record of puts) committed.set(encodeRecord(record).key, record);
  for (const record of deletes) committed.delete(encodeRecord(record).key);
  await store.commit({
    puts: puts.map(encodeRecord),
    deletes: deletes.map((record) => encodeRecord(record).key),
  });
}

/** A container of `shop`, or as told; gives its id. */
export const run = (overrides: object = {}): Promise<string> =>
  beside.node.docker.run({ image: lab.image, labels: SHOP, ...overrides });

export const hostsPathOf = async (id: string): Promise<string> =>
  (await beside.node.docker.inspect(id)).HostsPath;

/** Waits until the names of ours that the container's file gives are those of a caller in that namespace (L1). */
export async function expectRight(
  id: string,
  namespace: string | null = 'shop',
  timeoutMs = 5_000,
): Promise<void> {
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
