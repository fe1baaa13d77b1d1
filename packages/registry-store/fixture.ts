/**
 * For the tests of this package: a mirror on a store that can be cut off and replaced, and a recorder of what a watch
 * gives through all kinds of trouble.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { encodeRecord, keyOf, UnavailableError, type Change, type StoreRecord } from '@elastic-dns/model';
import { sampleInstance } from '@elastic-dns/model/samples';
import type { TestServer } from '@elastic-dns/testkit/servers';
import { afterEach, expect, vi } from 'vitest';
import { changesIn, puts } from './contract.ts';
import { EmbeddedStore } from './embedded.ts';
import { Mirror, type MirrorEnd } from './mirror.ts';
import type { KeyRange, Page, Store, WatchBatch } from './store.ts';

const PATIENCE = { timeout: 10_000, interval: 5 };
/** So few that a test can outrun them. */
const KEPT_COMMITS = 20;

/** A store that can be cut off, and that counts what is asked of it. */
export class Breakable {
  store: Store;
  reads = 0;
  watches = 0;
  failures = 0;
  #broken: Error | null = null;
  #cut = new AbortController();
  /** Called before each page of a read. */
  onPage: () => Promise<void> = async () => {};

  constructor(store: Store) {
    this.store = store;
  }

  /** Everything fails from now on, also what is under way. */
  break(error: Error = new UnavailableError('cut off')): void {
    this.#broken = error;
    this.#cut.abort();
  }

  mend(): void {
    this.#broken = null;
    this.#cut = new AbortController();
  }

  async get(key: string): ReturnType<Store['get']> {
    this.#check();
    return this.store.get(key);
  }

  async *read(range: KeyRange): AsyncGenerator<Page> {
    this.reads++;
    for await (const page of this.store.read(range)) {
      await this.onPage();
      this.#check();
      yield page;
    }
  }

