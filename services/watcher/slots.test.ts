import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readMarked, splitLines } from './marked-line.ts';
import { apply, ENGINE_LINES, inspect, walk, type Wanted } from './samples.ts';
import { LEAVE_MS, REST_MS, Slots, type Write } from './slots.ts';

describe('slots', () => {
  it('hold exactly the wanted lines, in order, after every plan, and leave every foreign byte (S8)', () => {
    fc.assert(
      fc.property(walk, fc.boolean(), (steps, reload) => {
        let content: Buffer = Buffer.from(ENGINE_LINES);
        let nowMs = 0;
        let slots = new Slots(content, nowMs);
        for (const { wanted, pauseMs } of steps) {
          for (const write of slots.plan(wanted, nowMs)) content = apply(content, write);
          expect(slots.size).toBe(content.length);
          // Old copies that stay for a moment go when they are due.
          nowMs = slots.dueMs ?? nowMs;
          for (const write of slots.plan([], nowMs)) content = apply(content, write);
          expect(slots.dueMs).toBeNull();
          const { lines, foreign, broken } = inspect(content);
          expect(Object.fromEntries(lines)).toEqual(
            Object.fromEntries([...wanted].filter(([, lines]) => lines.length > 0)),
          );
          expect(foreign).toBe(ENGINE_LINES);
          expect(broken).toEqual([]);
          expect(new Slots(content, nowMs).plan(wanted, nowMs)).toEqual([]);
          nowMs += pauseMs;
          if (reload) slots = new Slots(content, nowMs);
        }
      }),
    );
  });

  it('heal from a kill after any write: the next process ends with exactly the wanted lines', () => {
    fc.assert(
      fc.property(walk, fc.nat(), (steps, kill) => {
        let content: Buffer = Buffer.from(ENGINE_LINES);
        let nowMs = 0;
        for (const { wanted, pauseMs } of steps) {
          const writes = new Slots(content, nowMs).plan(wanted, nowMs);
          for (const write of writes.slice(0, kill % (writes.length + 1))) content = apply(content, write);
          nowMs += pauseMs;
        }
        const last = steps.at(-1)?.wanted ?? new Map<string, string[]>();
        const slots = new Slots(content, nowMs);
        for (const write of slots.plan(withRemovals(slots, last), nowMs)) content = apply(content, write);
        for (const write of slots.plan([], slots.dueMs ?? nowMs)) content = apply(content, write);
        expect(Object.fromEntries(inspect(content).lines)).toEqual(
          Object.fromEntries([...last].filter(([, lines]) => lines.length > 0)),
        );
        expect(inspect(content).foreign).toBe(ENGINE_LINES);
      }),
    );
  });

  it('stay within a few times the lines that there are, however often services change', () => {
    let content: Buffer = Buffer.from(ENGINE_LINES);
    let nowMs = 0;
    const slots = new Slots(content, nowMs);
    const size: number[] = [];
    for (let turn = 0; turn < 2_000; turn++) {
      // 30 services of two instances; each turn replaces one instance of one of them, as a rolling deploy does.
      const service = turn % 30;
      const address = (number: number): string => `10.${service}.${number >> 8}.${number & 255}`;
      const lines = [turn, turn + 30].map((number) => `${address(number)} s${service}.shop`);
      for (const write of slots.plan([[`s${service}.shop`, lines]], nowMs)) content = apply(content, write);
      nowMs += 100;
      size.push(content.length);
    }
    // 60 lines, and 1 s of rest at ten changes a second: 70 slots of 64 bytes.
    expect(content.length).toBeLessThan(3 * 70 * 64);
    expect(size.at(-1)).toBe(size[500]);
  });

  it('write the two or three pieces that one change needs and nothing else', () => {
    const lines = Array.from({ length: 100 }, (_, index): [string, string[]] => [
      `s${index}.shop`,
      [`10.0.0.${index} s${index}.shop`],
    ]);
    const slots = new Slots(Buffer.from(ENGINE_LINES), 0);
    expect(slots.plan(lines, 0)).toHaveLength(1);
    expect(slots.plan([['s7.shop', ['10.0.0.7 s7.shop', '10.0.1.7 s7.shop']]], 0)).toHaveLength(2);
    expect(slots.plan([['s7.shop', ['10.0.1.7 s7.shop']]], 0)).toHaveLength(1);
    expect(slots.plan([['s7.shop', ['10.0.1.7 s7.shop']]], 0)).toEqual([]);
  });

  it('take back what is broken: a line with the mark that says nothing a resolver could read', () => {
    const content = Buffer.from(
      `${ENGINE_LINES}\0\0\0\0.0.9 api.shop # elastic-dns\nrk.shop # elastic-dns\n`,
    );
    const slots = new Slots(content, 0);
    let healed: Buffer = content;
    for (const write of slots.plan([], 0)) healed = apply(healed, write);
    expect(inspect(healed)).toEqual({ lines: new Map(), foreign: ENGINE_LINES, broken: [] });
  });

  it('begin on a line of their own when the file does not end with one', () => {
    const content = Buffer.from('127.0.0.1 localhost');
    const [write] = new Slots(content, 0).plan([['api.shop', ['10.0.0.1 api.shop']]], 0);
    const after = apply(content, write as Write);
    expect(inspect(after)).toEqual({
      lines: new Map([['api.shop', ['10.0.0.1 api.shop']]]),
      foreign: '127.0.0.1 localhost\n',
      broken: [],
    });
  });

  it('never lie across a block, also in a file whose lines have shifted', () => {
    const keys = Array.from({ length: 40 }, (_, index) => `${'n'.repeat(20 + index)}.shop`);
    const at = (first: number): [string, string[]][] =>
      keys.map((key, index) => [key, [`10.0.${first}.${index} ${key}`]]);
    let content: Buffer = Buffer.from(ENGINE_LINES);
    for (const write of new Slots(content, 0).plan(at(1), 0)) content = apply(content, write);
    expect(linesAcross(content)).toEqual([]);
    // An engine that drops its own line shifts ours by 24 bytes; what is placed from now on is placed well again.
    content = Buffer.from(content.toString().replace('172.17.0.2\t0c1f2a3b4c5d\n', ''));
    expect(linesAcross(content)).not.toEqual([]);
    const slots = new Slots(content, 0);
    for (const turn of [2, 3, 4]) {
      for (const write of slots.plan(at(turn), turn * 2 * REST_MS)) content = apply(content, write);
      expect(linesAcross(content)).toEqual([]);
    }
  });

  it('leave what is foreign alone even when the engine drops its line between look and write, and heal', () => {
    fc.assert(
      fc.property(walk, walk, (history, steps) => {
        let content: Buffer = Buffer.from(ENGINE_LINES);
        let nowMs = 0;
        for (const [index, { wanted }] of history.entries()) {
          const slots = new Slots(content, nowMs);
          nowMs += 2 * REST_MS;
          for (const write of slots.plan(withRemovals(slots, wanted), nowMs)) content = apply(content, write);
          // A network comes, and the engine adds its line behind ours.
          if (index % 3 === 1)
            content = Buffer.concat([content, Buffer.from(`172.19.0.${index}\tnetwork${index}\n`)]);
        }
        const slots = new Slots(content, nowMs);
        for (const { wanted } of steps) {
          nowMs += 2 * REST_MS;
          const writes = slots.plan(withRemovals(slots, wanted), nowMs);
          const shifted = Buffer.from(content.toString().replace('172.17.0.2\t0c1f2a3b4c5d\n', ''));
          const { foreign } = inspect(shifted);
          let harmed: Buffer = shifted;
          for (const write of writes) {
            if (write.offset !== null) harmed = apply(harmed, write);
            content = apply(content, write);
          }
          expect(inspect(harmed).foreign).toBe(foreign);
          const healing = new Slots(harmed, nowMs);
          let healed = harmed;
          for (const due of [nowMs, nowMs + LEAVE_MS]) {
            const again = due === nowMs ? withRemovals(healing, wanted) : [];
            for (const write of healing.plan(again, due)) healed = apply(healed, write);
          }
          const lines = new Map([...wanted].filter(([, lines]) => lines.length > 0));
          expect(inspect(healed)).toEqual({ lines, foreign, broken: [] });
        }
      }),
      { numRuns: 60 },
    );
  });

  it('rest when they have lost their line, as long as a reader may be held up in the middle of it', () => {
    const slots = new Slots(Buffer.from(ENGINE_LINES), 0);
    const offsetOf = (key: string, nowMs: number): number | null => {
      const [write] = slots.plan([[key, [`10.0.0.1 ${key}`]]], nowMs);
      return write?.offset ?? null;
    };
    slots.plan([['a.shop', ['10.0.0.1 a.shop']]], 0);
    const [removal] = slots.plan([['a.shop', []]], 10);
    const freed = (removal?.offset ?? 0) + 1;
    expect(offsetOf('b.shop', 10 + REST_MS - 1)).not.toBe(freed);
    expect(offsetOf('c.shop', 10 + REST_MS)).toBe(freed);
  });

  it('keep the old copy of a line that had to move forward until nobody can be between the two', () => {
    // A full block of services, in slots 0 to 7, then 1, 2, 3 and 7 become room around the line in slot 5.
    const key = (index: number): string => (index === 5 ? 'l.shop' : `s${index}.shop`);
    const line = (index: number): [string, string[]] => [key(index), [`10.0.0.${index} ${key(index)}`]];
    let content: Buffer = Buffer.from(`${'#'.repeat(511)}\n`);
    const slots = new Slots(content, 0);
    const write = (wanted: Iterable<[string, string[]]>, nowMs: number): void => {
      for (const write of slots.plan(wanted, nowMs)) content = apply(content, write);
    };
    write(
      Array.from({ length: 16 }, (_, index) => line(index)),
      0,
    );
    // What growth brought along is taken.
    write(
      Array.from({ length: 8 }, (_, index) => line(16 + index)),
      0,
    );
    write(
      [1, 2, 3, 7].map((index) => [key(index), []]),
      0,
    );
    const nowMs = REST_MS;
    write([['l.shop', ['10.1.0.1 l.shop', '10.0.0.5 l.shop', '10.1.0.2 l.shop', '10.1.0.3 l.shop']]], nowMs);
    expect(inspect(content).lines.get('l.shop')).toEqual([
      '10.1.0.1 l.shop',
      '10.0.0.5 l.shop',
      '10.1.0.2 l.shop',
      '10.0.0.5 l.shop',
      '10.1.0.3 l.shop',
    ]);
    expect(slots.dueMs).toBe(nowMs + LEAVE_MS);
    write([], nowMs + LEAVE_MS);
    expect(inspect(content).lines.get('l.shop')).toHaveLength(4);
  });
});

/** Lines that do not lie in one block. */
function linesAcross(content: Buffer): string[] {
  return [...splitLines(content)]
    .filter(({ offset, length }) => Math.floor(offset / 512) !== Math.floor((offset + length - 1) / 512))
    .map(({ text }) => text)
    .filter((text) => readMarked(text).kind === 'answer');
}

function withRemovals(slots: Slots, wanted: Wanted): Wanted {
  const all: Wanted = new Map(wanted);
  for (const key of slots.keys) if (!all.has(key)) all.set(key, []);
  return all;
}
