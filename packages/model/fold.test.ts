import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Event, EventBody, LogEntry } from './event.ts';
import { fold } from './fold.ts';
import { stateSchema, type Instance } from './instance.ts';
import { encodeRecord, decodeRecord, isRegistryKey, keyOf } from './record.ts';
import { diff, Registry } from './registry.ts';
import { EMPTY_SNAPSHOT, sampleEntry, sampleEvent, sampleInstance } from './samples.ts';
import { view } from './view.ts';

function foldAll(entries: LogEntry[], registry = new Registry()): Registry {
  for (const entry of entries) registry.apply(fold(registry, entry).change);
  return registry;
}

/** Gives the events their places in the log, in the order of arrival. */
function arrive(events: Event[]): LogEntry[] {
  return events.map((event, index) => sampleEntry(event, index + 1));
}

/** What matters of a registry: everything but where each fact came from. */
function facts(registry: Registry): unknown {
  return [...registry.records]
    .filter(([key]) => !key.includes('/tombstones/'))
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, record]) => [key, { ...record, event: '', logSequence: 0, observedAtMs: 0, sequence: 0 }]);
}

const instanceArb = (node: string): fc.Arbitrary<Instance> =>
  fc
    .record({
      number: fc.integer({ min: 1, max: 4 }),
      state: fc.constantFrom(...stateSchema.options),
      moved: fc.boolean(),
    })
    .map(({ number, state, moved }) =>
      sampleInstance(node, number, { state, ...(moved ? { service: 'web' } : {}) }),
    );

const bodyArb = (node: string): fc.Arbitrary<EventBody> =>
  fc.oneof(
    instanceArb(node).map((instance): EventBody => ({ type: 'instance.ready', data: { instance } })),
    instanceArb(node).map((instance): EventBody => ({
      type: 'instance.stopped',
      data: { id: instance.id, reason: 'exit' },
    })),
    instanceArb(node).map((instance): EventBody => ({
      type: 'instance.refused',
      data: { id: instance.id, container: 'c', reason: 'r' },
    })),
    fc
      .uniqueArray(instanceArb(node), { selector: ({ id }) => id })
      .map((instances): EventBody => ({ type: 'node.snapshot', data: { ...EMPTY_SNAPSHOT, instances } })),
  );

/** A node's history: bodies in (epoch, sequence) order, an epoch beginning now and then. */
const historyArb = (node: string): fc.Arbitrary<Event[]> =>
  fc.array(fc.tuple(bodyArb(node), fc.boolean()), { maxLength: 12 }).map((steps) => {
    let [epoch, sequence] = [1, 0];
    return steps.map(([body, restart]) => {
      [epoch, sequence] = restart ? [epoch + 1, 1] : [epoch, sequence + 1];
      return sampleEvent(node, sequence, body, epoch);
    });
  });

const clusterArb = fc.tuple(historyArb('n1'), historyArb('n2')).map(([one, two]) => [...one, ...two]);
const shuffledArb = clusterArb.chain((events) =>
  fc.tuple(
    fc.constant(events),
    fc.shuffledSubarray(events, { minLength: events.length, maxLength: events.length }),
  ),
);

