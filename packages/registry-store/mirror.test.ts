import { ConfigError, encodeRecord, keyOf, UnavailableError, type StoreRecord } from '@elastic-dns/model';
import { sampleInstance } from '@elastic-dns/model/samples';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { cursor, instance, keysOf, MirrorFixture } from './fixture.ts';

describe('mirror', () => {
  let fixture: MirrorFixture;
  beforeEach(() => {
    fixture = new MirrorFixture();
  });
  afterEach(() => fixture.remove());

  test('reads what is there as one change, then follows commit by commit', async () => {
    expect(fixture.mirror.state).toBe('empty');
    const first = await fixture.commit([instance(1), instance(2, 'web'), cursor(1)]);
    fixture.start();
    await fixture.reach(first);
    await fixture.enter('live');
    expect(fixture.keys()).toEqual(keysOf(instance(1), instance(2, 'web'), cursor(1)));
    const second = await fixture.commit([instance(3, 'web'), cursor(2)], [instance(1)]);
    await fixture.reach(second);
    expect(
      fixture.changes.map(({ revision, services }) => ({ revision, services: services.toSorted() })),
    ).toEqual([
      { revision: first, services: ['api.web-front-end', 'web.web-front-end'] },
      { revision: second, services: ['api.web-front-end', 'web.web-front-end'] },
    ]);
    expect(fixture.told(1).puts).toEqual(keysOf(instance(3, 'web'), cursor(2)));
    expect(fixture.told(1).deletes).toEqual(keysOf(instance(1)));
    expect([...fixture.mirror.registry.instances('web-front-end', 'web').keys()]).toEqual(
      [2, 3].map((number) => sampleInstance('node-a', number).id),
    );
    expect(fixture.breakable.reads).toBe(1);
  });

  test('is live with an empty registry on an empty store', async () => {
    fixture.start();
    await fixture.enter('live');
    expect(fixture.keys()).toEqual([]);
    expect(fixture.changes).toEqual([]);
  });

  test('leaves keys between its two prefixes alone, and the leader’s', async () => {
    await fixture.put('/dns-foreign/a', '{}');
    await fixture.put('/e', 'x');
    fixture.start();
    await fixture.enter('live');
    await fixture.put('/elastic-dns/leader', 'somebody');
    await fixture.put('/docker/network', 'x');
    await fixture.reach(await fixture.commit([cursor(1)]));
    expect(fixture.keys()).toEqual(keysOf(cursor(1)));
    expect(fixture.mirror.rejections).toBe(0);
  });

  test('keeps the last good record of a key whose value cannot be decoded, and counts it with its reason', async () => {
    const key = keyOf(instance(1));
    await fixture.commit([instance(1), cursor(1)]);
    await fixture.put(keyOf(instance(2)), 'not json');
    fixture.start();
    await fixture.enter('live');
    expect([...fixture.mirror.rejected.keys()]).toEqual(keysOf(instance(2)));
    await fixture.put(key, '{"host":"10.0.0.1"}');
    await fixture.reach(await fixture.commit([instance(3), cursor(2)]));
    expect(fixture.mirror.registry.records.get(key)).toEqual(instance(1));
    expect(fixture.mirror.rejected.get(key)).toContain(key);
    expect(fixture.mirror.rejections).toBe(2);
    expect(fixture.keys()).toEqual(keysOf(instance(1), instance(3), cursor(1)));
    // Read again, it is still there; good again or deleted, it is no longer listed.
    fixture.breakable.break();
    await fixture.enter('stale');
    await fixture.outrunHistory();
    fixture.breakable.mend();
    await fixture.reach(await fixture.commit([instance(2), cursor(3)]));
    await fixture.enter('live');
    expect(fixture.mirror.registry.records.get(key)).toEqual(instance(1));
    expect([...fixture.mirror.rejected.keys()]).toEqual([key]);
    await fixture.reach(await fixture.commit([cursor(4)], [instance(1)]));
    expect(fixture.mirror.rejected.size).toBe(0);
    expect(fixture.mirror.registry.records.has(key)).toBe(false);
  });

  test('keeps what it has while the store is out of reach, says since when, and goes on without reading again', async () => {
    await fixture.commit([instance(1), cursor(1)]);
    fixture.start();
    await fixture.enter('live');
    const liveSinceMs = fixture.mirror.sinceMs;
    fixture.breakable.break();
    await fixture.enter('stale');
    await fixture.fail(3);
    expect(fixture.mirror.sinceMs).toBeGreaterThanOrEqual(liveSinceMs);
    const missed = await fixture.commit([instance(2), cursor(2)]);
    expect(fixture.keys()).toEqual(keysOf(instance(1), cursor(1)));
    fixture.breakable.mend();
    await fixture.reach(missed);
    await fixture.enter('live');
    expect(fixture.breakable.reads).toBe(1);
    expect(fixture.changes.length).toBe(2);
    expect(fixture.told(1).puts).toEqual(keysOf(instance(2), cursor(2)));
  });

  test('is live again after an outage in which nothing changed', async () => {
    await fixture.commit([instance(1), cursor(1)]);
    fixture.start();
    await fixture.enter('live');
    fixture.breakable.break();
    await fixture.enter('stale');
    fixture.breakable.mend();
    await fixture.enter('live');
    expect(fixture.changes.length).toBe(1);
  });

  test('takes only the difference over when the history it missed is gone', async () => {
    await fixture.commit([instance(1), instance(2), instance(3), cursor(1)]);
    fixture.start();
    await fixture.enter('live');
    fixture.breakable.break();
    await fixture.enter('stale');
    await fixture.commit([instance(2, 'api', 7), instance(4), cursor(2)], [instance(3)]);
    await fixture.outrunHistory();
    const emptied = vi.fn<() => void>();
    fixture.mirror.onChange(() => {
      if (!fixture.mirror.registry.records.has(keyOf(instance(1)))) emptied();
    });
    fixture.breakable.mend();
    await fixture.change(2);
    expect(fixture.breakable.reads).toBe(2);
    expect(fixture.told(1).puts).toEqual(keysOf(instance(2), instance(4), cursor(2)));
    expect(fixture.told(1).deletes).toEqual(keysOf(instance(3)));
    expect(emptied).not.toHaveBeenCalled();
    // And watches on from there.
    await fixture.reach(await fixture.commit([instance(5), cursor(3)]));
    expect(fixture.breakable.reads).toBe(2);
  });

  test('shows nothing of a read that broke off half-way', async () => {
    await fixture.commit([instance(1), cursor(1)]);
    let pages = 0;
    fixture.breakable.onPage = async () => {
      if (++pages < 3) throw new UnavailableError('broke off');
    };
    fixture.start();
    await fixture.enter('live');
    expect(pages).toBe(3);
    expect(fixture.changes.length).toBe(1);
  });

  test('ends when its signal aborts, and with the error when trying again is of no use', async () => {
    fixture.start();
    await fixture.enter('live');
    expect(await fixture.stop()).toEqual({ kind: 'aborted' });
    const error = new ConfigError('permission denied');
    fixture.breakable.break(error);
    expect(await fixture.mirror.start(new AbortController().signal)).toEqual({ kind: 'failed', error });
  });

  test('stops telling a listener that was removed', async () => {
    const listener = vi.fn<() => void>();
    const remove = fixture.mirror.onChange(listener);
    fixture.start();
    await fixture.reach(await fixture.commit([instance(1), cursor(1)]));
    expect(listener).toHaveBeenCalledTimes(1);
    remove();
    await fixture.reach(await fixture.commit([instance(2), cursor(2)]));
    expect(listener).toHaveBeenCalledTimes(1);
  });

  describe('that starts from the last good state', () => {
    const seed = (records: StoreRecord[], revision: bigint): void =>
      fixture.mirror.seed({ revision, atMs: 1_000, entries: records.map(encodeRecord) });

    test('has it before the store is in reach, with its age, and then takes over the difference', async () => {
      const revision = await fixture.commit([instance(1), instance(2), cursor(1)]);
      const next = await fixture.commit([instance(3), cursor(2)], [instance(1)]);
      fixture.breakable.break();
      seed([instance(1), instance(2), cursor(1)], revision);
      expect(fixture.mirror).toMatchObject({ state: 'stale', sinceMs: 1_000, revision });
      expect(fixture.keys().length).toBe(3);
      fixture.start();
      await fixture.fail(2);
      expect(fixture.keys().length).toBe(3);
      fixture.breakable.mend();
      await fixture.reach(next);
      await fixture.enter('live');
      expect(fixture.changes.length).toBe(2);
      expect(fixture.told(1).puts).toEqual(keysOf(instance(3), cursor(2)));
      expect(fixture.told(1).deletes).toEqual(keysOf(instance(1)));
    });

    test('leaves out what cannot be decoded of it', () => {
      const entries = [encodeRecord(instance(1)), { key: keyOf(instance(2)), value: '{' }];
      fixture.mirror.seed({ revision: 5n, atMs: 0, entries });
      expect(fixture.keys()).toEqual(keysOf(instance(1)));
      expect(fixture.mirror.rejections).toBe(1);
    });

    test('holds on to it when the store is an older one, and follows once that has caught up', async () => {
      await fixture.commit([instance(1), cursor(3)]);
      seed([instance(1), instance(2), cursor(5)], 1_000n);
      fixture.start();
      await fixture.enter('frozen');
      expect(fixture.keys().length).toBe(3);
      expect(fixture.breakable.reads).toBe(0);
      await fixture.commit([cursor(4)]);
      const caughtUp = await fixture.commit([instance(3), cursor(5)]);
      await fixture.enter('live');
      expect(fixture.mirror.revision).toBe(caughtUp);
      expect(fixture.keys()).toEqual(keysOf(instance(1), instance(3), cursor(5)));
      await fixture.reach(await fixture.commit([cursor(6)], [instance(1)]));
    });
  });
});
