import path from 'node:path';
import type { Log } from '@elastic-dns/event-log';
import { EmbeddedLog } from '@elastic-dns/event-log/embedded';
import { encodeRecord, LEADER_KEY, REGISTRY_RANGE, UnavailableError } from '@elastic-dns/model';
import { sampleEvent, sampleInstance } from '@elastic-dns/model/samples';
import type { Leadership } from '@elastic-dns/registry-store';
import { readSnapshot } from '@elastic-dns/registry-store/snapshot';
import { describe, expect, it, vi } from 'vitest';
import {
  expectStoreIsFold,
  interposed,
  makeBeds,
  publish,
  settle,
  start,
  started,
  sumOf,
  WAIT,
} from './fixture.ts';

const bed = makeBeds();

describe('registrar', () => {
  it('S4: the store holds the fold of the log, cursor included', async () => {
    start(bed);
    for (let sequence = 1; sequence <= 300; sequence++) await publish(bed, started('n1', sequence));
    for (let number = 1; number <= 300; number += 2) {
      const data = { id: sampleInstance('n1', number).id, reason: 'exit code 0' };
      await publish(bed, sampleEvent('n1', 300 + number, { type: 'instance.stopped', data }));
    }
    const stored = await expectStoreIsFold(bed);
    expect(stored.instances('web-front-end', 'api').size).toBe(150);
  });

  it('S12: sets bad events aside with the reason, counts them, and folds the rest', async () => {
    const metrics = start(bed);
    await publish(bed, started('n1', 1));
    await bed.log.publish({ node: 'n1', type: 'instance.started', id: 'n1/1/2', data: '{"poison":true}' });
    await publish(bed, started('n1', 3));
    const stored = await expectStoreIsFold(bed);
    expect(stored.instances('web-front-end', 'api').size).toBe(2);
    expect([...stored.setAside.values()]).toMatchObject([{ logSequence: 2, code: 'malformed' }]);
    expect(await sumOf(metrics, 'elastic_dns_registrar_events_set_aside_total', { code: 'malformed' })).toBe(
      1,
    );
  });

  it('S3: a leader whose key was taken commits nothing more and becomes a spare', async () => {
    let stolen: Promise<Leadership> | undefined;
    const steal = new AbortController();
    const metrics = start(bed, {
      store: interposed(bed, async (request, number) => {
        if (number === 2) {
          // The zombie: its key is gone and another candidate's is there when its commit arrives.
          await bed.store.commit({ puts: [], deletes: [LEADER_KEY] });
          stolen = bed.store.campaign({
            key: LEADER_KEY,
            candidate: 'thief',
            ttlMs: 1_000,
            signal: steal.signal,
          });
          await stolen;
        }
        return bed.store.commit(request);
      }),
    });
    await publish(bed, started('n1', 1));
    await expectStoreIsFold(bed);
    await publish(bed, started('n1', 2));
    await vi.waitFor(async () => {
      expect(await sumOf(metrics, 'elastic_dns_loop_restarts_total', { cause: 'FENCED' })).toBe(1);
    }, WAIT);
    expect((await readSnapshot(bed.store)).registry.cursor?.sequence).toBe(1);
    expect(await sumOf(metrics, 'elastic_dns_registrar_leader')).toBe(0);
    await (await stolen)?.resign();
    await expectStoreIsFold(bed);
  });

  it('a spare takes over where the leader stopped', async () => {
    const first = new AbortController();
    const one = start(bed, { candidate: 'r1', signal: first.signal });
    await publish(bed, started('n1', 1));
    await expectStoreIsFold(bed);
    const two = start(bed, { candidate: 'r2' });
    first.abort();
    await bed.running[0];
    await publish(bed, started('n1', 2));
    await expectStoreIsFold(bed);
    expect(await sumOf(one, 'elastic_dns_registrar_events_total')).toBe(1);
    expect(await sumOf(two, 'elastic_dns_registrar_events_total')).toBe(1);
  });

  it('S6: reads a log that was made anew from its beginning and keeps what it had', async () => {
    start(bed);
    await publish(bed, started('n1', 1));
    await publish(bed, started('n2', 1));
    await expectStoreIsFold(bed);
    bed.stop.abort();
    await Promise.all(bed.running);
    await bed.log.close();
    bed.log = new EmbeddedLog({ folder: path.join(bed.folder, 'anew') });
    bed.stop = new AbortController();
    bed.running = [];
    start(bed);
    const stopped = { id: sampleInstance('n1', 1).id, reason: 'exit code 0' };
    await publish(bed, sampleEvent('n1', 2, { type: 'instance.stopped', data: stopped }));
    const { stored } = await settle(bed);
    expect([...stored.instances('web-front-end', 'api').keys()]).toEqual([sampleInstance('n2', 1).id]);
    expect(stored.cursor?.incarnation).toBe((await bed.log.info()).incarnation);
  });

  it('is not ready while the log is out of reach, and says why', async () => {
    let isReachable = false;
    const log: Log = {
      publish: (publication) => bed.log.publish(publication),
      read: (options) => bed.log.read(options),
      info: () => (isReachable ? bed.log.info() : Promise.reject(new UnavailableError('the log is away'))),
      close: () => bed.log.close(),
    };
    start(bed, { log });
    await vi.waitFor(() => expect(bed.health.ready()).toMatchObject({ ok: false }), WAIT);
    expect(bed.health.ready().checks['registrar']).toEqual({ ok: false, why: 'the log is away' });
    isReachable = true;
    await vi.waitFor(() => expect(bed.health.ready()).toMatchObject({ ok: true }), WAIT);
  });

  it('refuses a registry that a newer program wrote', async () => {
    const cursor = { kind: 'cursor' as const, incarnation: 'x', sequence: 1, reducer: 999 };
    await bed.store.commit({ puts: [encodeRecord(cursor)], deletes: [] });
    start(bed);
    await expect(bed.running.pop()).rejects.toThrow(/newer program/);
    for await (const page of bed.store.read(REGISTRY_RANGE)) expect(page.entries.length).toBeGreaterThan(0);
  });
});
