import { LeaseLostError, FencedError } from '@elastic-dns/model';
import { startFaultProxy, type FaultProxy } from '@elastic-dns/testkit/fault-proxy';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { startEtcd, type TestServer } from '@elastic-dns/testkit/servers';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { puts } from './contract.ts';
import { EtcdStore } from './etcd.ts';
import { at, callGateway } from './fixture.ts';
import type { CampaignOptions, Leadership } from './store.ts';

checkLeaks();

/** The shortest that etcd grants. */
const TTL_MS = 2_000;

describe('leadership in etcd', () => {
  let server: TestServer;
  let proxy: FaultProxy;
  /** Reaches the server by the proxy, and directly. */
  let store: EtcdStore;
  let direct: EtcdStore;
  let campaigns = 0;
  let key: string;

  beforeAll(async () => {
    server = await startEtcd();
  });
  afterAll(() => server.remove());
  beforeEach(async () => {
    key = at(`leader-${++campaigns}`);
    proxy = await startFaultProxy(server);
    store = new EtcdStore({ endpoints: [`http://${proxy.host}:${proxy.port}`] });
    direct = new EtcdStore({ endpoints: [server.url] });
  });
  afterEach(async () => {
    vi.useRealTimers();
    proxy.pass();
    await proxy.accept();
    await Promise.all([store.close(), direct.close()]);
    await proxy.close();
  });

  const options = (candidate: string, ttlMs = TTL_MS): CampaignOptions => ({
    key,
    candidate,
    ttlMs,
    signal: new AbortController().signal,
  });
  const lose = (leadership: Leadership): Promise<boolean> =>
    waitUntil(() => leadership.lost.aborted, { what: 'the lease to be lost' });
  const write = (from: EtcdStore, leadership: Leadership, value: string): Promise<bigint> =>
    from.commit({ leadership, puts: puts(at, ['written'], value), deletes: [] });

  test('is kept for as long as renewals are answered, many times its lease', async () => {
    const leadership = await store.campaign(options('one'));
    const startedAtMs = performance.now();
    await waitUntil(() => performance.now() - startedAtMs > 4 * TTL_MS, {
      what: 'four leases',
      timeoutMs: 20_000,
    });
    expect(leadership.lost.aborted).toBe(false);
    expect((await direct.get(key))?.value).toBe('one');
    await write(store, leadership, 'kept');
  });

  test('survives a wall clock that jumps, and connections that are cut', async () => {
    const leadership = await store.campaign(options('one'));
    vi.useFakeTimers({ toFake: ['Date'], shouldAdvanceTime: true });
    for (const jumpMs of [3_600_000, -7_200_000]) {
      // In the middle of a renewal.
      const { held } = proxy;
      proxy.stall();
      await waitUntil(() => proxy.held > held, { what: 'a renewal' });
      vi.setSystemTime(Date.now() + jumpMs);
      proxy.pass();
      const jumpedAtMs = performance.now();
      await waitUntil(() => performance.now() - jumpedAtMs > TTL_MS, { what: 'a lease' });
      expect(proxy.cut()).toBeGreaterThan(0);
      const cutAtMs = performance.now();
      await waitUntil(() => performance.now() - cutAtMs > TTL_MS, { what: 'a lease' });
    }
    expect(leadership.lost.aborted).toBe(false);
    expect((await direct.get(key))?.revision).toBe(leadership.token);
  });

  test('is lost by its own clock when the server answers nothing any more, while the server still keeps it', async () => {
    const leadership = await store.campaign(options('one', 6_000));
    const swallowed = proxy.swallowed.toClient;
    proxy.swallow('toClient');
    await lose(leadership);
    expect(leadership.lost.reason).toBeInstanceOf(LeaseLostError);
    expect(proxy.swallowed.toClient).toBeGreaterThan(swallowed);
    // Its renewals have reached the server all the while: only the leader's own clock has ended it.
    expect((await direct.get(key))?.revision).toBe(leadership.token);
  });

  test('is lost when the server is stopped, and when it is gone', async () => {
    const other = await startEtcd();
    const client = new EtcdStore({ endpoints: [other.url] });
    const first = await client.campaign(options('one'));
    await other.pause();
    await lose(first);
    expect(other.state()).toBe('paused');
    await other.resume();
    const second = await client.campaign(options('two'));
    await other.kill();
    await lose(second);
    expect(other.state()).toBe('gone');
    await client.close();
    await other.remove();
  });

  test('goes to a spare when the leader is cut off, and the leader that comes back is refused', async () => {
    const zombie = await store.campaign(options('zombie'));
    await write(store, zombie, 'by the first');
    proxy.refuse();
    expect(proxy.cut()).toBeGreaterThan(0);
    const spare = await direct.campaign(options('spare'));
    expect(spare.token).toBeGreaterThan(zombie.token);
    expect(zombie.lost.aborted).toBe(true);
    await write(direct, spare, 'by the spare');
    await proxy.accept();
    await waitUntil(() => store.get(key), { what: 'the zombie to be back' });
    await expect(write(store, zombie, 'by the zombie')).rejects.toThrow(FencedError);
    expect((await direct.get(at('written')))?.value).toBe('by the spare');
    // Nor does its resigning touch the spare's.
    await zombie.resign();
    expect((await direct.get(key))?.value).toBe('spare');
    expect(spare.lost.aborted).toBe(false);
  });

  test('is lost at the first renewal that finds the lease gone', async () => {
    const leadership = await store.campaign(options('one', 12_000));
    const { leases } = (await callGateway(server, 'lease/leases')) as { leases: { ID: string }[] };
    for (const { ID } of leases) await callGateway(server, 'lease/revoke', { ID });
    expect(await direct.get(key)).toBeNull();
    await waitUntil(() => leadership.lost.aborted, { what: 'the lease to be lost' });
    expect(leadership.lost.reason).toMatchObject({ message: 'the store let the lease run out' });
  });

  test('passes at once to a spare that waits when the leader resigns or closes', async () => {
    const patience = 60_000;
    const first = await store.campaign(options('first', patience));
    const second = direct.campaign(options('second', patience));
    await first.resign();
    expect((await direct.get(key))?.value).not.toBe('first');
    const third = store.campaign(options('third', patience));
    expect((await second).token).toBeGreaterThan(first.token);
    await direct.close();
    expect((await third).token).toBeGreaterThan((await second).token);
  });

  test('is recognised as won when the reply to winning was lost', async () => {
    const campaign = store.campaign(options('candidate', 60_000));
    // Replies are swallowed from the moment at which the transaction is on its way.
    void proxy.cutWhen('toServer', (seen) => {
      if (seen.includes('candidate')) proxy.swallow('toClient');
      return false;
    });
    const made = await waitUntil(() => direct.get(key), { what: 'the key to be made' });
    await waitUntil(() => proxy.swallowed.toClient > 0, { what: 'the reply to be lost' });
    proxy.pass();
    proxy.cut();
    const leadership = await campaign;
    expect(leadership.token).toBe(made.revision);
    await write(store, leadership, 'by the candidate');
    expect((await direct.get(key))?.revision).toBe(made.revision);
  });

  test('is waited for through a restart of the server', async () => {
    const other = await startEtcd();
    const [one, two] = [new EtcdStore({ endpoints: [other.url] }), new EtcdStore({ endpoints: [other.url] })];
    const first = await one.campaign(options('one', 60_000));
    const waiting = two.campaign(options('two', 60_000));
    await other.kill();
    expect(other.state()).toBe('gone');
    await other.start();
    await waitUntil(() => one.get(key), { what: 'an answer' });
    expect(first.lost.aborted).toBe(false);
    await first.resign();
    expect((await waiting).token).toBeGreaterThan(first.token);
    await Promise.all([one.close(), two.close()]);
    await other.remove();
  });
});