  async *watch(range: KeyRange, after: bigint, signal: AbortSignal): AsyncGenerator<WatchBatch> {
    this.watches++;
    this.#check();
    yield* this.store.watch(range, after, AbortSignal.any([signal, this.#cut.signal]));
    this.#check();
  }

  #check(): void {
    if (!this.#broken) return;
    this.failures++;
    throw this.#broken;
  }
}

export function instance(number: number, service = 'api', event = 1): StoreRecord {
  return {
    kind: 'instance',
    instance: sampleInstance('node-a', number, { service }),
    event: `node-a/1/${event}`,
    logSequence: event,
  };
}

export function cursor(sequence: number, incarnation = 'log-1'): StoreRecord {
  return { kind: 'cursor', incarnation, sequence, reducer: 1 };
}

/** A mirror on an embedded store in a folder of its own. */
export class MirrorFixture {
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'mirror-'));
  readonly #stores: EmbeddedStore[] = [];
  readonly #abort = new AbortController();
  #ended: Promise<MirrorEnd> | undefined;
  /** Where commits go, and what the mirror follows. */
  store: Store = this.openStore('one');
  readonly breakable = new Breakable(this.store);
  readonly mirror = new Mirror({ store: this.breakable });
  readonly changes: { change: Change; revision: bigint; services: string[] }[] = [];

  constructor() {
    this.mirror.onChange((change, revision, touched) => {
      const services = touched.map(({ namespace, service }) => `${service}.${namespace}`);
      this.changes.push({ change, revision, services });
    });
  }

  openStore(name: string): EmbeddedStore {
    const store = new EmbeddedStore({ folder: path.join(this.#folder, name), keptCommits: KEPT_COMMITS });
    this.#stores.push(store);
    return store;
  }

  commit(records: StoreRecord[], deletes: StoreRecord[] = [], store = this.store): Promise<bigint> {
    return store.commit({ puts: records.map(encodeRecord), deletes: deletes.map(keyOf) });
  }

  put(key: string, value: string): Promise<bigint> {
    return this.store.commit({ puts: [{ key, value }], deletes: [] });
  }

  /** Cuts the mirror off, and lets it find another store when it comes back. */
  async replaceStore(build: (other: Store) => Promise<unknown>): Promise<void> {
    this.breakable.break();
    await this.enter('stale');
    const other = this.openStore('other');
    await build(other);
    this.breakable.store = this.store = other;
    this.breakable.mend();
  }

  /** Commits until the store has forgotten everything before. */
  async outrunHistory(): Promise<void> {
    for (let count = 0; count <= KEPT_COMMITS; count++) await this.put('/unrelated', String(count));
  }

  start(): void {
    this.#ended = this.mirror.start(this.#abort.signal);
  }

  async stop(): Promise<MirrorEnd | undefined> {
    this.#abort.abort();
    return this.#ended;
  }

  reach(revision: bigint): Promise<void> {
    return vi.waitFor(() => expect(this.mirror.revision).toBe(revision), PATIENCE);
  }

  enter(state: Mirror['state']): Promise<void> {
    return vi.waitFor(() => expect(this.mirror.state).toBe(state), PATIENCE);
  }

  /** Until the mirror has failed that often since the store broke. */
  fail(times: number): Promise<void> {
    return vi.waitFor(() => expect(this.breakable.failures).toBeGreaterThanOrEqual(times), PATIENCE);
  }

  /** Until so many changes were told. */
  change(times: number): Promise<void> {
    return vi.waitFor(() => expect(this.changes.length).toBe(times), PATIENCE);
  }

  /** Keys of what the mirror holds. */
  keys(): string[] {
    return [...this.mirror.registry.records.keys()].toSorted();
  }

  /** Keys that change number `index` has put and deleted. */
  told(index: number): { puts: string[]; deletes: string[] } {
    const { change } = this.changes[index] ?? {};
    return {
      puts: [...(change?.puts.keys() ?? [])].toSorted(),
      deletes: [...(change?.deletes ?? [])].toSorted(),
    };
  }

  async remove(): Promise<void> {
    await this.stop();
    await Promise.all(this.#stores.map((store) => store.close()));
    rmSync(this.#folder, { recursive: true });
  }
}

export function keysOf(...records: StoreRecord[]): string[] {
  return records.map(keyOf).toSorted();
}

/**
 * For the top of a test file, below `checkLeaks()`: returns how to have something closed after the test, the latest
 * first, also when it fails.
 */
export function useCleanup(): <T>(thing: T, close: (thing: T) => Promise<unknown>) => T {
  const cleanups: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });
  return (thing, close) => {
    cleanups.push(() => close(thing));
    return thing;
  };
}

/** Watches as the mirror does: again from the last batch after each `UnavailableError`. */
export class Recorder {
  readonly batches: WatchBatch[] = [];
  /** Why watches have ended. */
  readonly errors: unknown[] = [];
  readonly #abort = new AbortController();
  readonly #ended: Promise<void>;

  constructor(store: Store, range: KeyRange, after: bigint) {
    this.#ended = this.#record(store, range, after);
  }

  get values(): string[] {
    return changesIn(this.batches).map(({ value }) => value ?? '');
  }

  async #record(store: Store, range: KeyRange, after: bigint): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      try {
        for await (const batch of store.watch(range, this.batches.at(-1)?.revision ?? after, signal)) {
          this.batches.push(batch);
        }
        return;
      } catch (error) {
        this.errors.push(error);
        if (!(error instanceof UnavailableError)) return;
      }
    }
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#ended;
  }
}

/** What the tests of etcd write to and watch. */
export const range = { from: '/watched/', to: '/watched0' };
export const at = (name: string): string => `${range.from}${name}`;

/** Commits the values, one after the other, each to a key of its own and to a common one. */
export async function write(store: Store, values: string[]): Promise<bigint> {
  let revision = 0n;
  for (const value of values) {
    revision = await store.commit({ puts: puts(at, [value, 'latest'], value), deletes: [] });
  }
  return revision;
}

export function numbers(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, index) => String(from + index));
}

/** Each value twice: `write` puts it to two keys. */
export function twice(values: string[]): string[] {
  return values.flatMap((value) => [value, value]);
}

/** One request to etcd's HTTP gateway: for what the tests ask of a server beside the store. */
export async function callGateway(
  server: TestServer,
  method: string,
  body: unknown = {},
  token = '',
): Promise<unknown> {
  const response = await fetch(`${server.url}/v3/${method}`, {
    method: 'POST',
    headers: token === '' ? {} : { authorization: token },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method}: ${text}`);
  return JSON.parse(text);
}

/** Makes a server forget what it can up to a revision. */
export async function compact(server: TestServer, revision: bigint): Promise<void> {
  await callGateway(server, 'kv/compaction', { revision: String(revision), physical: true });
}
