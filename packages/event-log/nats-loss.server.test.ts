import { cp, rm } from 'node:fs/promises';
import { ConflictError } from '@elastic-dns/model';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { connect, type ConsumerInfo } from 'nats';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { insist, NatsFixture, range } from './fixture.ts';
import type { NatsLog } from './nats.ts';
import { follow, makePublication, publishRange, readAll } from './samples.ts';

const STREAM = 'ELASTIC_DNS';
const WAIT = { timeout: 30_000, interval: 20 };

checkLeaks();

let nats: NatsFixture;
beforeEach(async () => {
  nats = await NatsFixture.start();
});
afterEach(() => nats.remove());

describe('a connection that breaks', () => {
  test('between an event and its answer: the event is there, and publishing it again finds it', async () => {
    const { log, proxy } = await nats.openThroughProxy();
    await log.publish(makePublication(1));
    const cut = proxy.cutWhen('toClient', (seen) => seen.includes('"seq":2'));
    await expect(log.publish(makePublication(2))).rejects.toThrow(/outcome is unknown: the connection.*lost/);
    await cut;
    expect(proxy.cuts).toBe(1);
    expect(await log.publish(makePublication(2))).toEqual({ sequence: 2, duplicate: true });
    expect((await readAll(log)).length).toBe(2);
  });

  test('by losing every answer: nobody waits for ever', async () => {
    const { log, proxy } = await nats.openThroughProxy();
    await log.publish(makePublication(1));
    proxy.swallow('toClient');
    await expect(log.publish(makePublication(2))).rejects.toThrow(/outcome is unknown/);
    expect(proxy.swallowed.toClient).toBeGreaterThan(0);
    proxy.pass();
    proxy.cut();
    const unknown = { attempts: 0 };
    expect(await insist(log, 2, unknown)).toEqual({ sequence: 2, duplicate: true });
  });

  test('again and again while a reader catches up: it reads every entry once', async () => {
    const writer = nats.open();
    await publishRange(writer, 1, 20_000);
    const { log, proxy } = await nats.openThroughProxy();
    const reader = follow(log);
    for (const cuts of range(1, 5)) {
      await proxy.cutAfter('toClient', 300_000);
      await vi.waitFor(() => expect(proxy.cuts).toBe(cuts), WAIT);
    }
    await vi.waitFor(() => expect(reader.entries.length).toBeGreaterThanOrEqual(20_000), WAIT);
    expect(reader.sequences()).toEqual(range(1, 20_000));
    await reader.stop();
  });

  test('while a reader that does not follow is at work: it still ends where it would have ended', async () => {
    const writer = nats.open();
    await publishRange(writer, 1, 5_000);
    const { log, proxy } = await nats.openThroughProxy();
    const read: number[] = [];
    for await (const batch of log.read({ from: 1, follow: false })) {
      if (proxy.cuts === 0) {
        await publishRange(writer, 5_001, 5_100);
        expect(proxy.cut()).toBe(1);
      }
      read.push(...batch.map(({ sequence }) => sequence));
    }
    expect(proxy.cuts).toBe(1);
    expect(read).toEqual(range(1, 5_000));
  });
});

