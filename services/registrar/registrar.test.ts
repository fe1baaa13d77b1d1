/** The registrar on the embedded log and store, with a store in front that loses requests and answers on demand. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { EmbeddedLog } from '@elastic-dns/event-log/embedded';
import {
  encodeEvent,
  encodeRecord,
  fold,
  formatEventId,
  LEADER_KEY,
  REGISTRY_RANGE,
  Registry,
  UnavailableError,
  type Event,
} from '@elastic-dns/model';
import { EMPTY_SNAPSHOT, sampleEvent, sampleInstance } from '@elastic-dns/model/samples';
import type { Commit, Leadership, Store } from '@elastic-dns/registry-store';
import { EmbeddedStore } from '@elastic-dns/registry-store/embedded';
import { createLogger, createMetrics, Health, type Metrics } from '@elastic-dns/runtime';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { runRegistrar } from './index.ts';
import { loadRegistry } from './consume.ts';

const logger = createLogger({ level: 'silent' });
const WAIT = { timeout: 10_000, interval: 5 };

let folder: string;
let log: EmbeddedLog;
let store: EmbeddedStore;
let stop: AbortController;
let running: Promise<void>[];

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'registrar-'));
  log = new EmbeddedLog({ folder });
  store = new EmbeddedStore({ folder });
  stop = new AbortController();
  running = [];
});

afterEach(async () => {
  stop.abort();
  await Promise.all(running);
  await log.close();
  await store.close();
  rmSync(folder, { recursive: true });
});

function start(options: { store?: Store; candidate?: string; signal?: AbortSignal } = {}): Metrics {
  const metrics = createMetrics({ processMetrics: false });
  running.push(
    runRegistrar({
      log,
      store: options.store ?? store,
      candidate: options.candidate ?? 'r1',
      leaseTtlMs: 2_000,
      logger,
      metrics,
      health: new Health(),
      signal: options.signal ?? stop.signal,
    }),
  );
  return metrics;
}

async function publish(event: Event): Promise<void> {
  await log.publish({
    node: event.id.node,
    type: event.type,
    id: formatEventId(event.id),
    data: encodeEvent(event),
  });
}

const started = (node: string, sequence: number, number = sequence): Event =>
  sampleEvent(node, sequence, { type: 'instance.started', data: { instance: sampleInstance(node, number) } });

/** Waits until the store's cursor has reached the log's end; the store's registry and the fold of the log. */
async function settle(): Promise<{ stored: Registry; folded: Registry }> {
  const { last } = await log.info();
  const { registry: stored } = await vi.waitFor(async () => {
    const loaded = await loadRegistry(store, logger);
    expect(loaded.registry.cursor?.sequence).toBe(last);
    return loaded;
  }, WAIT);
  const folded = new Registry();
  for await (const entries of log.read({ from: 1, follow: false })) {
    for (const entry of entries) folded.apply(fold(folded, entry).change);
  }
  return { stored, folded };
}

const values = (registry: Registry): Record<string, string> =>
  Object.fromEntries([...registry.records.values()].map(encodeRecord).map(({ key, value }) => [key, value]));

async function expectStoreIsFold(): Promise<Registry> {
  const { stored, folded } = await settle();
  expect(values(stored)).toEqual(values(folded));
  return stored;
}

/** The real store, whose commits a test can interfere with. */
function interposed(commit: (request: Commit, number: number) => Promise<bigint>): Store {
  let number = 0;
  return {
    maxOperations: store.maxOperations,
    maxBytes: store.maxBytes,
    read: (range) => store.read(range),
    watch: (range, after, signal) => store.watch(range, after, signal),
    commit: (request) => commit(request, ++number),
    campaign: (options) => store.campaign(options),
    get: (key) => store.get(key),
    close: () => store.close(),
  };
}

async function sumOf(metrics: Metrics, name: string, labels: Record<string, string> = {}): Promise<number> {
  const metric = await metrics.getSingleMetric(name)?.get();
  return (metric?.values ?? [])
    .filter((value) => Object.entries(labels).every(([label, text]) => value.labels[label] === text))
    .reduce((sum, { value }) => sum + value, 0);
}

