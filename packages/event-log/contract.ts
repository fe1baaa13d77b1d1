/**
 * What every log does, as one suite of tests that each adapter's test file runs against its own.
 */
import { ConflictError, InvalidInputError, UnavailableError, type LogEntry } from '@elastic-dns/model';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Log } from './log.ts';
import type { RetentionOptions } from './retention.ts';
import { follow, makePublication, publishRange, readAll, readBatches } from './samples.ts';

/** A place that holds one log, empty at first. */
export interface LogPlace {
  /** A client of that log; each call another one. */
  open(retention?: RetentionOptions): Log;
  /** How many entries the log has handed to its readers so far, whether they have looked at them or not. */
  countTaken(): Promise<number>;
  remove(): Promise<void>;
}

const WAIT = { timeout: 15_000, interval: 10 };

const numbersOf = (entries: LogEntry[]): number[] =>
  entries.map(({ data }) => (JSON.parse(data) as { number: number }).number);
const sequencesOf = (entries: LogEntry[]): number[] => entries.map(({ sequence }) => sequence);
const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

export function logContract(name: string, makePlace: () => Promise<LogPlace>): void {
  describe(`${name}: the log's contract`, () => {
    let place: LogPlace;
    let logs: Log[];
    let log: Log;
    const open = (retention?: RetentionOptions): Log => {
      const opened = place.open(retention);
      logs.push(opened);
      return opened;
    };

    beforeEach(async () => {
      place = await makePlace();
      logs = [];
      log = open();
    });
    afterEach(async () => {
      await Promise.all(logs.map((opened) => opened.close()));
      await place.remove();
    });

    test('gives back what was published, in the order of the calls, with its place, publisher and time', async () => {
      const before = Date.now();
      const receipts = await Promise.all(
        [makePublication(1), makePublication(2, 'n2'), makePublication(3)].map((publication) =>
          log.publish(publication),
        ),
      );
      expect(receipts).toEqual([1, 2, 3].map((sequence) => ({ sequence, duplicate: false })));
      const entries = await readAll(log);
      const { incarnation } = await log.info();
      const atMs = expect.any(Number) as number;
      expect(entries).toEqual([
        { sequence: 1, incarnation, node: 'n1', data: '{"number":1}', atMs },
        { sequence: 2, incarnation, node: 'n2', data: '{"number":2}', atMs },
        { sequence: 3, incarnation, node: 'n1', data: '{"number":3}', atMs },
      ]);
      for (const entry of entries) {
        expect(entry.atMs).toBeGreaterThanOrEqual(before - 1_000);
        expect(entry.atMs).toBeLessThanOrEqual(Date.now() + 1_000);
      }
    });

    test('keeps the first of several with the same id and answers the others with its place', async () => {
      await publishRange(log, 1, 3);
      expect(await log.publish({ ...makePublication(2), data: '{"number":99}' })).toEqual({
        sequence: 2,
        duplicate: true,
      });
      const together = await Promise.all([log.publish(makePublication(4)), log.publish(makePublication(4))]);
      expect(together).toEqual([
        { sequence: 4, duplicate: false },
        { sequence: 4, duplicate: true },
      ]);
      expect(numbersOf(await readAll(log))).toEqual([1, 2, 3, 4]);
    });

    test('ends a reader that does not follow at what was there when it began', async () => {
      await publishRange(log, 1, 5);
      const read: LogEntry[] = [];
      for await (const batch of log.read({ from: 1, follow: false, limit: 2 })) {
        if (read.length === 0) await publishRange(log, 6, 9);
        read.push(...batch);
      }
      expect(numbersOf(read)).toEqual([1, 2, 3, 4, 5]);
      expect(await readAll(log, { from: 10 })).toEqual([]);
    });

    test('ends at once a reader that does not follow on an empty log', async () => {
      expect(await readBatches(log)).toEqual([]);
    });

    test('hands what is published to a reader that waits', async () => {
      const reader = follow(log);
      for (const number of [1, 2, 3]) {
        await log.publish(makePublication(number));
        await vi.waitFor(() => expect(reader.sequences()).toEqual(range(1, number)), WAIT);
      }
      await reader.stop();
    });

    test('hands what one client publishes to a reader of another', async () => {
      const other = open();
      const reader = follow(other);
      await publishRange(log, 1, 3);
      await vi.waitFor(() => expect(reader.sequences()).toEqual([1, 2, 3]), WAIT);
      await publishRange(log, 4, 6);
      await vi.waitFor(() => expect(reader.sequences()).toEqual(range(1, 6)), WAIT);
      expect((await other.info()).incarnation).toBe((await log.info()).incarnation);
      await reader.stop();
    });

    test('begins where the reader asks, also where nothing is yet', async () => {
      await publishRange(log, 1, 5);
      expect(sequencesOf(await readAll(log, { from: 4 }))).toEqual([4, 5]);
      const next = follow(log, { from: 6 });
      const later = follow(log, { from: 9 });
      // Both wait by the time that one of them has been handed something.
      await log.publish(makePublication(6));
      await vi.waitFor(() => expect(next.sequences()).toEqual([6]), WAIT);
      await publishRange(log, 7, 10);
      await vi.waitFor(() => expect(next.sequences()).toEqual([6, 7, 8, 9, 10]), WAIT);
      await vi.waitFor(() => expect(later.sequences()).toEqual([9, 10]), WAIT);
      await Promise.all([next.stop(), later.stop()]);
    });

    test('begins at the first that is kept when what the reader asks for is gone', async () => {
      await log.close();
      await place.remove();
      place = await makePlace();
      const small = open({ maxBytes: 1024 ** 2 });
      const kilobyte = 'x'.repeat(1_000);
      for (let round = 0; round < 30; round++) {
        const numbers = range(round * 100 + 1, round * 100 + 100);
        await Promise.all(numbers.map((number) => small.publish(makePublication(number, 'n1', kilobyte))));
      }
      const { first, last } = await small.info();
      expect(last).toBe(3_000);
      expect(first).toBeGreaterThan(1_000);
      expect(first).toBeLessThan(2_900);
      expect(sequencesOf(await readAll(small, { from: 5 }))).toEqual(range(first, last));
      // Gone, but not forgotten.
      expect(await small.publish(makePublication(7))).toMatchObject({ duplicate: true });
    });

    test('hands over only the events of one node when asked to', async () => {
      for (const node of ['n1', 'n10', 'n', 'n-1', 'n_1']) await publishRange(log, 1, 2, node);
      const entries = await readAll(log, { node: 'n1' });
      expect(entries.map(({ node }) => node)).toEqual(['n1', 'n1']);
      expect(await readAll(log, { node: 'nobody' })).toEqual([]);
      const reader = follow(log, { node: 'n1', from: 3 });
      await publishRange(log, 3, 4, 'n10');
      await publishRange(log, 3, 4, 'n1');
      await vi.waitFor(() => expect(reader.sequences()).toEqual([13, 14]), WAIT);
      await reader.stop();
    });

    test('hands over batches that are never empty and never over the limit', async () => {
      await publishRange(log, 1, 50);
      const batches = await readBatches(log, { limit: 7 });
      for (const batch of batches) {
        expect(batch.length).toBeGreaterThan(0);
        expect(batch.length).toBeLessThanOrEqual(7);
      }
      expect(sequencesOf(batches.flat())).toEqual(range(1, 50));
    });

    test('takes at most one batch more than its reader has asked for', async () => {
      await publishRange(log, 1, 2_000);
      const read: LogEntry[] = [];
      for await (const batch of log.read({ from: 1, follow: false, limit: 100 })) {
        read.push(...batch);
        // Round trips, in which the log could send more; they are known already and change nothing.
        await publishRange(log, 1, 20);
        const taken = await place.countTaken();
        expect(taken).toBeGreaterThanOrEqual(read.length);
        expect(taken).toBeLessThanOrEqual(read.length + 100);
      }
      expect(sequencesOf(read)).toEqual(range(1, 2_000));
    });

    test('ends a reader quietly when its signal aborts: before it began, while it waits, between two batches', async () => {
      await publishRange(log, 1, 30);
      expect(await readAll(log, { signal: AbortSignal.abort() })).toEqual([]);
      const waiting = follow(log);
      await vi.waitFor(() => expect(waiting.entries.length).toBe(30), WAIT);
      await waiting.stop();
      const abort = new AbortController();
      const read: LogEntry[] = [];
      for await (const batch of log.read({ from: 1, limit: 10, signal: abort.signal })) {
        read.push(...batch);
        abort.abort();
      }
      expect(read.length).toBeGreaterThan(0);
      expect(read.length).toBeLessThanOrEqual(10);
    });

    test('lets a reader stop in the middle and another go on from there', async () => {
      await publishRange(log, 1, 20);
      const read: LogEntry[] = [];
      for await (const batch of log.read({ from: 1, limit: 5 })) {
        read.push(...batch);
        if (read.length >= 10) break;
      }
      const rest = await readAll(log, { from: (read.at(-1)?.sequence ?? 0) + 1 });
      expect(sequencesOf([...read, ...rest])).toEqual(range(1, 20));
    });

    test('refuses a reader of another incarnation, and one that has read what is not there', async () => {
      await publishRange(log, 1, 3);
      const { incarnation } = await log.info();
      await expect(readAll(log, { incarnation: 'another' })).rejects.toThrow(ConflictError);
      await expect(readAll(log, { from: 5, incarnation })).rejects.toThrow(ConflictError);
      expect(await readAll(log, { from: 4, incarnation })).toEqual([]);
      expect(sequencesOf(await readAll(log, { from: 2, incarnation }))).toEqual([2, 3]);
    });

    test('says what it keeps, and is the same log when it is opened again', async () => {
      const empty = await log.info();
      expect(empty).toMatchObject({ first: 1, last: 0 });
      await publishRange(log, 1, 3);
      expect(await log.info()).toEqual({ ...empty, last: 3 });
      await log.close();
      const again = open();
      expect(await again.info()).toEqual({ ...empty, last: 3 });
      expect(numbersOf(await readAll(again))).toEqual([1, 2, 3]);
      expect(await again.publish(makePublication(4))).toEqual({ sequence: 4, duplicate: false });
    });

    test('ends its readers quietly when it is closed, and refuses work from then on', async () => {
      await publishRange(log, 1, 3);
      const reader = follow(log);
      await vi.waitFor(() => expect(reader.entries.length).toBe(3), WAIT);
      await log.close();
      await reader.ended;
      await log.close();
      await expect(log.publish(makePublication(4))).rejects.toThrow(UnavailableError);
      await expect(log.info()).rejects.toThrow(UnavailableError);
      expect(await readAll(log).catch((error: unknown) => error)).toBeInstanceOf(UnavailableError);
    });

    test('takes an event of the largest size and refuses a larger one, naming both sizes', async () => {
      const { maxBytes } = await log.info();
      const largest = 'é'.repeat(maxBytes / 2);
      await log.publish(makePublication(1, 'n1', largest));
      const refused = log.publish(makePublication(2, 'n1', `${largest}é`));
      await expect(refused).rejects.toThrow(InvalidInputError);
      await expect(refused).rejects.toThrow(new RegExp(`${maxBytes + 2}.*${maxBytes}`));
      expect(await readAll(log)).toMatchObject([{ sequence: 1, data: largest }]);
    });

    test('takes large events in parts of some 16 MiB, losing none', async () => {
      const large = 'x'.repeat(900_000);
      await Promise.all(range(1, 60).map((number) => log.publish(makePublication(number, 'n1', large))));
      const read: LogEntry[] = [];
      for await (const batch of log.read({ from: 1, follow: false })) {
        read.push(...batch);
        expect(batch.length).toBeLessThanOrEqual(20);
        await publishRange(log, 1, 20);
        expect(await place.countTaken()).toBeLessThanOrEqual(read.length + 20);
      }
      expect(sequencesOf(read)).toEqual(range(1, 60));
    });

    test.each([
      ['a node that widens the subject', { node: 'n1.*' }],
      ['a node of two words', { node: 'n1.n2' }],
      ['a node with a new line', { node: 'n1\r\nPUB' }],
      ['no node', { node: '' }],
      ['a type with a wildcard', { type: 'instance.>' }],
      ['a type with an empty word', { type: 'instance..started' }],
      ['an id with a new line', { id: 'n1/1/1\r\nx: y' }],
      ['an id that is too long', { id: 'n'.repeat(201) }],
      ['no id', { id: '' }],
    ])('refuses %s', async (_, wrong) => {
      await expect(log.publish({ ...makePublication(1), ...wrong })).rejects.toThrow(InvalidInputError);
      expect((await log.info()).last).toBe(0);
    });

    test('keeps every character of the data', async () => {
      const texts = ['é\u{1f600}\u0000\r\n\t"\\\u202e\u2028', '', ' ', '\u{10ffff}', 'NATS/1.0\r\n\r\n'];
      for (const [index, data] of texts.entries()) await log.publish(makePublication(index, 'n1', data));
      expect((await readAll(log)).map(({ data }) => data)).toEqual(texts);
    });

    test('takes thousands of events at a time', async () => {
      await Promise.all([publishRange(log, 1, 5_000), publishRange(log, 1, 5_000, 'n2')]);
      const entries = await readAll(log);
      expect(sequencesOf(entries)).toEqual(range(1, 10_000));
      for (const node of ['n1', 'n2']) {
        expect(numbersOf(entries.filter((entry) => entry.node === node))).toEqual(range(1, 5_000));
      }
    });

    test('serves two readers at their own pace', async () => {
      await publishRange(log, 1, 300);
      const quick = follow(log);
      const slow: LogEntry[] = [];
      for await (const batch of log.read({ from: 1, limit: 10 })) {
        slow.push(...batch);
        if (slow.length === 100) {
          await vi.waitFor(() => expect(quick.entries.length).toBe(300), WAIT);
          await publishRange(log, 301, 400);
        }
        if (slow.length === 400) break;
      }
      expect(sequencesOf(slow)).toEqual(range(1, 400));
      await vi.waitFor(() => expect(quick.sequences()).toEqual(range(1, 400)), WAIT);
      await quick.stop();
    });
  });
}