describe('a stream that is replaced', () => {
  test('by an empty one: its readers are told, and so is everyone who knew it', async () => {
    const log = nats.open();
    await publishRange(log, 1, 10);
    const { incarnation } = await log.info();
    const reader = follow(log);
    await vi.waitFor(() => expect(reader.entries.length).toBe(10), WAIT);
    const admin = await connect({ servers: nats.server.url });
    expect(await (await admin.jetstreamManager()).streams.delete(STREAM)).toBe(true);
    await admin.close();
    await expect(reader.ended).rejects.toThrow(ConflictError);
    expect(nats.count('stream-created')).toBe(2);
    expect((await log.info()).incarnation).not.toBe(incarnation);
    await expect(readAll(log, { from: 11, incarnation })).rejects.toThrow(ConflictError);
    expect(await log.publish(makePublication(1))).toEqual({ sequence: 1, duplicate: false });
  });

  test('by a publisher that finds none: it is made anew', async () => {
    const log = nats.open();
    await publishRange(log, 1, 10);
    const admin = await connect({ servers: nats.server.url });
    expect(await (await admin.jetstreamManager()).streams.delete(STREAM)).toBe(true);
    await admin.close();
    const unknown = { attempts: 0 };
    expect(await insist(log, 1, unknown)).toEqual({ sequence: 1, duplicate: false });
    expect(unknown.attempts).toBeGreaterThan(0);
    expect(nats.count('stream-created')).toBe(2);
  });

  async function restoreOlder(writer: NatsLog): Promise<void> {
    await publishRange(writer, 1, 5);
    await nats.server.stop();
    await cp(nats.server.dataDir, `${nats.server.dataDir}-backup`, { recursive: true });
    await nats.server.start();
    await vi.waitFor(() => publishRange(writer, 6, 10), WAIT);
  }

  test('by an older copy of itself: a reader that was further is told', async () => {
    const log = nats.open();
    await restoreOlder(log);
    const reader = follow(log);
    await vi.waitFor(() => expect(reader.entries.length).toBe(10), WAIT);
    const { incarnation } = await log.info();
    await nats.server.stop();
    await rm(nats.server.dataDir, { recursive: true });
    await cp(`${nats.server.dataDir}-backup`, nats.server.dataDir, { recursive: true });
    await nats.server.start();
    await expect(reader.ended).rejects.toThrow(/went back/);
    // The proof: the same stream, shorter.
    expect(await log.info()).toMatchObject({ incarnation, last: 5 });
    await expect(readAll(log, { from: 11, incarnation })).rejects.toThrow(ConflictError);
  });

  test('by an older copy that has grown past what was read: a reader is told by the entry that changed', async () => {
    const writer = nats.open();
    await restoreOlder(writer);
    const { log, proxy } = await nats.openThroughProxy();
    const reader = follow(log);
    await vi.waitFor(() => expect(reader.entries.length).toBe(10), WAIT);
    proxy.refuse();
    expect(proxy.cut()).toBe(1);
    await nats.server.kill();
    await rm(nats.server.dataDir, { recursive: true });
    await cp(`${nats.server.dataDir}-backup`, nats.server.dataDir, { recursive: true });
    await nats.server.start();
    await vi.waitFor(() => publishRange(writer, 101, 110), WAIT);
    expect(await writer.info()).toMatchObject({ last: 15 });
    await proxy.accept();
    await expect(reader.ended).rejects.toThrow(/entry 10 is not the one that was read/);
  });
});

test('entries that went to somebody else are missed, and read after all', async () => {
  const log = nats.open();
  await publishRange(log, 1, 30);
  const thief = await connect({ servers: nats.server.url });
  const manager = await thief.jetstreamManager();
  const read: number[] = [];
  for await (const batch of log.read({ from: 1, limit: 10 })) {
    read.push(...batch.map(({ sequence }) => sequence));
    if (read.length === 10) {
      await vi.waitFor(async () => {
        const [consumer] = await manager.consumers.list(STREAM).next();
        expect(consumer?.delivered.consumer_seq).toBe(20);
      }, WAIT);
      const [consumer] = await manager.consumers.list(STREAM).next();
      const subject = `$JS.API.CONSUMER.MSG.NEXT.${STREAM}.${consumer?.name}`;
      expect((await thief.request(subject, '{"batch":1}', { timeout: 5_000, noMux: true })).json()).toEqual({
        number: 21,
      });
    }
    if (read.length === 30) break;
  }
  expect(read).toEqual(range(1, 30));
  await thief.close();
});

describe('a consumer that goes away', () => {
  test.each([
    ['while it is waited for', 30],
    ['while nothing is asked of it, which the broker tells nobody', 10],
  ])('%s: is made again where the reader is', async (_, whenRead) => {
    const log = nats.open();
    await publishRange(log, 1, 30);
    const admin = await connect({ servers: nats.server.url });
    const manager = await admin.jetstreamManager();
    const look = async (): Promise<ConsumerInfo | undefined> =>
      (await manager.consumers.list(STREAM).next())[0];
    const read: number[] = [];
    for await (const batch of log.read({ from: 1, limit: 10 })) {
      read.push(...batch.map(({ sequence }) => sequence));
      if (read.length === whenRead) {
        // One batch is in this reader's hands, the next one on its side, or asked for.
        const ahead = {
          delivered: { consumer_seq: Math.min(whenRead + 10, 30) },
          num_waiting: whenRead === 30 ? 1 : 0,
        };
        await vi.waitFor(async () => expect(await look()).toMatchObject(ahead), WAIT);
        expect(await manager.consumers.delete(STREAM, (await look())?.name ?? '')).toBe(true);
        await publishRange(log, 31, 40);
      }
      if (read.length === 40) break;
    }
    expect(read).toEqual(range(1, 40));
    await admin.close();
  });
});