describe('registrar', () => {
  it('S4: the store holds the fold of the log, cursor included', async () => {
    start();
    for (let sequence = 1; sequence <= 300; sequence++) await publish(started('n1', sequence));
    for (let number = 1; number <= 300; number += 2) {
      const data = { id: sampleInstance('n1', number).id, reason: 'exit code 0' };
      await publish(sampleEvent('n1', 300 + number, { type: 'instance.stopped', data }));
    }
    const stored = await expectStoreIsFold();
    expect(stored.instances('web-front-end', 'api').size).toBe(150);
  });

  it('commits a batch with its cursor in one transaction', async () => {
    for (let sequence = 1; sequence <= 50; sequence++) await publish(started('n1', sequence));
    const commits: Commit[] = [];
    start({ store: interposed((request) => (commits.push(request), store.commit(request))) });
    await expectStoreIsFold();
    expect(commits).toHaveLength(1);
    expect(commits[0]?.puts.map(({ key }) => key)).toContain('/elastic-dns/cursor');
    expect(commits[0]?.leadership).toBeDefined();
  });

  it('S12: sets bad events aside with the reason, counts them, and folds the rest', async () => {
    const metrics = start();
    await publish(started('n1', 1));
    await log.publish({ node: 'n1', type: 'instance.started', id: 'n1/1/2', data: '{"poison":true}' });
    await publish(started('n1', 3));
    const stored = await expectStoreIsFold();
    expect(stored.instances('web-front-end', 'api').size).toBe(2);
    expect([...stored.setAside.values()]).toMatchObject([{ logSequence: 2, code: 'malformed' }]);
    expect(await sumOf(metrics, 'elastic_dns_registrar_events_set_aside_total', { code: 'malformed' })).toBe(
      1,
    );
  });

  it('looks at the cursor after a lost answer, and writes nothing twice', async () => {
    let lost = 0;
    const metrics = start({
      store: interposed(async (request, number) => {
        const revision = await store.commit(request);
        if (number % 3 !== 0) return revision;
        lost++;
        throw new UnavailableError('the answer was lost');
      }),
    });
    for (let sequence = 1; sequence <= 30; sequence++) await publish(started('n1', sequence));
    await expectStoreIsFold();
    expect(lost).toBeGreaterThan(0);
    expect(await sumOf(metrics, 'elastic_dns_registrar_commit_retries_total')).toBe(lost);
    expect(await sumOf(metrics, 'elastic_dns_loop_restarts_total')).toBe(0);
  });

  it('tries again after a lost request', async () => {
    let lost = 0;
    start({
      store: interposed((request, number) => {
        if (number % 2 === 0) return store.commit(request);
        lost++;
        return Promise.reject(new UnavailableError('the request was lost'));
      }),
    });
    for (let sequence = 1; sequence <= 10; sequence++) await publish(started('n1', sequence));
    await expectStoreIsFold();
    expect(lost).toBeGreaterThan(0);
  });

  it('settles a commit that lands only after it was looked for', async () => {
    let late: Commit | undefined;
    const metrics = start({
      store: interposed(async (request, number) => {
        if (number === 1) {
          late = request;
          throw new UnavailableError('still on its way');
        }
        if (late) {
          await store.commit(late);
          late = undefined;
        }
        return store.commit(request);
      }),
    });
    await publish(started('n1', 1));
    await expectStoreIsFold();
    expect(late).toBeUndefined();
    expect(await sumOf(metrics, 'elastic_dns_loop_restarts_total')).toBe(0);
    await publish(started('n1', 2));
    await expectStoreIsFold();
  });

  it('splits a snapshot that is larger than a commit: puts, then deletes, then cursor and barrier', async () => {
    const many = Array.from({ length: 300 }, (_, index) => sampleInstance('n1', index + 1));
    const others = many.map(({ id }, index) => ({ ...sampleInstance('n1', index + 1_000), container: id }));
    await publish(
      sampleEvent('n1', 1, { type: 'node.snapshot', data: { ...EMPTY_SNAPSHOT, instances: many } }),
    );
    await publish(
      sampleEvent('n1', 2, { type: 'node.snapshot', data: { ...EMPTY_SNAPSHOT, instances: others } }),
    );
    const commits: Commit[] = [];
    start({ store: interposed((request) => (commits.push(request), store.commit(request))) });
    const stored = await expectStoreIsFold();
    expect(stored.instances('web-front-end', 'api').size).toBe(300);
    const kinds = commits.map(({ puts, deletes }) =>
      deletes.length > 0
        ? 'deletes'
        : puts.some(({ key }) => key === '/elastic-dns/cursor')
          ? 'cursor'
          : 'puts',
    );
    expect(kinds).toEqual([
      ...fill('puts', 3),
      'cursor',
      ...fill('puts', 3),
      ...fill('deletes', 3),
      'cursor',
    ]);
  });

  it('S4: a leader that dies between the parts of a change leaves a registry that the next one completes', async () => {
    const before = Array.from({ length: 200 }, (_, index) => sampleInstance('n1', index + 1));
    const after = Array.from({ length: 200 }, (_, index) => sampleInstance('n1', index + 1_000));
    await publish(
      sampleEvent('n1', 1, { type: 'node.snapshot', data: { ...EMPTY_SNAPSHOT, instances: before } }),
    );
    await publish(
      sampleEvent('n1', 2, { type: 'node.snapshot', data: { ...EMPTY_SNAPSHOT, instances: after } }),
    );
    let leaders = 0;
    for (let sequence = 0; sequence < 2 && leaders < 20; leaders++) {
      const death = new AbortController();
      start({
        candidate: `r${leaders}`,
        signal: death.signal,
        store: interposed(async (request) => {
          const revision = await store.commit(request);
          death.abort();
          return Promise.reject(new Error(`dead after revision ${revision}`));
        }),
      });
      await running.at(-1);
      const { registry } = await loadRegistry(store, logger);
      // Puts come before deletes: the name is never without an address in between.
      expect(registry.instances('web-front-end', 'api').size).toBeGreaterThan(0);
      sequence = registry.cursor?.sequence ?? 0;
    }
    expect(leaders).toBeGreaterThan(4);
    start({ candidate: 'survivor' });
    const stored = await expectStoreIsFold();
    expect(stored.instances('web-front-end', 'api').size).toBe(200);
  });

  it('S3: a leader whose key was taken commits nothing more and becomes a spare', async () => {
    let stolen: Promise<Leadership> | undefined;
    const steal = new AbortController();
    const metrics = start({
      store: interposed(async (request, number) => {
        if (number === 2) {
          // The zombie: its key is gone and another candidate's is there when its commit arrives.
          await store.commit({ puts: [], deletes: [LEADER_KEY] });
          stolen = store.campaign({
            key: LEADER_KEY,
            candidate: 'thief',
            ttlMs: 1_000,
            signal: steal.signal,
          });
          await stolen;
        }
        return store.commit(request);
      }),
    });
    await publish(started('n1', 1));
    await expectStoreIsFold();
    await publish(started('n1', 2));
    await vi.waitFor(async () => {
      expect(await sumOf(metrics, 'elastic_dns_loop_restarts_total', { cause: 'FENCED' })).toBe(1);
    }, WAIT);
    expect((await loadRegistry(store, logger)).registry.cursor?.sequence).toBe(1);
    expect(await sumOf(metrics, 'elastic_dns_registrar_leader')).toBe(0);
    await (await stolen)?.resign();
    await expectStoreIsFold();
  });

  it('a spare takes over where the leader stopped', async () => {
    const first = new AbortController();
    const one = start({ candidate: 'r1', signal: first.signal });
    await publish(started('n1', 1));
    await expectStoreIsFold();
    const two = start({ candidate: 'r2' });
    first.abort();
    await running[0];
    await publish(started('n1', 2));
    await expectStoreIsFold();
    expect(await sumOf(one, 'elastic_dns_registrar_events_total')).toBe(1);
    expect(await sumOf(two, 'elastic_dns_registrar_events_total')).toBe(1);
  });

  it('S6: reads a log that was made anew from its beginning and keeps what it had', async () => {
    start();
    await publish(started('n1', 1));
    await publish(started('n2', 1));
    await expectStoreIsFold();
    stop.abort();
    await Promise.all(running);
    await log.close();
    log = new EmbeddedLog({ folder: path.join(folder, 'anew') });
    stop = new AbortController();
    running = [];
    start();
    const stopped = { id: sampleInstance('n1', 1).id, reason: 'exit code 0' };
    await publish(sampleEvent('n1', 2, { type: 'instance.stopped', data: stopped }));
    const { stored } = await settle();
    expect([...stored.instances('web-front-end', 'api').keys()]).toEqual([sampleInstance('n2', 1).id]);
    expect(stored.cursor?.incarnation).toBe((await log.info()).incarnation);
  });

  it('refuses a registry that a newer program wrote', async () => {
    const cursor = { kind: 'cursor' as const, incarnation: 'x', sequence: 1, reducer: 999 };
    await store.commit({ puts: [encodeRecord(cursor)], deletes: [] });
    start();
    await expect(running.pop()).rejects.toThrow(/newer program/);
    for await (const page of store.read(REGISTRY_RANGE)) expect(page.entries.length).toBeGreaterThan(0);
  });
});

function fill(kind: string, count: number): string[] {
  return Array.from({ length: count }, () => kind);
}
