/**
 * What every store must do, as one suite: `embedded.test.ts` and `etcd.server.test.ts` call it with a factory each.
 * The tests of one fixture share its data, so each keeps to keys of its own.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  CompactedError,
  ConflictError,
  FencedError,
  InvalidInputError,
  LeaseLostError,
  UnavailableError,
} from '@elastic-dns/model';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import type { CampaignOptions, KeyRange, KeyValue, Page, Store, WatchBatch } from './store.ts';

export interface StoreFixture {
  /** One more store on the same data; the suite closes it. */
  open(): Store;
  /** Makes changes up to this revision impossible to watch. */
  compact(store: Store, revision: bigint): Promise<void>;
  remove(): Promise<void>;
}

/** Far above what any step takes, so that a hang is told apart from a slow machine. */
const PATIENCE_MS = 30_000;

export function storeContract(name: string, createFixture: () => Promise<StoreFixture>): void {
  describe(`contract of a store: ${name}`, () => {
    let fixture: StoreFixture;
    let stores: Store[] = [];
    let prefixes = 0;

    beforeAll(async () => {
      fixture = await createFixture();
    });
    afterAll(() => fixture.remove());
    afterEach(async () => {
      await Promise.all(stores.map((store) => store.close()));
      stores = [];
    });

    const open = (): Store => {
      const store = fixture.open();
      stores.push(store);
      return store;
    };
    /** A range that no other test touches. */
    const ownRange = (): KeyRange & { at: (name: string) => string } => {
      const prefix = `/contract/${++prefixes}/`;
      return { from: prefix, to: `${prefix.slice(0, -1)}0`, at: (key) => `${prefix}${key}` };
    };

    test('reads a range in key order with the revision of each write, its start included and its end not', async () => {
      const store = open();
      const { at } = ownRange();
      const first = await store.commit({ puts: puts(at, ['c', 'a', 'd', 'b', 'bb']), deletes: [] });
      const second = await store.commit({ puts: puts(at, ['b'], 'again'), deletes: [at('bb')] });
      const { revision, entries } = await readAll(store, { from: at('a'), to: at('d') });
      expect(second).toBe(first + 1n);
      expect(revision).toBe(second);
      expect(entries).toEqual([
        { key: at('a'), value: 'a', revision: first },
        { key: at('b'), value: 'again', revision: second },
        { key: at('c'), value: 'c', revision: first },
      ]);
    });

    test('reads an empty range as one empty page at the present revision', async () => {
      const store = open();
      const range = ownRange();
      const revision = await store.commit({ puts: puts(ownRange().at, ['elsewhere']), deletes: [] });
      expect(await collectPages(store, range)).toEqual([{ revision, entries: [] }]);
    });

    test('reads all pages at one revision while writes go on, and a watch from there sees those writes', async () => {
      const store = open();
      const { at, ...range } = ownRange();
      const names = Array.from({ length: 20_100 }, (_, index) => String(index).padStart(6, '0'));
      for (let start = 0; start < names.length; start += store.maxOperations) {
        const chunk = names.slice(start, start + store.maxOperations);
        await store.commit({ puts: puts(at, chunk), deletes: [] });
      }
      const pages: Page[] = [];
      for await (const page of store.read(range)) {
        pages.push(page);
        // Each page meets a change ahead of it, behind it, and in keys of its own.
        await store.commit({
          puts: [
            ...puts(at, ['020050', '000001'], `written after page ${pages.length}`),
            ...puts(at, [`020050 ${pages.length}`]),
          ],
          deletes: [at(`01999${pages.length}`)],
        });
      }
      expect(pages.map(({ entries }) => entries.length)).toEqual([10_000, 10_000, 100]);
      expect(new Set(pages.map(({ revision }) => revision)).size).toBe(1);
      expect(pages.flatMap(({ entries }) => entries.map(({ key, value }) => [key, value]))).toEqual(
        names.map((name) => [at(name), name]),
      );
      const revision = pages[0]?.revision ?? 0n;
      const batches = await follow(store, range, revision, (seen) => changesIn(seen).length >= 12);
      expect(changesIn(batches).map((change) => change.revision - revision)).toEqual(
        [1n, 2n, 3n].flatMap((step) => [step, step, step, step]),
      );
    });

    test('keeps keys apart and in order by their bytes, and values as they are, whatever characters they hold', async () => {
      const store = open();
      const { at, ...range } = ownRange();
      // UTF-16 would order the last two the other way round.
      const names = ['', ' ', '"', 'A', 'a', 'a/', 'a\u0000', 'é', 'ﬀ', '😀'];
      const values = ['', '\n', '\u0000', 'null', '{"a":"é😀"}', '\u2028', '%', "'; --", '\\', '\ufeff'];
      const order = names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      await store.commit({
        puts: names.map((name, index) => ({ key: at(name), value: values[index] ?? '' })),
        deletes: [],
      });
      const { entries } = await readAll(store, range);
      expect(entries.map(({ key, value }) => [key, value])).toEqual(
        order.map((name) => [at(name), values[names.indexOf(name)]]),
      );
      expect(await store.get(at('😀'))).toMatchObject({ key: at('😀'), value: '\ufeff' });
    });

    test('gets one key as it is now, and null when it does not exist', async () => {
      const [one, other] = [open(), open()];
      const { at } = ownRange();
      expect(await one.get(at('key'))).toBeNull();
      const revision = await one.commit({ puts: puts(at, ['key']), deletes: [] });
      expect(await other.get(at('key'))).toEqual({ key: at('key'), value: 'key', revision });
      await other.commit({ puts: [], deletes: [at('key')] });
      expect(await one.get(at('key'))).toBeNull();
    });

    test('leaves the revision as it is for a commit that changes nothing', async () => {
      const store = open();
      const { at } = ownRange();
      const revision = await store.commit({ puts: puts(at, ['key']), deletes: [] });
      expect(await store.commit({ puts: [], deletes: [at('absent')] })).toBe(revision);
      expect(await store.commit({ puts: [], deletes: [] })).toBe(revision);
      expect(await store.commit({ puts: puts(at, ['key']), deletes: [at('absent')] })).toBe(revision + 1n);
    });

    test('watches every change once and in order, each commit whole in one batch, those before and after the start', async () => {
      const [writer, reader] = [open(), open()];
      const { at, ...range } = ownRange();
      const before = await writer.commit({
        puts: puts(at, ['0', '1', '2', '3', '4', '5', '6']),
        deletes: [],
      });
      const written: WatchBatch['changes'] = [];
      const write = async (round: number): Promise<void> => {
        const keys = [round, round + 1, round + 2].map((key) => at(String(key % 7)));
        const revision = await writer.commit({
          puts: keys.slice(0, 2).map((key) => ({ key, value: String(round) })),
          deletes: round % 5 === 4 ? keys.slice(2) : [],
        });
        written.push(...keys.slice(0, 2).map((key) => ({ key, value: String(round), revision })));
        if (round % 5 === 4) written.push(...keys.slice(2).map((key) => ({ key, value: null, revision })));
        // Not in the range.
        await writer.commit({ puts: [{ key: range.to, value: String(round) }], deletes: [] });
      };
      for (let round = 0; round < 50; round++) await write(round);
      const last = at('last');
      const following = follow(reader, range, before, (seen) =>
        changesIn(seen).some(({ key }) => key === last),
      );
      for (let round = 50; round < 200; round++) await write(round);
      const revision = await writer.commit({ puts: [{ key: last, value: '' }], deletes: [] });
      written.push({ key: last, value: '', revision });
      const batches = await following;
      expect(inOrder(changesIn(batches))).toEqual(inOrder(written));
      // In order between the batches, and no revision in two of them.
      expect(batches.every(({ changes }) => isAscending(changes.map((change) => change.revision)))).toBe(
        true,
      );
      expect(batches.map((batch) => batch.revision)).toEqual(
        [...new Set(batches.map((batch) => batch.revision))].toSorted(compareBigints),
      );
      expect(
        batches.every((batch, index) =>
          batch.changes.every(
            (change) =>
              change.revision <= batch.revision && change.revision > (batches[index - 1]?.revision ?? before),
          ),
        ),
      ).toBe(true);
    });

    test('goes on from any batch of an earlier watch without loss or repetition', async () => {
      const store = open();
      const { at, ...range } = ownRange();
      const start = await store.commit({ puts: puts(at, ['start']), deletes: [] });
      for (let round = 0; round < 20; round++) {
        await store.commit({ puts: puts(at, ['a', 'b'], String(round)), deletes: [] });
      }
      const seen: WatchBatch[] = [];
      while (changesIn(seen).length < 40) {
        const batches = await follow(store, range, seen.at(-1)?.revision ?? start, () => true);
        seen.push(...batches);
        // So that there always is something to come.
        await store.commit({ puts: [{ key: range.to, value: '' }], deletes: [] });
      }
      expect(changesIn(seen).map(({ value }) => Number(value))).toEqual(
        Array.from({ length: 40 }, (_, index) => Math.floor(index / 2)),
      );
    });

    test('refuses to watch from a revision that is no longer kept, and goes on from the ones that are', async () => {
      const store = open();
      const { at, ...range } = ownRange();
      const old = await store.commit({ puts: puts(at, ['old']), deletes: [] });
      const kept = await store.commit({ puts: puts(at, ['kept']), deletes: [] });
      await fixture.compact(store, kept);
      await expect(follow(store, range, old - 1n, () => true)).rejects.toThrow(CompactedError);
      const now = await store.commit({ puts: puts(at, ['new']), deletes: [] });
      const batches = await follow(store, range, now - 1n, (seen) => changesIn(seen).length > 0);
      expect(changesIn(batches)).toEqual([{ key: at('new'), value: 'new', revision: now }]);
    });

    test('refuses to watch from a revision that it has not reached, as after it was put back', async () => {
      const store = open();
      const { at, ...range } = ownRange();
      const revision = await store.commit({ puts: puts(at, ['key']), deletes: [] });
      await expect(follow(store, range, revision + 1_000n, () => true)).rejects.toThrow(CompactedError);
    });

    test('commits only when the expected key is as it was read, or absent where that is expected', async () => {
      const [one, other] = [open(), open()];
      const { at, ...range } = ownRange();
      const key = at('cursor');
      const first = await one.commit({
        expect: { key, revision: 0n },
        puts: puts(at, ['cursor', 'a']),
        deletes: [],
      });
      await expect(
        other.commit({ expect: { key, revision: 0n }, puts: puts(at, ['b']), deletes: [at('a')] }),
      ).rejects.toThrow(ConflictError);
      await expect(
        other.commit({ expect: { key, revision: first - 1n }, puts: puts(at, ['b']), deletes: [] }),
      ).rejects.toThrow(ConflictError);
      const second = await other.commit({
        expect: { key, revision: first },
        puts: puts(at, ['cursor']),
        deletes: [at('a')],
      });
      await expect(
        one.commit({ expect: { key, revision: first }, puts: puts(at, ['c']), deletes: [] }),
      ).rejects.toThrow(ConflictError);
      expect((await readAll(one, range)).entries).toEqual([{ key, value: 'cursor', revision: second }]);
    });

    test('lets exactly one of many through that expect the same', async () => {
      const [one, other] = [open(), open()];
      const { at } = ownRange();
      const key = at('cursor');
      const results = await Promise.allSettled(
        Array.from({ length: 20 }, (_, index) =>
          (index % 2 === 0 ? one : other).commit({
            expect: { key, revision: 0n },
            puts: puts(at, ['cursor'], String(index)),
            deletes: [],
          }),
        ),
      );
      const refused = results.filter((result) => result.status === 'rejected');
      expect(refused.length).toBe(19);
      expect(refused.every(({ reason }) => reason instanceof ConflictError)).toBe(true);
    });

    test('refuses a commit of a leader that was superseded as fenced, whatever else it expects', async () => {
      const [one, other] = [open(), open()];
      const { at, ...range } = ownRange();
      const first = await one.campaign(campaign(at('leader'), 'one'));
      const expected = { key: at('cursor'), revision: 0n };
      await one.commit({ leadership: first, expect: expected, puts: puts(at, ['cursor']), deletes: [] });
      await first.resign();
      const second = await other.campaign(campaign(at('leader'), 'other'));
      expect(second.token).toBeGreaterThan(first.token);
      for (const more of [{}, { expect: expected }]) {
        await expect(
          one.commit({ leadership: first, ...more, puts: puts(at, ['a']), deletes: [at('cursor')] }),
        ).rejects.toThrow(FencedError);
      }
      await expect(
        other.commit({ leadership: second, expect: expected, puts: puts(at, ['a']), deletes: [] }),
      ).rejects.toThrow(ConflictError);
      await other.commit({ leadership: second, puts: puts(at, ['b']), deletes: [] });
      expect((await readAll(one, range)).entries.map(({ key }) => key)).toEqual(
        ['b', 'cursor', 'leader'].map(at),
      );
      expect((await one.get(at('leader')))?.value).toBe('other');
    });

    test('refuses a fenced commit when nobody leads', async () => {
      const store = open();
      const { at } = ownRange();
      const leadership = await store.campaign(campaign(at('leader'), 'one'));
      await leadership.resign();
      await expect(store.commit({ leadership, puts: puts(at, ['a']), deletes: [] })).rejects.toThrow(
        FencedError,
      );
      expect(await store.get(at('a'))).toBeNull();
    });

    test('lets one candidate lead and the others wait until it resigns, one after the other', async () => {
      const { at } = ownRange();
      const led: string[] = [];
      let leading = 0;
      const candidates = ['a', 'b', 'c'].map(async (name) => {
        const store = open();
        const leadership = await store.campaign(campaign(at('leader'), name));
        leading++;
        led.push(name);
        expect(leading).toBe(1);
        expect((await store.get(at('leader')))?.value).toBe(name);
        expect(leadership.lost.aborted).toBe(false);
        await store.commit({ leadership, puts: puts(at, ['written'], name), deletes: [] });
        leading--;
        await leadership.resign();
        expect(leadership.lost.reason).toBeInstanceOf(LeaseLostError);
        await leadership.resign();
      });
      await within(Promise.all(candidates), 'all three to have led');
      expect(led.toSorted()).toEqual(['a', 'b', 'c']);
    });

    test('ends a campaign with the reason of its signal', async () => {
      const store = open();
      const { at } = ownRange();
      const leadership = await store.campaign(campaign(at('leader'), 'one'));
      const abort = new AbortController();
      const waiting = store.campaign(campaign(at('leader'), 'two', abort.signal));
      const reason = new Error('enough');
      abort.abort(reason);
      await expect(within(waiting, 'the campaign to end')).rejects.toBe(reason);
      await expect(store.campaign(campaign(at('other'), 'two', abort.signal))).rejects.toBe(reason);
      await leadership.resign();
      expect(await store.get(at('leader'))).toBeNull();
    });

    test('takes as many operations and bytes as it says, fence and expectation besides, and refuses more', async () => {
      const store = open();
      const { at, ...range } = ownRange();
      const leadership = await store.campaign(campaign(at('leader'), 'one'));
      const names = Array.from({ length: store.maxOperations + 1 }, (_, index) => `many-${index}`);
      const fence = { leadership, expect: { key: at('many-0'), revision: 0n } };
      await expect(store.commit({ ...fence, puts: puts(at, names), deletes: [] })).rejects.toThrow(
        InvalidInputError,
      );
      await store.commit({ ...fence, puts: puts(at, names.slice(1, -1)), deletes: [at(names[0] ?? '')] });
      const key = at('big');
      const room = store.maxBytes - Buffer.byteLength(key);
      await expect(
        store.commit({ leadership, puts: [{ key, value: 'x'.repeat(room + 1) }], deletes: [] }),
      ).rejects.toThrow(InvalidInputError);
      const revision = await store.commit({
        ...fence,
        puts: [{ key, value: 'x'.repeat(room) }],
        deletes: [],
      });
      expect((await store.get(key))?.value.length).toBe(room);
      const [batch] = await follow(store, { from: key, to: `${key}\0` }, revision - 1n, () => true);
      expect(batch?.changes[0]?.value?.length).toBe(room);
      expect((await readAll(store, range)).entries.length).toBe(store.maxOperations + 1);
      await leadership.resign();
    });

    test('refuses a commit that mentions a key twice', async () => {
      const store = open();
      const { at } = ownRange();
      await expect(store.commit({ puts: puts(at, ['a', 'a']), deletes: [] })).rejects.toThrow(
        InvalidInputError,
      );
      await expect(store.commit({ puts: puts(at, ['a']), deletes: [at('a')] })).rejects.toThrow(
        InvalidInputError,
      );
      expect(await store.get(at('a'))).toBeNull();
    });

    test('ends a watch quietly when its signal aborts, also before it began', async () => {
      const store = open();
      const { at, ...range } = ownRange();
      const revision = await store.commit({ puts: puts(at, ['a']), deletes: [] });
      const abort = new AbortController();
      const watching = (async () => {
        for await (const _ of store.watch(range, revision, abort.signal));
        return 'ended';
      })();
      abort.abort();
      expect(await within(watching, 'the watch to end')).toBe('ended');
      for await (const _ of store.watch(range, 0n, abort.signal)) expect.unreachable();
    });

    test('ends everything when it is closed, and hands its leadership over', async () => {
      const [store, other] = [open(), open()];
      const { at, ...range } = ownRange();
      const revision = await store.commit({ puts: puts(at, ['a']), deletes: [] });
      const leadership = await store.campaign(campaign(at('leader'), 'one'));
      const waiting = store.campaign(campaign(at('leader'), 'two')).catch((error: unknown) => error);
      const spare = other.campaign(campaign(at('leader'), 'spare'));
      const reading = store.read(range)[Symbol.asyncIterator]();
      await reading.next();
      let batches = 0;
      const watching = (async () => {
        for await (const _ of store.watch(range, revision - 1n, new AbortController().signal)) batches++;
        return 'ended';
      })();
      await vi.waitFor(() => expect(batches).toBeGreaterThan(0), PATIENCE_MS);
      await store.close();
      await store.close();
      expect(await within(watching, 'the watch to end')).toBe('ended');
      expect(await within(waiting, 'the campaign to end')).toBeInstanceOf(UnavailableError);
      expect(leadership.lost.reason).toBeInstanceOf(LeaseLostError);
      await expect(store.get(at('a'))).rejects.toThrow(UnavailableError);
      await expect(store.commit({ puts: puts(at, ['b']), deletes: [] })).rejects.toThrow(UnavailableError);
      await expect(readAll(store, range)).rejects.toThrow(UnavailableError);
      await expect(store.campaign(campaign(at('leader'), 'late'))).rejects.toThrow(UnavailableError);
      expect((await within(spare, 'the spare to lead')).token).toBeGreaterThan(leadership.token);
    });
  });
}

