import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  ConfigError,
  encodeRecord,
  keyOf,
  UnavailableError,
  type Change,
  type StoreRecord,
} from '@elastic-dns/model';
import { sampleInstance } from '@elastic-dns/model/samples';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { EmbeddedStore } from './embedded.ts';
import { Mirror, type MirrorEnd } from './mirror.ts';
import type { KeyRange, Page, Store, WatchBatch } from './store.ts';

const PATIENCE = { timeout: 10_000, interval: 5 };
/** So few that a test can outrun it. */
const KEPT_COMMITS = 20;

/** A store that can be cut off, and that counts what is asked of it. */
class Breakable {
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

const instance = (number: number, service = 'api', event = 1): StoreRecord => ({
  kind: 'instance',
  instance: sampleInstance('node-a', number, { service }),
  event: `node-a/1/${event}`,
  logSequence: event,
});
const cursor = (sequence: number, incarnation = 'log-1'): StoreRecord => ({
  kind: 'cursor',
  incarnation,
  sequence,
  reducer: 1,
});

describe('mirror', () => {
  let folder: string;
  let stores: EmbeddedStore[];
  let store: EmbeddedStore;
  let breakable: Breakable;
  let mirror: Mirror;
  let changes: { change: Change; revision: bigint; services: string[] }[];
  let abort: AbortController;
  let ended: Promise<MirrorEnd> | undefined;

  const openStore = (name: string): EmbeddedStore => {
    const opened = new EmbeddedStore({ folder: path.join(folder, name), keptCommits: KEPT_COMMITS });
    stores.push(opened);
    return opened;
  };
  const commit = (puts: StoreRecord[], deletes: StoreRecord[] = [], to: Store = store): Promise<bigint> =>
    to.commit({ puts: puts.map(encodeRecord), deletes: deletes.map(keyOf) });
  const put = (key: string, value: string): Promise<bigint> =>
    store.commit({ puts: [{ key, value }], deletes: [] });
  const start = (): void => {
    ended = mirror.start(abort.signal);
  };
  const reach = (revision: bigint): Promise<void> =>
    vi.waitFor(() => expect(mirror.revision).toBe(revision), PATIENCE);
  const enter = (state: Mirror['state']): Promise<void> =>
    vi.waitFor(() => expect(mirror.state).toBe(state), PATIENCE);
  const keys = (): string[] => [...mirror.registry.records.keys()].toSorted();
  /** Breaks the store until the changes between have outrun its history. */
  const outrunHistory = async (): Promise<void> => {
    for (let count = 0; count <= KEPT_COMMITS; count++) await put('/unrelated', String(count));
  };

  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'mirror-'));
    stores = [];
    store = openStore('one');
    breakable = new Breakable(store);
    mirror = new Mirror({ store: breakable });
    changes = [];
    mirror.onChange((change, revision, touched) => {
      changes.push({
        change,
        revision,
        services: touched.map(({ namespace, service }) => `${service}.${namespace}`),
      });
    });
    abort = new AbortController();
  });
  afterEach(async () => {
    abort.abort();
    await ended;
    ended = undefined;
    await Promise.all(stores.map((opened) => opened.close()));
    rmSync(folder, { recursive: true });
  });

  test('reads what is there as one change, then follows commit by commit', async () => {
    expect(mirror.state).toBe('empty');
    const first = await commit([instance(1), instance(2, 'web'), cursor(1)]);
    start();
    await reach(first);
    await enter('live');
    expect(keys()).toEqual([instance(1), instance(2, 'web'), cursor(1)].map(keyOf).toSorted());
    const second = await commit([instance(3, 'web'), cursor(2)], [instance(1)]);
    await reach(second);
    expect(changes.map(({ revision, services }) => ({ revision, services: services.toSorted() }))).toEqual([
      { revision: first, services: ['api.web-front-end', 'web.web-front-end'] },
      { revision: second, services: ['api.web-front-end', 'web.web-front-end'] },
    ]);
    expect([...(changes[1]?.change.puts.keys() ?? [])]).toEqual([instance(3, 'web'), cursor(2)].map(keyOf));
    expect([...(changes[1]?.change.deletes ?? [])]).toEqual([keyOf(instance(1))]);
    expect([...mirror.registry.instances('web-front-end', 'web').keys()]).toEqual(
      [2, 3].map((number) => sampleInstance('node-a', number).id),
    );
    expect(breakable.reads).toBe(1);
  });

  test('is live with an empty registry on an empty store', async () => {
    start();
    await enter('live');
    expect(keys()).toEqual([]);
    expect(changes).toEqual([]);
  });

  test('leaves keys between its two prefixes alone, and the leader’s', async () => {
    await put('/dns-foreign/a', '{}');
    await put('/e', 'x');
    start();
    await enter('live');
    await put('/elastic-dns/leader', 'somebody');
    await put('/docker/network', 'x');
    await reach(await commit([cursor(1)]));
    expect(keys()).toEqual([keyOf(cursor(1))]);
    expect(mirror.rejections).toBe(0);
  });

  test('keeps the last good record of a key whose value cannot be decoded, and counts it with its reason', async () => {
    const key = keyOf(instance(1));
    await commit([instance(1), cursor(1)]);
    await put(keyOf(instance(2)), 'not json');
    start();
    await enter('live');
    expect([...mirror.rejected.keys()]).toEqual([keyOf(instance(2))]);
    await put(key, '{"host":"10.0.0.1"}');
    await reach(await commit([instance(3), cursor(2)]));
    expect(mirror.registry.records.get(key)).toEqual(instance(1));
    expect(mirror.rejected.get(key)).toContain(key);
    expect(mirror.rejections).toBe(2);
    expect(keys()).toEqual([instance(1), instance(3), cursor(1)].map(keyOf).toSorted());
    // Read again, it is still there; good again or deleted, it is no longer listed.
    breakable.break();
    await enter('stale');
    await outrunHistory();
    breakable.mend();
    await reach(await commit([instance(2), cursor(3)]));
    await enter('live');
    expect(mirror.registry.records.get(key)).toEqual(instance(1));
    expect([...mirror.rejected.keys()]).toEqual([key]);
    await reach(await commit([cursor(4)], [instance(1)]));
    expect(mirror.rejected.size).toBe(0);
    expect(mirror.registry.records.has(key)).toBe(false);
  });

  test('keeps what it has while the store is out of reach, says since when, and goes on without reading again', async () => {
    await commit([instance(1), cursor(1)]);
    start();
    await enter('live');
    const liveSinceMs = mirror.sinceMs;
    breakable.break();
    await enter('stale');
    await vi.waitFor(() => expect(breakable.failures).toBeGreaterThan(2), PATIENCE);
    expect(mirror.sinceMs).toBeGreaterThanOrEqual(liveSinceMs);
    const missed = await commit([instance(2), cursor(2)]);
    expect(keys()).toEqual([instance(1), cursor(1)].map(keyOf).toSorted());
    breakable.mend();
    await reach(missed);
    await enter('live');
    expect(breakable.reads).toBe(1);
    expect(changes.length).toBe(2);
    expect([...(changes[1]?.change.puts.keys() ?? [])]).toEqual([instance(2), cursor(2)].map(keyOf));
  });

  test('is live again after an outage in which nothing changed', async () => {
    await commit([instance(1), cursor(1)]);
    start();
    await enter('live');
    breakable.break();
    await enter('stale');
    breakable.mend();
    await enter('live');
    expect(changes.length).toBe(1);
  });

  test('takes only the difference over when the history it missed is gone', async () => {
    await commit([instance(1), instance(2), instance(3), cursor(1)]);
    start();
    await enter('live');
    breakable.break();
    await enter('stale');
    await commit([instance(2, 'api', 7), instance(4), cursor(2)], [instance(3)]);
    await outrunHistory();
    const emptied = vi.fn<() => void>();
    mirror.onChange(() => {
      if (!mirror.registry.records.has(keyOf(instance(1)))) emptied();
    });
    breakable.mend();
    await vi.waitFor(() => expect(changes.length).toBe(2), PATIENCE);
    expect(breakable.reads).toBe(2);
    expect([...(changes[1]?.change.puts.keys() ?? [])].toSorted()).toEqual(
      [instance(2), instance(4), cursor(2)].map(keyOf).toSorted(),
    );
    expect([...(changes[1]?.change.deletes ?? [])]).toEqual([keyOf(instance(3))]);
    expect(emptied).not.toHaveBeenCalled();
    // And watches on from there.
    await reach(await commit([instance(5), cursor(3)]));
    expect(breakable.reads).toBe(2);
  });

  test('shows nothing of a read that broke off half-way', async () => {
    await commit([instance(1), cursor(1)]);
    let pages = 0;
    breakable.onPage = async () => {
      if (++pages < 3) throw new UnavailableError('broke off');
    };
    start();
    await enter('live');
    expect(pages).toBe(3);
    expect(changes.length).toBe(1);
  });

  test('ends when its signal aborts, and with the error when trying again is of no use', async () => {
    start();
    await enter('live');
    abort.abort();
    expect(await ended).toEqual({ kind: 'aborted' });
    const error = new ConfigError('permission denied');
    breakable.break(error);
    expect(await mirror.start(new AbortController().signal)).toEqual({ kind: 'failed', error });
  });

  test('stops telling a listener that was removed', async () => {
    const listener = vi.fn<() => void>();
    const remove = mirror.onChange(listener);
    start();
    await reach(await commit([instance(1), cursor(1)]));
    expect(listener).toHaveBeenCalledTimes(1);
    remove();
    await reach(await commit([instance(2), cursor(2)]));
    expect(listener).toHaveBeenCalledTimes(1);
  });

  describe('that starts from the last good state', () => {
    const seed = (records: StoreRecord[], revision: bigint): void =>
      mirror.seed({ revision, atMs: 1_000, entries: records.map(encodeRecord) });

    test('has it before the store is in reach, with its age, and then takes over the difference', async () => {
      const revision = await commit([instance(1), instance(2), cursor(1)]);
      const next = await commit([instance(3), cursor(2)], [instance(1)]);
      breakable.break();
      seed([instance(1), instance(2), cursor(1)], revision);
      expect(mirror).toMatchObject({ state: 'stale', sinceMs: 1_000, revision });
      expect(keys().length).toBe(3);
      start();
      await vi.waitFor(() => expect(breakable.failures).toBeGreaterThan(1), PATIENCE);
      expect(keys().length).toBe(3);
      breakable.mend();
      await reach(next);
      await enter('live');
      expect(changes.length).toBe(2);
      expect([...(changes[1]?.change.puts.keys() ?? [])]).toEqual([instance(3), cursor(2)].map(keyOf));
      expect([...(changes[1]?.change.deletes ?? [])]).toEqual([keyOf(instance(1))]);
    });

    test('leaves out what cannot be decoded of it', () => {
      const entries = [encodeRecord(instance(1)), { key: keyOf(instance(2)), value: '{' }];
      mirror.seed({ revision: 5n, atMs: 0, entries });
      expect(keys()).toEqual([keyOf(instance(1))]);
      expect(mirror.rejections).toBe(1);
    });

    test('holds on to it when the store is an older one, and follows once that has caught up', async () => {
      await commit([instance(1), cursor(3)]);
      seed([instance(1), instance(2), cursor(5)], 1_000n);
      start();
      await enter('frozen');
      expect(keys().length).toBe(3);
      expect(breakable.reads).toBe(0);
      await commit([cursor(4)]);
      const caughtUp = await commit([instance(3), cursor(5)]);
      await enter('live');
      expect(mirror.revision).toBe(caughtUp);
      expect(keys()).toEqual([instance(1), instance(3), cursor(5)].map(keyOf).toSorted());
      await reach(await commit([cursor(6)], [instance(1)]));
    });
  });

  describe('whose store is put back', () => {
    /** What the mirror has reached when the store changes under it. */
    const reached = [instance(1), instance(2), cursor(5)];
    beforeEach(async () => {
      await commit([instance(1), cursor(1)]);
      await commit([instance(2), cursor(5)]);
      start();
      await enter('live');
    });
    const replaceStore = async (build: (other: EmbeddedStore) => Promise<unknown>): Promise<void> => {
      breakable.break();
      await enter('stale');
      const other = openStore('other');
      await build(other);
      breakable.store = store = other;
      breakable.mend();
    };
    const expectFrozen = async (): Promise<void> => {
      await enter('frozen');
      expect(keys()).toEqual(reached.map(keyOf).toSorted());
      expect(changes.length).toBe(1);
    };

    test('keeps what it has when the store is empty, until that is rebuilt from the log', async () => {
      await replaceStore(async () => {});
      await expectFrozen();
      await commit([instance(1), cursor(2)]);
      await commit([instance(2), cursor(5)]);
      await enter('live');
      expect(keys()).toEqual(reached.map(keyOf).toSorted());
      // All that it removed and added, it has added again: nobody need hear of it.
      expect(changes.length).toBe(1);
    });

    test('keeps what it has when the store is an older state, until that has caught up', async () => {
      await replaceStore((other) => commit([instance(1), cursor(1)], [], other));
      await expectFrozen();
      await commit([instance(3), cursor(6)]);
      await enter('live');
      expect([...(changes[1]?.change.puts.keys() ?? [])]).toEqual([instance(3), cursor(6)].map(keyOf));
      expect([...(changes[1]?.change.deletes ?? [])]).toEqual([keyOf(instance(2))]);
    });

    test('keeps what it has when store and log were both built anew, until an operator accepts that', async () => {
      await replaceStore((other) => commit([instance(9), cursor(1, 'log-2')], [], other));
      await expectFrozen();
      mirror.accept();
      await enter('live');
      expect(keys()).toEqual([instance(9), cursor(1)].map(keyOf).toSorted());
      // Accepted once, not for ever.
      await store.commit({ puts: [], deletes: [keyOf(cursor(1))] });
      await enter('frozen');
    });

    test('reads again when the store was put back and has grown past it meanwhile', async () => {
      await replaceStore(async (other) => {
        await commit([instance(1), cursor(1)], [], other);
        for (let sequence = 2; sequence < 12; sequence++) {
          await commit(
            [instance(sequence + 10), cursor(sequence)],
            sequence === 2 ? [instance(1)] : [],
            other,
          );
        }
      });
      await vi.waitFor(() => expect(changes.length).toBe(2), PATIENCE);
      await enter('live');
      expect(breakable.reads).toBe(2);
      for await (const page of store.read({ from: '/', to: '0' })) {
        expect(keys()).toEqual(page.entries.map(({ key }) => key));
      }
    });

    test.each([
      { what: 'is deleted', change: () => store.commit({ puts: [], deletes: reached.map(keyOf) }) },
      { what: 'goes back', change: () => commit([cursor(4)], [instance(1)]) },
    ])('keeps what it has when the cursor $what before its eyes', async ({ change }) => {
      await change();
      await expectFrozen();
      await commit([instance(1), instance(2), cursor(5)]);
      await enter('live');
      expect(changes.length).toBe(1);
    });

    test('goes on when the log was built anew and the store was not', async () => {
      const revision = await commit([instance(3), cursor(1, 'log-2')]);
      await reach(revision);
      expect(mirror.state).toBe('live');
      breakable.break();
      await enter('stale');
      breakable.mend();
      await enter('live');
      await reach(await commit([cursor(2, 'log-2')], [instance(3)]));
      expect(breakable.reads).toBe(1);
    });
  });
});
