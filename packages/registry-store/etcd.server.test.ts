import { cp, rm } from 'node:fs/promises';
import { CompactedError, ConflictError, InvalidInputError, UnavailableError } from '@elastic-dns/model';
import { startFaultProxy, type FaultProxy } from '@elastic-dns/testkit/fault-proxy';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { startEtcd, type TestServer } from '@elastic-dns/testkit/servers';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { changesIn, puts, readAll, storeContract } from './contract.ts';
import { EtcdStore } from './etcd.ts';
import type { KeyRange, Store, WatchBatch } from './store.ts';

checkLeaks();

async function compact(server: TestServer, revision: bigint): Promise<void> {
  const response = await fetch(`${server.url}/v3/kv/compaction`, {
    method: 'POST',
    body: JSON.stringify({ revision: String(revision), physical: true }),
  });
  expect(response.ok).toBe(true);
}

storeContract('etcd', async () => {
  const server = await startEtcd();
  return {
    open: () => new EtcdStore({ endpoints: [server.url] }),
    compact: (_store, revision) => compact(server, revision),
    remove: () => server.remove(),
  };
});

/** Watches as the mirror does: again from the last batch after each `UnavailableError`. */
class Recorder {
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

const range = { from: '/watched/', to: '/watched0' };
const at = (name: string): string => `${range.from}${name}`;

/** Commits the values, one after the other, each to a key of its own and to a common one. */
async function write(store: Store, values: string[]): Promise<bigint> {
  let revision = 0n;
  for (const value of values) {
    revision = await store.commit({ puts: puts(at, [value, 'latest'], value), deletes: [] });
  }
  return revision;
}

function numbers(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, index) => String(from + index));
}

/** Each value twice: `write` puts it to two keys. */
function twice(values: string[]): string[] {
  return values.flatMap((value) => [value, value]);
}

