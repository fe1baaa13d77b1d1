import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readMarked, splitLines } from './marked-line.ts';
import { LEAVE_MS, REST_MS, Slots, type Write } from './slots.ts';

const ENGINE_LINES =
  '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\n172.17.0.2\t0c1f2a3b4c5d\n';

type Wanted = Map<string, string[]>;

/** A file in memory; `upTo`: how many of the bytes of the write get in. */
function apply(content: Buffer, write: Write, upTo = write.bytes.length): Buffer {
  const bytes = write.bytes.subarray(0, upTo);
  if (write.offset === null) return Buffer.concat([content, bytes]);
  expect(write.offset + write.bytes.length).toBeLessThanOrEqual(content.length);
  const after = Buffer.from(content);
  bytes.copy(after, write.offset);
  return after;
}

/** What stands in a file: the answers of ours by service, everything foreign, and what is neither. */
function inspect(content: Buffer): { lines: Map<string, string[]>; foreign: string; broken: string[] } {
  const lines = new Map<string, string[]>();
  const broken: string[] = [];
  let foreign = '';
  for (const { text, ended } of splitLines(content)) {
    const reading = readMarked(text);
    if (reading.kind === 'foreign') foreign += `${text}${ended ? '\n' : ''}`;
    if (reading.kind === 'broken') broken.push(text);
    if (reading.kind !== 'answer') continue;
    const key = reading.line.slice(reading.line.lastIndexOf(' ') + 1);
    lines.set(key, [...(lines.get(key) ?? []), reading.line]);
  }
  return { lines, foreign, broken };
}

const services = [
  'api.shop',
  'web.shop',
  'db.a',
  `${'long-name-'.repeat(5)}x.shop`,
  `${'n'.repeat(63)}.${'m'.repeat(63)}`,
];

const wanted: fc.Arbitrary<Wanted> = fc
  .tuple(
    ...services.map(() =>
      fc.uniqueArray(
        fc
          .integer({ min: 1, max: 12 })
          .map((number) => (number > 9 ? `fd00::${number}` : `10.0.0.${number}`)),
        { maxLength: 8 },
      ),
    ),
  )
  .map((addresses) => {
    const lines = services.map((name, index): [string, string[]] => [
      name,
      (addresses[index] ?? []).map((address) =>
        index < 2 ? `${address} ${name.split('.')[0]} ${name}` : `${address} ${name}`,
      ),
    ]);
    return new Map(lines);
  });

/** A walk through states of the registry, with pauses between them. */
const walk = fc.array(fc.record({ wanted, pauseMs: fc.constantFrom(0, 1, 5, LEAVE_MS, REST_MS + 1) }), {
  minLength: 1,
  maxLength: 12,
});

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

  it('leave every line whole and every answer there when the writer is killed after any byte (S9)', () => {
    fc.assert(
      fc.property(walk, fc.nat(), (steps, drawn) => {
        let content: Buffer = Buffer.from(ENGINE_LINES);
        let nowMs = 0;
        const slots = new Slots(content, nowMs);
        let before: Wanted = new Map();
        for (const { wanted, pauseMs } of steps) {
          for (const write of slots.plan(wanted, nowMs)) {
            // The end of a file moves over whole blocks only, so an append is cut between two of them or not at all.
            const { length } = write.bytes;
            const cuts =
              write.offset === null ? blockCuts(content.length, length) : [0, 1, drawn % length, length];
            for (const upTo of cuts)
              expect(findFault(apply(content, write, upTo), [before, wanted])).toBeNull();
            content = apply(content, write);
          }
          nowMs = slots.dueMs ?? nowMs;
          for (const write of slots.plan([], nowMs)) content = apply(content, write);
          nowMs += pauseMs;
          before = wanted;
        }
      }),
      { numRuns: 30 },
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

  it('show a reader that goes forward, however its reads fall between the writes, whole lines and every answer', () => {
    const reads = fc.array(fc.record({ bytes: fc.integer({ min: 1, max: 700 }), writes: fc.nat(6) }), {
      minLength: 10,
      maxLength: 60,
    });
    const pauses = fc.array(fc.constantFrom(0, 1, 3), { minLength: 12, maxLength: 12 });
    fc.assert(
      fc.property(walk, walk, pauses, reads, (history, steps, pauses, reads) => {
        let content: Buffer = Buffer.from(ENGINE_LINES);
        let nowMs = 0;
        const slots = new Slots(content, nowMs);
        let before: Wanted = new Map();
        for (const { wanted, pauseMs } of history) {
          for (const write of slots.plan(wanted, nowMs)) content = apply(content, write);
          nowMs = Math.max(slots.dueMs ?? 0, nowMs) + pauseMs;
          for (const write of slots.plan([], nowMs)) content = apply(content, write);
          before = wanted;
        }
        // A reader takes less than LEAVE_MS from its first byte to its last.
        const states = [before];
        const beganMs = nowMs;
        const pending: Write[] = [];
        const remaining = steps.map(({ wanted }, index) => ({ wanted, pauseMs: pauses[index] ?? 0 }));
        const nextWrite = (): Write | undefined => {
          while (pending.length === 0) {
            const step = remaining.shift();
            if (!step || nowMs + step.pauseMs - beganMs >= LEAVE_MS) return undefined;
            nowMs += step.pauseMs;
            pending.push(...slots.plan(step.wanted, nowMs));
            states.push(step.wanted);
          }
          return pending.shift();
        };
        let seen: Buffer = Buffer.alloc(0);
        for (let read = 0; ; read++) {
          const { bytes, writes } = reads[read % reads.length] ?? { bytes: 1, writes: 0 };
          const piece = content.subarray(seen.length, seen.length + bytes);
          if (piece.length === 0) break;
          seen = Buffer.concat([seen, piece]);
          for (let count = 0; count < writes; count++) {
            const write = nextWrite();
            if (write) content = apply(content, write);
          }
        }
        expect(findFault(seen, states)).toBeNull();
      }),
      { numRuns: 200 },
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

function blockCuts(start: number, length: number): number[] {
  const cuts = [0, length];
  for (let at = 512 - (start % 512); at < length; at += 512) cuts.push(at);
  return cuts;
}

function withRemovals(slots: Slots, wanted: Wanted): Wanted {
  const all: Wanted = new Map(wanted);
  for (const key of slots.keys) if (!all.has(key)) all.set(key, []);
  return all;
}

/** What a reader must not see while the file goes through these states; null: all is as it should be. */
function findFault(content: Buffer, states: readonly Wanted[]): string | null {
  const { lines, foreign, broken } = inspect(content);
  if (foreign !== ENGINE_LINES) return `foreign lines: ${foreign}`;
  if (broken.length > 0) return `broken line: ${broken.join()}`;
  for (const service of services) {
    const seen = lines.get(service) ?? [];
    const ever = states.map((state) => state.get(service) ?? []);
    const [first = []] = ever;
    const unknown = seen.find((line) => !ever.some((one) => one.includes(line)));
    if (unknown !== undefined) return `never stood there: ${unknown}`;
    if (ever.every((one) => String(one) === String(first)) && String(seen) !== String(first))
      return `${service} did not change, and reads ${String(seen)}`;
    if (seen.length === 0 && ever.every((one) => one.length > 0)) return `${service} has no answer`;
    const missing = first.find((line) => ever.every((one) => one.includes(line)) && !seen.includes(line));
    if (missing !== undefined) return `missing, though it stayed: ${missing}`;
  }
  return null;
}
