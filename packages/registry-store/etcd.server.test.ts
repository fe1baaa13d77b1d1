import { CompactedError, ConflictError, InvalidInputError, UnavailableError } from '@elastic-dns/model';
import { startFaultProxy, type FaultProxy } from '@elastic-dns/testkit/fault-proxy';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { startEtcd, type TestServer } from '@elastic-dns/testkit/servers';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { changesIn, puts, readAll, storeContract } from './contract.ts';
import { EtcdStore } from './etcd.ts';
import { at, compact, numbers, range, Recorder, twice, write } from './fixture.ts';

checkLeaks();

storeContract('etcd', async () => {
  const server = await startEtcd();
  return {
    open: () => new EtcdStore({ endpoints: [server.url] }),
    compact: (_store, revision) => compact(server, revision),
    remove: () => server.remove(),
  };
});

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
    const expected = { key, revision: 0n };
    const commit = store
      .commit({ expect: expected, puts: [{ key, value: 'mine' }], deletes: [] })
      .catch((error: unknown) => error);
    const written = await waitUntil(() => direct.get(key), { what: 'the commit to be in' });
    await waitUntil(() => proxy.swallowed.toClient > swallowed, { what: 'the reply to be lost' });
    // From here on the network works: whoever tried again would be told of a conflict, with his own write.
    proxy.pass();
    proxy.cut();
    expect(await commit).toBeInstanceOf(UnavailableError);
    expect(written.revision).toBe(before + 1n);
    expect((await readAll(store, range)).revision).toBe(written.revision);
    expect(await store.get(key)).toEqual({ key, value: 'mine', revision: written.revision });
    await expect(store.commit({ expect: expected, puts: puts(at, ['other']), deletes: [] })).rejects.toThrow(
      ConflictError,
    );
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

  test('a connection that has gone silent is not used again, even while a watch still waits on it', async () => {
    const start = await write(store, ['before']);
    const recorder = new Recorder(store, range, start);
    await write(store, ['a']);
    await waitUntil(() => recorder.values.length === 2, { what: 'the watch to go' });
    const connections = proxy.accepted;
    proxy.swallow('toServer');
    await expect(store.get(at('a'))).rejects.toThrow(UnavailableError);
    expect(proxy.swallowed.toServer).toBeGreaterThan(0);
    proxy.pass();
    // The old connections are open, and will never answer: they lack bytes.
    expect(await store.get(at('a'))).toMatchObject({ value: 'a' });
    expect(proxy.accepted).toBeGreaterThan(connections);
    await recorder.stop();
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
