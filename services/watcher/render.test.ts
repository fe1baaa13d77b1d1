import fc from 'fast-check';
import { emptyChange, keyOf, touchedServices, view, type Caller, type Change } from '@elastic-dns/model';
import { describe, expect, it } from 'vitest';
import { parseHosts, renderHosts } from './hosts-text.ts';
import { Renderer } from './render.ts';
import { instanceRecord, registryOf } from './samples.ts';

const callers: Caller[] = ['shop', 'blog', 'empty', null].map((namespace) => ({ namespace }));

const steps = fc.array(
  fc.record({
    number: fc.integer({ min: 1, max: 6 }),
    namespace: fc.constantFrom('shop', 'blog'),
    service: fc.constantFrom('api', 'web'),
    state: fc.constantFrom('ready', 'unready', 'gone'),
  }),
  { maxLength: 25 },
);

describe('Renderer', () => {
  it('gives every caller its view after any row of changes, as text and line by line', () => {
    fc.assert(
      fc.property(steps, (steps) => {
        const registry = registryOf([]);
        const renderer = new Renderer(registry);
        for (const { number, namespace, service, state } of steps) {
          const change: Change = emptyChange();
          const before = [...registry.records.values()].find(
            (record) => record.kind === 'instance' && record.event === `node-a/1/${number}`,
          );
          if (before) change.deletes.add(keyOf(before));
          if (state !== 'gone') {
            const record = instanceRecord(number, { namespace, service, state });
            change.deletes.delete(keyOf(record));
            change.puts.set(keyOf(record), record);
          }
          const touched = touchedServices(registry, change);
          registry.apply(change);
          renderer.update(touched);
          for (const caller of callers) {
            const answers = view(registry, caller);
            expect(renderer.textFor(caller)).toBe(renderHosts(answers));
            const source = renderer.sourceFor(caller);
            const lines = [...source.keys()].flatMap((key) => source.linesOf(key));
            const byName = (text: string): unknown =>
              parseHosts(text).sort((a, b) => (String(a.names) < String(b.names) ? -1 : 1));
            expect(byName(lines.join('\n'))).toEqual(byName(renderHosts(answers)));
          }
        }
      }),
    );
  });

  it('names only the services whose lines differ after a change', () => {
    const records = [instanceRecord(1), instanceRecord(2, { state: 'unready' })];
    const registry = registryOf(records);
    const renderer = new Renderer(registry);
    renderer.textFor({ namespace: 'web-front-end' });
    const api = { namespace: 'web-front-end', service: 'api' };
    // Not ready before, not ready after.
    const change = emptyChange();
    const moved = instanceRecord(2, { state: 'starting' });
    change.puts.set(keyOf(moved), moved);
    registry.apply(change);
    expect(renderer.update([api])).toEqual([]);
    const ready = instanceRecord(2);
    const started = emptyChange();
    started.deletes.add(keyOf(moved));
    started.puts.set(keyOf(ready), ready);
    registry.apply(started);
    expect(renderer.update([api])).toEqual([api]);
  });
});
