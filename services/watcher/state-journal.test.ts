import {
  appendFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { decodeRecord, emptyChange, keyOf, type Registry, type StoreRecord } from '@elastic-dns/model';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { instanceRecord, registryOf } from './samples.ts';
import { StateJournal } from './state-journal.ts';

let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'state-journal-'));
  file = path.join(folder, 'registry.journal');
});
afterEach(() => rmSync(folder, { recursive: true }));

function apply(
  registry: Registry,
  journal: StateJournal,
  puts: StoreRecord[],
  deletes: StoreRecord[] = [],
): void {
  const change = emptyChange();
  for (const record of puts) change.puts.set(keyOf(record), record);
  for (const record of deletes) change.deletes.add(keyOf(record));
  registry.apply(change);
  journal.note(change);
}

/** What a process that starts now finds. */
function load(): { revision: bigint; records: Map<string, StoreRecord> } | null {
  const state = new StateJournal(folder, registryOf([])).load();
  if (!state) return null;
  const records = new Map<string, StoreRecord>();
  for (const { key, value } of state.entries) {
    const decoded = decodeRecord(key, value);
    if (decoded.ok) records.set(key, decoded.value);
  }
  return { revision: state.revision, records };
}

const at = (revision: bigint) => () => ({ revision, atMs: Number(revision) });

describe('the journal of the last good state', () => {
  it('gives back what was saved, whatever was put and deleted and wherever a kill cuts it off', async () => {
    const steps = fc.array(fc.record({ number: fc.integer({ min: 1, max: 8 }), gone: fc.boolean() }), {
      minLength: 1,
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(steps, fc.double({ min: 0, max: 1, noNaN: true }), async (steps, cut) => {
        rmSync(file, { force: true });
        const registry = registryOf([]);
        const journal = new StateJournal(folder, registry);
        const states: { bytes: number; records: Map<string, StoreRecord> }[] = [];
        for (const [index, { number, gone }] of steps.entries()) {
          const record = instanceRecord(number);
          apply(registry, journal, gone ? [] : [record], gone ? [record] : []);
          await journal.save(at(BigInt(index + 1)));
          states.push({ bytes: statSync(file).size, records: new Map(registry.records) });
          expect(load()).toEqual({ revision: BigInt(index + 1), records: new Map(registry.records) });
        }
        await journal.close();
        const bytes = Math.floor(cut * statSync(file).size);
        truncateSync(file, bytes);
        const last = states.findLastIndex((state) => state.bytes <= bytes);
        // A line that lacks nothing but its end is whole.
        const next = states[last + 1];
        const expected = next && next.bytes === bytes + 1 ? last + 1 : last;
        expect(load()?.records ?? null).toEqual(states[expected]?.records ?? null);
      }),
      { numRuns: 40 },
    );
  });

  it('costs what changes: one more record adds one line, and is not paid with the whole registry', async () => {
    const registry = registryOf(Array.from({ length: 2_500 }, (_, index) => instanceRecord(index + 1)));
    const journal = new StateJournal(folder, registry);
    await journal.save(at(1n));
    const { size, ino } = statSync(file);
    apply(registry, journal, [instanceRecord(9_999)]);
    await journal.save(at(2n));
    expect(statSync(file).ino).toBe(ino);
    expect(statSync(file).size - size).toBeLessThan(2_000);
    expect(load()?.records.size).toBe(2_501);
    await journal.close();
  });

  it('is written anew when most of it is out of date', async () => {
    const registry = registryOf([]);
    const journal = new StateJournal(folder, registry);
    const largest: number[] = [];
    for (let turn = 0; turn < 60; turn++) {
      const records = Array.from({ length: 200 }, (_, index) => ({
        ...instanceRecord(index + 1),
        logSequence: turn,
      }));
      apply(registry, journal, records);
      await journal.save(at(BigInt(turn + 1)));
      largest.push(statSync(file).size);
    }
    expect(Math.max(...largest)).toBeLessThan(2 << 20);
    expect(load()).toEqual({ revision: 60n, records: new Map(registry.records) });
    await journal.close();
  });

  it('takes over what changes while it is being written anew', async () => {
    const registry = registryOf(Array.from({ length: 3_000 }, (_, index) => instanceRecord(index + 1)));
    const journal = new StateJournal(folder, registry);
    const marked: ReadonlyMap<string, StoreRecord>[] = [];
    let isSaved = false;
    const saving = journal
      .save(() => {
        marked.push(new Map(registry.records));
        return { revision: 2n, atMs: 2 };
      })
      .finally(() => (isSaved = true));
    for (let number = 1; !isSaved; number++) {
      apply(registry, journal, [instanceRecord(10_000 + number)], [instanceRecord(number)]);
      await nextTurn();
    }
    await saving;
    expect(marked[0]?.size).toBe(3_000);
    expect(marked[0]?.has(keyOf(instanceRecord(10_001)))).toBe(true);
    expect(load()?.records).toEqual(marked[0]);
    await journal.close();
  });

  it('counts nothing behind a line that is damaged', async () => {
    const registry = registryOf([]);
    const journal = new StateJournal(folder, registry);
    for (const number of [1, 2, 3]) {
      apply(registry, journal, [instanceRecord(number)]);
      await journal.save(at(BigInt(number)));
    }
    await journal.close();
    const lines = readFileSync(file, 'utf8').split('\n');
    lines[lines.length - 3] = '{"put":[["/dns/';
    writeFileSync(file, lines.join('\n'));
    expect(load()?.revision).toBe(2n);
  });

  it('starts without a state from a file that is no journal, and replaces it', async () => {
    expect(load()).toBeNull();
    for (const text of ['', 'nonsense\n', '{"put":[]}\n']) {
      writeFileSync(file, text);
      expect(load()).toBeNull();
    }
    const registry = registryOf([instanceRecord(1)]);
    const journal = new StateJournal(folder, registry);
    await journal.save(at(7n));
    await journal.close();
    appendFileSync(file, '{"put":[["/dns/a"');
    expect(load()).toEqual({ revision: 7n, records: new Map(registry.records) });
    expect(readFileSync(file, 'utf8')).not.toContain('nonsense');
  });

  it('loses nothing that was noted when it could not be written', async () => {
    const registry = registryOf([instanceRecord(1)]);
    const blocked = path.join(folder, 'blocked');
    writeFileSync(blocked, 'a file where the folder has to be');
    const journal = new StateJournal(blocked, registry);
    apply(registry, journal, [instanceRecord(2)]);
    await expect(journal.save(at(1n))).rejects.toThrow('EEXIST');
    rmSync(blocked);
    await journal.save(at(1n));
    await journal.close();
    const state = new StateJournal(blocked, registry).load();
    expect([...(state?.entries ?? [])]).toHaveLength(2);
  });
});