/** A campaign with a lease that no test outlives. */
export function campaign(
  key: string,
  candidate: string,
  signal: AbortSignal = new AbortController().signal,
): CampaignOptions {
  return { key, candidate, ttlMs: 60_000, signal };
}

export function puts(
  at: (name: string) => string,
  names: string[],
  value?: string,
): Omit<KeyValue, 'revision'>[] {
  return names.map((name) => ({ key: at(name), value: value ?? name }));
}

async function collectPages(store: Store, range: KeyRange): Promise<Page[]> {
  const pages: Page[] = [];
  for await (const page of store.read(range)) pages.push(page);
  return pages;
}

/** All of a range; fails when its pages are not of one revision. */
export async function readAll(store: Store, range: KeyRange): Promise<Page> {
  const pages = await collectPages(store, range);
  const revisions = new Set(pages.map(({ revision }) => revision));
  const [revision] = revisions;
  if (revision === undefined || revisions.size !== 1) throw new Error(`pages of ${revisions.size} revisions`);
  return { revision, entries: pages.flatMap(({ entries }) => entries) };
}

/** The batches of a watch up to the one that makes `isDone` true. */
export async function follow(
  store: Store,
  range: KeyRange,
  after: bigint,
  isDone: (seen: WatchBatch[]) => boolean,
): Promise<WatchBatch[]> {
  const seen: WatchBatch[] = [];
  const collect = async (): Promise<WatchBatch[]> => {
    for await (const batch of store.watch(range, after, AbortSignal.timeout(PATIENCE_MS))) {
      seen.push(batch);
      if (isDone(seen)) return seen;
    }
    throw new Error(
      `the watch has given only ${seen.length} batches: ${JSON.stringify(changesIn(seen).slice(-5))}`,
    );
  };
  return collect();
}

export function changesIn(batches: WatchBatch[]): WatchBatch['changes'] {
  return batches.flatMap(({ changes }) => changes);
}

export async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  const abort = new AbortController();
  const late = sleep(PATIENCE_MS, undefined, { signal: abort.signal }).then(
    (): never => {
      throw new Error(`waited ${PATIENCE_MS} ms for ${what}`);
    },
    (): never => undefined as never,
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    abort.abort();
  }
}

/** By revision, then key: the order inside one commit is the store's. */
function inOrder(changes: WatchBatch['changes']): WatchBatch['changes'] {
  return changes.toSorted((a, b) => compareBigints(a.revision, b.revision) || (a.key < b.key ? -1 : 1));
}

function isAscending(revisions: bigint[]): boolean {
  return revisions.every((revision, index) => revision >= (revisions[index - 1] ?? 0n));
}

function compareBigints(a: bigint, b: bigint): number {
  return a < b ? -1 : Number(a > b);
}