describe('etcd store behind a network that breaks', () => {
  let server: TestServer;
  let proxy: FaultProxy;
  /** Reaches the server by the proxy, and directly. */
  let store: EtcdStore;
  let direct: EtcdStore;

  beforeAll(async () => {
    server = await startEtcd();
  });
  afterAll(() => server.remove());
  beforeEach(async () => {
    proxy = await startFaultProxy(server);
    store = new EtcdStore({ endpoints: [`http://${proxy.host}:${proxy.port}`] });
    direct = new EtcdStore({ endpoints: [server.url] });
    await direct.commit({ puts: puts(at, ['start']), deletes: [] });
  });
  afterEach(async () => {
    proxy.pass();
    await Promise.all([store.close(), direct.close()]);
    await proxy.close();
  });

  test('a watch loses and repeats nothing when it is cut at any point of catching up', async () => {
    const start = await write(direct, ['before']);
    const values = numbers(0, 2_000).map((value) => value.padEnd(200, '.'));
    await write(direct, values);
    // In the hand-shake, around the `created` response, and inside of the first batch, which is of some 500 kB.
    const points = [1, 30, 60, 100, 200, 1_000, 50_000, 150_000, 400_000];
    const recorder = new Recorder(store, range, start);
    for (const bytes of points) await proxy.cutAfter('toClient', bytes);
    await waitUntil(() => recorder.values.length >= 4_000, { what: 'all changes', timeoutMs: 30_000 });
    await recorder.stop();
    expect(proxy.cuts).toBe(points.length);
    expect(recorder.values).toEqual(twice(values));
  });

  test('a watch loses and repeats nothing when it is cut between two batches', async () => {
    const start = await write(direct, ['before']);
    const values = numbers(0, 3_500);
    await write(direct, values);
    const recorder = new Recorder(store, range, start);
    // At the end of the first batch of the connection: etcd makes batches of 1,000 commits.
    for (const last of ['999', '1999', '2999']) {
      await proxy.cutWhen('toClient', (seen) => seen.includes(at(last)), true);
    }
    await waitUntil(() => recorder.values.length >= 7_000, { what: 'all changes', timeoutMs: 30_000 });
    await recorder.stop();
    expect(proxy.cuts).toBe(3);
    expect(recorder.values).toEqual(twice(values));
  });

  test('a watch that is not read holds the server back, and gets everything when it is', async () => {
    const start = await write(direct, ['before']);
    const batches = store.watch(range, start, AbortSignal.timeout(60_000))[Symbol.asyncIterator]();
    await write(direct, ['first']);
    await batches.next();
    const total = 400;
    const value = 'x'.repeat(100_000);
    for (let count = 0; count < total; count++) {
      await direct.commit({ puts: [{ key: at('big'), value }], deletes: [] });
    }
    let quietSinceMs = performance.now();
    let forwarded = 0;
    await waitUntil(
      () => {
        if (proxy.forwarded.toClient !== forwarded) quietSinceMs = performance.now();
        forwarded = proxy.forwarded.toClient;
        return performance.now() - quietSinceMs > 1_000;
      },
      { what: 'the server to be held back' },
    );
    expect(forwarded).toBeLessThan((total * value.length) / 2);
    let seen = 0;
    while (seen < total) seen += (await batches.next()).value?.changes.length ?? 0;
    expect(proxy.forwarded.toClient).toBeGreaterThan(total * value.length);
    await batches.return?.();
  });

  test('a watch takes a backlog that is larger than the client’s default message limit', async () => {
    const start = await write(direct, ['before']);
    const values = numbers(0, 800).map((value) => value.padEnd(8_000, '.'));
    for (const value of values) await direct.commit({ puts: [{ key: at('big'), value }], deletes: [] });
    const recorder = new Recorder(store, range, start);
    await waitUntil(() => recorder.values.length >= 800, { what: 'all changes', timeoutMs: 30_000 });
    await recorder.stop();
    const sizes = recorder.batches.map((batch) =>
      changesIn([batch]).reduce((sum, { value }) => sum + (value?.length ?? 0), 0),
    );
    expect(Math.max(...sizes)).toBeGreaterThan(4 * 1_024 * 1_024);
    expect(recorder.values).toEqual(values);
  });

  test('a watch whose revision was compacted while it was cut off says so', async () => {
    const start = await write(direct, ['before']);
    const recorder = new Recorder(store, range, start);
    await write(direct, ['seen']);
    await waitUntil(() => recorder.values.length === 2, { what: 'the first change' });
    proxy.refuse();
    expect(proxy.cut()).toBeGreaterThan(0);
    await compact(server, await write(direct, ['missed', 'kept']));
    await proxy.accept();
    await waitUntil(() => recorder.errors.at(-1) instanceof CompactedError, { what: 'the error' });
    await recorder.stop();
    expect(recorder.values).toEqual(['seen', 'seen']);
  });

  test('a commit whose reply is lost is reported as unknown, is in once, and is not taken for a conflict', async () => {
    const key = at('cursor');
    const before = (await direct.get(at('start')))?.revision ?? 0n;
    await store.get(key);
    const swallowed = proxy.swallowed.toClient;
    proxy.swallow('toClient');
    await expect(
      store.commit({ expect: { key, revision: 0n }, puts: [{ key, value: 'mine' }], deletes: [] }),
    ).rejects.toThrow(UnavailableError);
    expect(proxy.swallowed.toClient).toBeGreaterThan(swallowed);
    // As the port tells: look before trying again. And no second connection is needed to be told to.
    proxy.pass();
    const { entries, revision } = await readAll(store, range);
    expect(entries.find((entry) => entry.key === key)).toMatchObject({ value: 'mine', revision });
    expect(revision).toBe(before + 1n);
    await expect(
      store.commit({ expect: { key, revision: 0n }, puts: [{ key, value: 'again' }], deletes: [] }),
    ).rejects.toThrow(ConflictError);
    await direct.commit({ puts: [], deletes: [key] });
  });

  test('reads are answered at once when commits have failed many times before', async () => {
    proxy.refuse();
    proxy.cut();
    for (let round = 0; round < 10; round++) {
      await expect(store.commit({ puts: puts(at, ['refused']), deletes: [] })).rejects.toThrow(
        UnavailableError,
      );
    }
    await proxy.accept();
    expect(await store.get(at('start'))).toMatchObject({ value: 'start' });
    expect(await store.get(at('refused'))).toBeNull();
  });

  test('a connection that has gone silent is not used again', async () => {
    await store.get(at('start'));
    const connections = proxy.accepted;
    proxy.swallow('toServer');
    await expect(store.get(at('start'))).rejects.toThrow(UnavailableError);
    expect(proxy.swallowed.toServer).toBeGreaterThan(0);
    proxy.pass();
    // The old connection is open, and will never answer: it lacks bytes.
    expect(await store.get(at('start'))).toMatchObject({ value: 'start' });
    expect(proxy.accepted).toBeGreaterThan(connections);
  });

  test('a server with smaller limits is not asked again for what it will never take', async () => {
    const small = await startEtcd({ args: ['--max-request-bytes', '10000', '--max-txn-ops', '8'] });
    const other = new EtcdStore({ endpoints: [small.url] });
    await expect(other.commit({ puts: puts(at, ['big'], 'x'.repeat(20_000)), deletes: [] })).rejects.toThrow(
      InvalidInputError,
    );
    await expect(other.commit({ puts: puts(at, numbers(0, 9)), deletes: [] })).rejects.toThrow(
      InvalidInputError,
    );
    await other.close();
    await small.remove();
  });
});

