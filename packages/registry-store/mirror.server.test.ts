import { cp, rm } from 'node:fs/promises';
import { encodeRecord, isRegistryKey, keyOf, REGISTRY_RANGE, type StoreRecord } from '@elastic-dns/model';
import { startFaultProxy, type FaultProxy } from '@elastic-dns/testkit/fault-proxy';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { startEtcd, type TestServer } from '@elastic-dns/testkit/servers';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { beforeEach, describe, expect, test } from 'vitest';
import { readAll } from './contract.ts';
import { EtcdStore } from './etcd.ts';
import { compact, cursor, instance, keysOf, useCleanup } from './fixture.ts';
import { Mirror, type MirrorState } from './mirror.ts';

checkLeaks();
const closing = useCleanup();

describe('mirror of etcd', () => {
  let server: TestServer;
  let proxy: FaultProxy;
  /** Not by way of the proxy. */
  let direct: EtcdStore;
  let mirror: Mirror;
  /** Number of puts and deletes of each change that was told. */
  let told: { puts: number; deletes: number; revision: bigint; left: number }[];

  beforeEach(async () => {
    server = closing(await startEtcd(), (one) => one.remove());
    proxy = closing(await startFaultProxy(server), (one) => one.close());
    direct = closing(new EtcdStore({ endpoints: [server.url] }), (one) => one.close());
    const endpoints = [`http://${proxy.host}:${proxy.port}`];
    const store = closing(new EtcdStore({ endpoints }), (one) => one.close());
    mirror = new Mirror({ store });
    told = [];
    mirror.onChange(({ puts, deletes }, revision) => {
      told.push({ puts: puts.size, deletes: deletes.size, revision, left: mirror.registry.records.size });
    });
  });

  const start = (): void => {
    const abort = new AbortController();
    void closing(mirror.start(abort.signal), async (ended) => {
      abort.abort();
      await ended;
    });
  };
  const commit = (puts: StoreRecord[], deletes: StoreRecord[] = []): Promise<bigint> =>
    direct.commit({ puts: puts.map(encodeRecord), deletes: deletes.map(keyOf) });
  const enter = (state: MirrorState): Promise<boolean> =>
    waitUntil(() => mirror.state === state, { what: `the mirror to be ${state}`, timeoutMs: 40_000 });
  const reach = (revision: bigint): Promise<boolean> =>
    waitUntil(() => mirror.revision >= revision, { what: `revision ${revision}`, timeoutMs: 40_000 });
  const keys = (): string[] => [...mirror.registry.records.keys()].toSorted();
  const answers = (): Promise<unknown> =>
    waitUntil(async () => (await direct.get('/none')) === null, { what: 'an answer' });

  test('has 100,000 instances in one change, and then follows single ones', async () => {
    const records = Array.from({ length: 100_000 }, (_, number) =>
      instance(number, `service-${number % 1_000}`),
    );
    for (let from = 0; from < records.length; from += direct.maxOperations) {
      await commit(records.slice(from, from + direct.maxOperations));
    }
    const revision = await commit([cursor(1)]);
    start();
    await enter('live');
    expect(told).toEqual([{ puts: 100_001, deletes: 0, revision, left: 100_001 }]);
    expect(mirror.registry.instances('web-front-end', 'service-7').size).toBe(100);
    await reach(await commit([instance(100_000), cursor(2)], records.slice(0, 1)));
    expect(told.length).toBe(2);
    expect(told[1]).toMatchObject({ puts: 2, deletes: 1 });
    expect(mirror.rejections).toBe(0);
  });

  test('takes the difference over when its history was compacted while it was cut off', async () => {
    const many = Array.from({ length: 100 }, (_, number) => instance(number));
    await commit([...many, cursor(1)]);
    start();
    await enter('live');
    proxy.refuse();
    expect(proxy.cut()).toBeGreaterThan(0);
    await enter('stale');
    await commit([instance(200), cursor(2)], many.slice(0, 3));
    await compact(server, await commit([cursor(3)]));
    expect(keys().length).toBe(101);
    await proxy.accept();
    await enter('live');
    expect(told.map(({ puts, deletes, left }) => ({ puts, deletes, left }))).toEqual([
      { puts: 101, deletes: 0, left: 101 },
      { puts: 2, deletes: 3, left: 99 },
    ]);
  });

  test('keeps its registry while etcd is stopped, says that it is stale, and goes on', async () => {
    await commit([instance(1), cursor(1)]);
    start();
    await enter('live');
    await server.pause();
    await enter('stale');
    expect(server.state()).toBe('paused');
    expect(keys()).toEqual(keysOf(instance(1), cursor(1)));
    await server.resume();
    await answers();
    await reach(await commit([instance(2), cursor(2)]));
    await enter('live');
    expect(told.map(({ puts }) => puts)).toEqual([2, 2]);
  });

  test('does not follow etcd to an empty or an older state, and takes it up again once that has caught up', async () => {
    await commit([instance(1), cursor(1)]);
    await server.stop();
    const copy = `${server.dataDir}.copy`;
    await cp(server.dataDir, copy, { recursive: true });
    await server.start();
    await answers();
    const last = await commit([instance(2), instance(3), cursor(5)]);
    start();
    await enter('live');
    const reached = keys();

    await server.kill();
    await rm(server.dataDir, { recursive: true });
    await server.start();
    await answers();
    expect((await readAll(direct, REGISTRY_RANGE)).entries).toEqual([]);
    await enter('frozen');
    await server.kill();
    await rm(server.dataDir, { recursive: true });
    await cp(copy, server.dataDir, { recursive: true });
    await server.start();
    await answers();
    expect((await readAll(direct, REGISTRY_RANGE)).revision).toBeLessThan(last);
    // Behind, and catching up as a registrar does: what it folds again comes before the cursor that it reaches.
    await commit([instance(2), cursor(3)]);
    expect(mirror.state).toBe('frozen');
    expect(keys()).toEqual(reached);
    expect(told.length).toBe(1);
    await commit([instance(4), cursor(5)]);
    await enter('live');
    expect(keys()).toEqual(keysOf(instance(1), instance(2), instance(4), cursor(5)));
    expect(told[1]).toMatchObject({ puts: 1, deletes: 1 });
    await reach(await commit([instance(5), cursor(6)]));
  });

  test('ends up equal to the store, never going back, through commits, cuts and compactions in any order', async () => {
    const seed = Math.floor(Math.random() * 2 ** 32);
    const random = randomFrom(seed);
    await commit([cursor(0)]);
    start();
    for (let sequence = 1; sequence <= 400; sequence++) {
      const number = random(50);
      const record = instance(number, `service-${random(3)}`, sequence);
      const revision = await (random(3) === 0
        ? commit([cursor(sequence)], [record])
        : commit([record, cursor(sequence)]));
      const event = random(30);
      if (event < 3) proxy.cut();
      if (event === 3) proxy.refuse();
      if (event === 4) await compact(server, revision);
      if (event > 20) await proxy.accept();
    }
    await proxy.accept();
    const last = await readAll(direct, REGISTRY_RANGE);
    await reach(last.revision);
    await enter('live');
    const stored = last.entries.filter(({ key }) => isRegistryKey(key));
    expect(allOf(mirror), `seed ${seed}`).toEqual(stored.map(({ key, value }) => ({ key, value })));
    const revisions = told.map(({ revision }) => revision);
    expect(revisions, `seed ${seed}`).toEqual(revisions.toSorted((a, b) => Number(a - b)));
    expect(proxy.cuts, `seed ${seed}`).toBeGreaterThan(0);
  });
});

function allOf(mirror: Mirror): ReturnType<typeof encodeRecord>[] {
  return [...mirror.registry.records.values()].map(encodeRecord).toSorted((a, b) => (a.key < b.key ? -1 : 1));
}

/** Whole numbers below a limit, the same ones for the same seed (mulberry32). */
function randomFrom(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}
