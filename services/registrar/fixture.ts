/**
 * For the registrar's tests: a registrar on the embedded log and store, with a store in front that loses requests and
 * answers on demand.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Log } from '@elastic-dns/event-log';
import { EmbeddedLog } from '@elastic-dns/event-log/embedded';
import { encodeEvent, encodeRecord, fold, formatEventId, Registry, type Event } from '@elastic-dns/model';
import { sampleEvent, sampleInstance } from '@elastic-dns/model/samples';
import type { Commit, Store } from '@elastic-dns/registry-store';
import { EmbeddedStore } from '@elastic-dns/registry-store/embedded';
import { readSnapshot } from '@elastic-dns/registry-store/snapshot';
import { createLogger, createMetrics, Health, type Metrics } from '@elastic-dns/runtime';
import { afterEach, beforeEach, expect, vi } from 'vitest';
import { runRegistrar } from './index.ts';

const logger = createLogger({ level: 'silent' });
export const WAIT = { timeout: 10_000, interval: 5 };

/** What every test has; log and store may be replaced. */
export interface Bed {
  folder: string;
  log: EmbeddedLog;
  store: EmbeddedStore;
  /** Ends all registrars. */
  stop: AbortController;
  /** Of the registrar that was started last. */
  health: Health;
  /** Every registrar that was started. */
  running: Promise<void>[];
}

/** A fresh bed for each test of the file. */
export function makeBeds(): Bed {
  const bed = {} as Bed;
  beforeEach(() => {
    const folder = mkdtempSync(path.join(tmpdir(), 'registrar-'));
    const log = new EmbeddedLog({ folder });
    const store = new EmbeddedStore({ folder });
    Object.assign(bed, { folder, log, store, stop: new AbortController(), running: [] });
  });
  afterEach(async () => {
    bed.stop.abort();
    await Promise.all(bed.running);
    await bed.log.close();
    await bed.store.close();
    rmSync(bed.folder, { recursive: true });
  });
  return bed;
}

export function start(
  bed: Bed,
  options: { log?: Log; store?: Store; candidate?: string; signal?: AbortSignal } = {},
): Metrics {
  const metrics = createMetrics({ processMetrics: false });
  bed.health = new Health();
  bed.running.push(
    runRegistrar({
      log: options.log ?? bed.log,
      store: options.store ?? bed.store,
      candidate: options.candidate ?? 'r1',
      leaseTtlMs: 2_000,
      logger,
      metrics,
      health: bed.health,
      signal: options.signal ?? bed.stop.signal,
    }),
  );
  return metrics;
}

export async function publish({ log }: Bed, event: Event): Promise<void> {
  await log.publish({
    node: event.id.node,
    type: event.type,
    id: formatEventId(event.id),
    data: encodeEvent(event),
  });
}

export const started = (node: string, sequence: number, number = sequence): Event =>
  sampleEvent(node, sequence, { type: 'instance.started', data: { instance: sampleInstance(node, number) } });

/** Waits until the store's cursor has reached the log's end; the store's registry and the fold of the log. */
export async function settle({ log, store }: Bed): Promise<{ stored: Registry; folded: Registry }> {
  const { last } = await log.info();
  const { registry: stored } = await vi.waitFor(async () => {
    const loaded = await readSnapshot(store);
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

export async function expectStoreIsFold(bed: Bed): Promise<Registry> {
  const { stored, folded } = await settle(bed);
  expect(values(stored)).toEqual(values(folded));
  return stored;
}

/** The real store, whose commits a test can interfere with. */
export function interposed(
  { store }: Bed,
  commit: (request: Commit, number: number) => Promise<bigint>,
): Store {
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

export async function sumOf(
  metrics: Metrics,
  name: string,
  labels: Record<string, string> = {},
): Promise<number> {
  const metric = await metrics.getSingleMetric(name)?.get();
  return (metric?.values ?? [])
    .filter((value) => Object.entries(labels).every(([label, text]) => value.labels[label] === text))
    .reduce((sum, { value }) => sum + value, 0);
}