describe('etcd store whose server breaks', () => {
  let server: TestServer;
  let store: EtcdStore;

  beforeEach(async () => {
    server = await startEtcd();
    store = new EtcdStore({ endpoints: [server.url] });
  });
  afterEach(async () => {
    await store.close();
    await server.remove();
  });

  test('a server that accepts and answers nothing is noticed by calls and by a watch, which goes on when it wakes', async () => {
    const recorder = new Recorder(store, range, await write(store, ['before']));
    await write(store, ['a']);
    await waitUntil(() => recorder.values.length === 2, { what: 'the first change' });
    await server.pause();
    await expect(store.commit({ puts: puts(at, ['never']), deletes: [] })).rejects.toThrow(UnavailableError);
    await expect(store.get(at('a'))).rejects.toThrow(UnavailableError);
    await waitUntil(() => recorder.errors.length > 0, { what: 'the watch to notice', timeoutMs: 40_000 });
    expect(server.state()).toBe('paused');
    expect(recorder.errors[0]).toBeInstanceOf(UnavailableError);
    await server.resume();
    await waitUntil(() => store.get(at('a')), { what: 'an answer' });
    await write(store, ['b']);
    await waitUntil(() => recorder.values.includes('b'), { what: 'the next change' });
    await recorder.stop();
    // What was sent to the stopped server may be in or not: that is what the error has said.
    expect(recorder.values.filter((value) => value !== 'never')).toEqual(twice(['a', 'b']));
  });

  test('a watch bridges a restart without an error, and loses and repeats nothing', async () => {
    const recorder = new Recorder(store, range, await write(store, ['before']));
    await write(store, numbers(0, 50));
    const pid = server.pid();
    await server.restart();
    expect(server.pid()).not.toBe(pid);
    await waitUntil(() => store.get(at('before')), { what: 'an answer' });
    await write(store, numbers(50, 100));
    await waitUntil(() => recorder.values.length >= 200, { what: 'all changes' });
    await recorder.stop();
    expect(recorder.values).toEqual(twice(numbers(0, 100)));
    expect(recorder.errors).toEqual([]);
  });

  test('a watch tells of an outage of more than 20 s, and goes on after it without loss or repetition', async () => {
    const recorder = new Recorder(store, range, await write(store, ['before']));
    await write(store, ['a']);
    await waitUntil(() => recorder.values.length === 2, { what: 'the first change' });
    await server.kill();
    const killedAtMs = performance.now();
    await waitUntil(() => performance.now() - killedAtMs > 21_000, { what: 'the outage', timeoutMs: 30_000 });
    expect(server.state()).toBe('gone');
    expect(recorder.errors.length).toBeGreaterThan(0);
    expect(recorder.errors.every((error) => error instanceof UnavailableError)).toBe(true);
    await server.start();
    await waitUntil(() => store.get(at('a')), { what: 'an answer' });
    await write(store, ['b']);
    await waitUntil(() => recorder.values.includes('b'), { what: 'the next change' });
    await recorder.stop();
    expect(recorder.values).toEqual(twice(['a', 'b']));
  });

  test('a watch ends when the server was put back to an older state, instead of staying silent', async () => {
    const copy = `${server.dataDir}.copy`;
    await write(store, ['old']);
    await server.stop();
    await cp(server.dataDir, copy, { recursive: true });
    await server.start();
    await waitUntil(() => store.get(at('old')), { what: 'an answer' });
    const revision = await write(store, numbers(0, 20));
    const recorder = new Recorder(store, range, revision);
    await server.kill();
    await rm(server.dataDir, { recursive: true });
    await cp(copy, server.dataDir, { recursive: true });
    await server.start();
    await waitUntil(() => recorder.errors.at(-1) instanceof CompactedError, { what: 'the error' });
    expect((await readAll(store, range)).revision).toBeLessThan(revision);
    await recorder.stop();
    expect(recorder.values).toEqual([]);
  });
});