describe('fold', () => {
  it('S5: gives the same registry in whatever order the events arrive', () => {
    fc.assert(
      fc.property(shuffledArb, ([inOrder, shuffled]) => {
        expect(facts(foldAll(arrive(shuffled)))).toEqual(facts(foldAll(arrive(inOrder))));
      }),
      { numRuns: 2_000 },
    );
  });

  it('S5: is idempotent, also when everything arrives a second time later', () => {
    fc.assert(
      fc.property(shuffledArb, ([events, again]) => {
        expect(facts(foldAll(arrive([...events, ...again])))).toEqual(facts(foldAll(arrive(events))));
      }),
      { numRuns: 1_000 },
    );
  });

  it('S4: the newest event of each container and snapshot of each node decide', () => {
    // The oracle keeps a plain model: play each node's history in order and see what runs.
    fc.assert(
      fc.property(clusterArb, (events) => {
        const running = new Map<string, Instance | null>();
        for (const event of events) {
          if (event.type === 'node.snapshot') {
            for (const id of running.keys()) if (id.startsWith(`${event.id.node}-`)) running.delete(id);
            for (const instance of event.data.instances) running.set(instance.id, instance);
          } else if (event.type === 'instance.stopped' || event.type === 'instance.refused')
            running.delete(event.data.id);
          else running.set(event.data.instance.id, event.data.instance);
        }
        const registry = foldAll(arrive(events));
        const folded = [...registry.records.values()].flatMap((record) =>
          record.kind === 'instance' ? [record.instance] : [],
        );
        const byId = (a: { id: string }, b: { id: string }): number => (a.id < b.id ? -1 : 1);
        expect(folded.toSorted(byId)).toEqual(
          [...running.values()].filter((instance) => instance !== null).toSorted(byId),
        );
      }),
      { numRuns: 1_000 },
    );
  });

  it('keeps its indexes equal to its records', () => {
    fc.assert(
      fc.property(shuffledArb, ([, events]) => {
        const registry = foldAll(arrive(events));
        const fresh = new Registry();
        fresh.apply({ puts: new Map(registry.records), deletes: new Set() });
        expect(view(registry, { namespace: 'web-front-end' })).toEqual(
          view(fresh, { namespace: 'web-front-end' }),
        );
        for (const node of ['n1', 'n2'])
          expect(new Set(registry.subjectsOf(node))).toEqual(new Set(fresh.subjectsOf(node)));
      }),
    );
  });

  it('never revives a container that stopped before its start event arrived', () => {
    const instance = sampleInstance('n1', 1);
    const stop = sampleEvent('n1', 2, {
      type: 'instance.stopped',
      data: { id: instance.id, reason: 'exit code 1' },
    });
    const start = sampleEvent('n1', 1, { type: 'instance.started', data: { instance } });
    expect(view(foldAll(arrive([stop, start])), { namespace: null })).toEqual([]);
  });

  it('forgets tombstones once a snapshot has settled them', () => {
    const stop = sampleEvent('n1', 1, {
      type: 'instance.stopped',
      data: { id: sampleInstance('n1', 1).id, reason: 'x' },
    });
    const snapshot = sampleEvent('n1', 2, { type: 'node.snapshot', data: EMPTY_SNAPSHOT });
    expect([...foldAll(arrive([stop])).records.keys()].some((key) => key.includes('/tombstones/'))).toBe(
      true,
    );
    expect(
      [...foldAll(arrive([stop, snapshot])).records.keys()].some((key) => key.includes('/tombstones/')),
    ).toBe(false);
  });

  it('S12: sets a bad event aside with its reason, moves the cursor and keeps the rest', () => {
    const good = sampleEntry(
      sampleEvent('n1', 1, { type: 'instance.started', data: { instance: sampleInstance('n1', 1) } }),
      1,
    );
    const registry = foldAll([good, { ...good, sequence: 2, data: 'nonsense' }]);
    expect(registry.cursor).toMatchObject({ sequence: 2 });
    expect([...registry.setAside.values()]).toMatchObject([
      { logSequence: 2, code: 'malformed', publisher: 'n1' },
    ]);
    expect(view(registry, { namespace: null })).toHaveLength(1);
  });

  it('S13: keeps the newest 100 events set aside', () => {
    const bad = (sequence: number): LogEntry => ({
      sequence,
      incarnation: 'log-1',
      node: 'n1',
      data: '',
      atMs: 0,
    });
    const registry = foldAll(Array.from({ length: 150 }, (_, index) => bad(index + 1)));
    expect([...registry.setAside.keys()]).toEqual(Array.from({ length: 100 }, (_, index) => index + 51));
  });

  it('folds an entry at or before the cursor to nothing', () => {
    const entry = sampleEntry(sampleEvent('n1', 1, { type: 'node.snapshot', data: EMPTY_SNAPSHOT }), 1);
    const { change } = fold(foldAll([entry]), entry);
    expect(change.puts.size + change.deletes.size).toBe(0);
  });

  it('S11: a node changes only records of its own', () => {
    fc.assert(
      fc.property(historyArb('n1'), historyArb('n2'), (one, two) => {
        const registry = foldAll(arrive(one));
        const before = new Map(registry.records);
        const { length } = one;
        for (const [index, event] of two.entries()) {
          const { change } = fold(registry, sampleEntry(event, length + index + 1));
          for (const key of change.deletes) expect(key).toContain('n2');
          registry.apply(change);
        }
        for (const [key, record] of before)
          if (key.includes('/n1')) expect(registry.records.get(key)).toBe(record);
      }),
    );
  });
});

describe('key codec', () => {
  it('brings every record back from its key and value', () => {
    fc.assert(
      fc.property(clusterArb, (events) => {
        const registry = foldAll([
          ...arrive(events),
          { sequence: 999, incarnation: 'log-1', node: 'n1', data: '?', atMs: 5 },
        ]);
        for (const record of registry.records.values()) {
          const { key, value } = encodeRecord(record);
          expect(isRegistryKey(key)).toBe(true);
          const decoded = decodeRecord(key, value);
          expect(decoded).toEqual({ ok: true, value: record });
          if (decoded.ok) expect(encodeRecord(decoded.value).value).toBe(value);
        }
      }),
    );
  });

  it('writes a ready instance as a SkyDNS message', () => {
    const record = {
      kind: 'instance' as const,
      instance: sampleInstance('n1', 1),
      event: 'n1/1/1',
      logSequence: 4,
    };
    const { key, value } = encodeRecord(record);
    expect(key).toBe('/dns/web-front-end/api/n1-000000000001');
    expect(JSON.parse(value)).toMatchObject({
      host: '10.0.49.1',
      port: 3000,
      ttl: 1,
      priority: 10,
      weight: 100,
    });
    const waiting = { ...record, instance: sampleInstance('n1', 1, { state: 'starting' }) };
    expect(keyOf(waiting)).toBe('/elastic-dns/instances/web-front-end/api/n1-000000000001');
  });

  it.each([
    ['/dns/web/api/n1-1', 'not json'],
    ['/dns/web/api/n1-1', '{}'],
    ['/dns/web/api/n1-1', 'null'],
    ['/elastic-dns/cursor', '{"sequence":-1}'],
    ['/elastic-dns/other', '{}'],
  ])('refuses %s with the value %s', (key, value) => {
    expect(decodeRecord(key, value)).toMatchObject({ ok: false, reason: expect.stringContaining(key) });
  });

  it('refuses a value that belongs at another key', () => {
    const record = {
      kind: 'instance' as const,
      instance: sampleInstance('n1', 1, { state: 'unready' }),
      event: 'n1/1/1',
      logSequence: 4,
    };
    const { key, value } = encodeRecord(record);
    expect(decodeRecord(key.replace('/elastic-dns/instances/', '/dns/'), value)).toMatchObject({ ok: false });
  });
});

describe('diff', () => {
  it('turns one registry into the other', () => {
    fc.assert(
      fc.property(clusterArb, clusterArb, (before, after) => {
        const [from, to] = [foldAll(arrive(before)), foldAll(arrive(after))];
        from.apply(diff(from, to));
        expect(diff(from, to)).toEqual({ puts: new Map(), deletes: new Set() });
        expect(view(from, { namespace: 'web-front-end' })).toEqual(view(to, { namespace: 'web-front-end' }));
      }),
    );
  });
});
