/** What the users of deploy/etcd/roles.sh may do, and may not, on a real etcd with deploy/etcd/etcd.conf.yml, through the real store. */
import { ConfigError, LEADER_KEY, REGISTRY_RANGE } from '@elastic-dns/model';
import type { Leadership } from '@elastic-dns/registry-store';
import { EtcdStore } from '@elastic-dns/registry-store/etcd';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { Etcd3 } from 'etcd3';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { makeEtcdRoles, passwordOf, startGuardedEtcd, type Guarded } from './deployment.ts';

const OURS = '/dns/shop/api/i1';
const OUTSIDE = ['/dn', '/dns', '/dns0', '/docker/x', '/elastic-dns', '/elastic-dns0', '/secret'];

checkLeaks();

let etcd: Guarded;
let closers: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  etcd = await startGuardedEtcd();
  await makeEtcdRoles(etcd);
});
afterAll(() => etcd.remove());
afterEach(closeAll);

async function closeAll(): Promise<void> {
  for (const close of closers.splice(0).toReversed()) await close();
}

function open(username: string, password = passwordOf(username)): EtcdStore {
  const store = new EtcdStore({ endpoints: [etcd.url], username, password });
  closers.push(() => store.close());
  return store;
}

/** Past the store: a client that tries what the store never would. */
function connectAs(username: string): Etcd3 {
  const client = new Etcd3({ hosts: etcd.url, auth: { username, password: passwordOf(username) } });
  closers.push(async () => client.close());
  return client;
}

async function lead(store: EtcdStore): Promise<Leadership> {
  const signal = AbortSignal.timeout(10_000);
  const leadership = await store.campaign({ key: LEADER_KEY, candidate: 'r1', ttlMs: 5_000, signal });
  closers.push(() => leadership.resign());
  return leadership;
}

/** A put, as the leader makes it. */
const put = (key: string, value = '{}'): { puts: { key: string; value: string }[]; deletes: string[] } => ({
  puts: [{ key, value }],
  deletes: [],
});

async function readAll(store: EtcdStore): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const { entries } of store.read(REGISTRY_RANGE))
    for (const { key, value } of entries) found[key] = value;
  return found;
}

describe('the registrar', () => {
  test('leads, writes both prefixes, and reads what it wrote', async () => {
    const store = open('registrar');
    const leadership = await lead(store);
    await store.commit({ leadership, ...put(OURS) });
    await store.commit({ leadership, ...put('/elastic-dns/nodes/n1') });
    expect(await readAll(store)).toMatchObject({ [OURS]: '{}', '/elastic-dns/nodes/n1': '{}' });
    await store.commit({ leadership, puts: [], deletes: [OURS] });
    expect(await store.get(OURS)).toBeNull();
  });

  test.each(OUTSIDE)('may not write a key that is not the registry’s: %s', async (key) => {
    await expect(open('registrar').commit(put(key))).rejects.toThrow(ConfigError);
    expect(await connectAs('root').get(key)).toBeNull();
  });

  test('may not make users', async () => {
    await expect(connectAs('registrar').user('mallory').create('x')).rejects.toThrow(/permission denied/i);
  });
});

describe('a watcher', () => {
  test('reads the registry and follows it', async () => {
    const [registrar, watcher] = [open('registrar'), open('watcher')];
    const revision = await registrar.commit(put(OURS, '{"seen":1}'));
    expect(await readAll(watcher)).toMatchObject({ [OURS]: '{"seen":1}' });
    const abort = new AbortController();
    const seen: (string | null)[] = [];
    const watching = (async () => {
      for await (const { changes } of watcher.watch(REGISTRY_RANGE, revision, abort.signal))
        seen.push(...changes.map(({ value }) => value));
    })();
    await registrar.commit(put(OURS, '{"seen":2}'));
    await waitUntil(() => seen.length > 0, { what: 'the change to be seen' });
    expect(seen).toEqual(['{"seen":2}']);
    abort.abort();
    await watching;
  });

  test.each([OURS, '/elastic-dns/cursor', LEADER_KEY, ...OUTSIDE])('may not write: %s', async (key) => {
    const before = await connectAs('root').get(key);
    await expect(open('watcher').commit(put(key, 'forged'))).rejects.toThrow(ConfigError);
    expect(await connectAs('root').get(key)).toBe(before);
  });

  test('may not delete', async () => {
    await open('registrar').commit(put(OURS));
    await expect(open('watcher').commit({ puts: [], deletes: [OURS] })).rejects.toThrow(ConfigError);
    expect(await open('registrar').get(OURS)).not.toBeNull();
  });

  test.each(OUTSIDE.filter((key) => key < REGISTRY_RANGE.from || key >= REGISTRY_RANGE.to))(
    'may not read a key outside of the range: %s',
    async (key) => {
      await connectAs('root').put(key).value('hidden');
      await expect(open('watcher').get(key)).rejects.toThrow(ConfigError);
      const watching = open('watcher').watch({ from: key, to: `${key}\0` }, 1n, AbortSignal.timeout(10_000));
      await expect(watching[Symbol.asyncIterator]().next()).rejects.toThrow(ConfigError);
      await connectAs('root').delete().key(key);
    },
  );

  test('may not lead, nor end who leads', async () => {
    const spare = open('watcher');
    const signal = AbortSignal.timeout(10_000);
    const campaign = { key: LEADER_KEY, candidate: 'watcher', ttlMs: 5_000, signal };
    await expect(spare.campaign(campaign)).rejects.toThrow(ConfigError);

    const registrar = open('registrar');
    const leadership = await lead(registrar);
    const { kvs } = await connectAs('watcher').getAll().prefix(LEADER_KEY).exec();
    const lease = kvs[0]?.lease;
    expect(lease).toBeDefined();
    await expect(connectAs('watcher').leaseClient.leaseRevoke({ ID: lease ?? '' })).rejects.toThrow(
      /permission denied/i,
    );
    await registrar.commit({ leadership, ...put(OURS) });
  });
});

test('nobody comes in without a password, or with a wrong one', async () => {
  const anonymous = new EtcdStore({ endpoints: [etcd.url] });
  closers.push(() => anonymous.close());
  await expect(anonymous.get(OURS)).rejects.toThrow(ConfigError);
  await expect(open('watcher', passwordOf('registrar')).get(OURS)).rejects.toThrow(ConfigError);
});

test('etcd takes the quota of its file', async () => {
  const metrics = await (await fetch(`${etcd.url}/metrics`)).text();
  expect(metrics).toMatch(/^etcd_server_quota_backend_bytes 4.294967296e\+09$/m);
});

test('roles.sh, run again, gives the users the passwords of the files, and changes nothing else', async () => {
  const before = await connectAs('root').role('registrar').permissions();
  const changed = (user: string): string =>
    user === 'watcher' ? 'another-0123456789abcdef' : passwordOf(user);
  await makeEtcdRoles(etcd, { passwords: changed });
  await expect(open('watcher').get(OURS)).rejects.toThrow(ConfigError);
  await open('watcher', changed('watcher')).get(OURS);
  await open('registrar').get(OURS);
  expect(await connectAs('root').role('registrar').permissions()).toEqual(before);
});
