import { cp, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ConflictError, UnavailableError, type LogEntry } from '@elastic-dns/model';
import { startFaultProxy, type FaultProxy } from '@elastic-dns/testkit/fault-proxy';
import { assertNoneLeft, checkLeaks, listHoldings } from '@elastic-dns/testkit/leaks';
import { startNats, type TestServer } from '@elastic-dns/testkit/servers';
import { connect, type ConsumerInfo } from 'nats';
import { afterEach, beforeEach, describe, expect, test, vi, type MockInstance } from 'vitest';
import type { Log, Receipt } from './log.ts';
import { NatsLog, type NatsLogOptions, type NatsNotice } from './nats.ts';
import { follow, makePublication, publishRange, readAll } from './samples.ts';

const STREAM = 'ELASTIC_DNS';
const WAIT = { timeout: 30_000, interval: 20 };

checkLeaks();

let server: TestServer;
let logs: NatsLog[];
let proxies: FaultProxy[];
let notices: NatsNotice[];
let stops: (() => Promise<void>)[];
let printed: MockInstance[];

beforeEach(async () => {
  logs = [];
  proxies = [];
  notices = [];
  stops = [];
  printed = ['log', 'info', 'warn', 'error'].map((method) =>
    vi.spyOn(console, method as 'log').mockImplementation(() => {}),
  );
  server = await startNats();
});
afterEach(async () => {
  for (const stop of stops) await stop();
  await Promise.all(logs.map((log) => log.close()));
  await Promise.all(proxies.map((proxy) => proxy.close()));
  await server.remove();
  // Whatever happened, the client told nobody but us.
  const lines = printed.flatMap(({ mock }) => mock.calls);
  vi.restoreAllMocks();
  if (lines.length > 0) throw new Error(`printed: ${JSON.stringify(lines)}`);
});

function open(options: Partial<NatsLogOptions> = {}): NatsLog {
  const log = new NatsLog({ servers: [server.url], onNotice: (notice) => notices.push(notice), ...options });
  logs.push(log);
  return log;
}

async function openThroughProxy(): Promise<{ log: NatsLog; proxy: FaultProxy }> {
  const proxy = await startFaultProxy(server);
  proxies.push(proxy);
  return { log: open({ servers: [`${proxy.host}:${proxy.port}`] }), proxy };
}

const count = (kind: NatsNotice['kind']): number => notices.filter((notice) => notice.kind === kind).length;
const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

/** Publishes until it is acknowledged, as an agent does; counts the attempts whose outcome it never learned. */
async function insist(log: Log, number: number, unknown: { attempts: number }): Promise<Receipt> {
  for (;;) {
    try {
      return await log.publish(makePublication(number));
    } catch (error) {
      if (!(error instanceof UnavailableError) || unknown.attempts >= 100_000) throw error;
      unknown.attempts += 1;
    }
  }
}

/** Reads on over all that is bridged or not, as a registrar does; counts how often it had to begin again. */
function followForever(log: Log, from = 1) {
  const abort = new AbortController();
  const entries: LogEntry[] = [];
  const interruptions: unknown[] = [];
  const ended = (async () => {
    while (!abort.signal.aborted) {
      const next = (entries.at(-1)?.sequence ?? from - 1) + 1;
      try {
        for await (const batch of log.read({ from: next, signal: abort.signal })) entries.push(...batch);
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        interruptions.push(error);
      }
    }
  })();
  const stop = (): Promise<void> => {
    abort.abort();
    return ended;
  };
  stops.push(stop);
  return { interruptions, sequences: () => entries.map(({ sequence }) => sequence), stop };
}

describe('a server that is stopped (SIGSTOP)', () => {
  test('is noticed while it is stopped, and nothing is lost or doubled once it goes on', async () => {
    const log = open();
    const reader = followForever(log);
    await publishRange(log, 1, 100);
    await vi.waitFor(() => expect(reader.sequences().length).toBe(100), WAIT);

    await server.pause();
    await expect(log.publish(makePublication(101))).rejects.toThrow(UnavailableError);
    await vi.waitFor(() => expect(notices.at(-1)?.kind).toBe('unreachable'), WAIT);
    expect(notices).toContainEqual({
      kind: 'disconnected',
      message: expect.stringContaining('silent') as string,
    });
    await expect(log.info()).rejects.toThrow(UnavailableError);
    expect(server.state()).toBe('paused');

    await server.resume();
    const unknown = { attempts: 0 };
    await Promise.all(range(101, 200).map((number) => insist(log, number, unknown)));
    await vi.waitFor(() => expect(reader.sequences()).toEqual(range(1, 200)), WAIT);
    await reader.stop();
  });

  test('is noticed also when more is on its way to it than buffers hold', async () => {
    const log = open();
    await log.info();
    await server.pause();
    const large = 'x'.repeat(900_000);
    const results = await Promise.allSettled(
      range(1, 60).map((number) => log.publish(makePublication(number, 'n1', large))),
    );
    for (const result of results)
      expect(result).toMatchObject({ reason: expect.any(UnavailableError) as Error });
    await vi.waitFor(() => expect(count('disconnected')).toBe(1), WAIT);
    expect(server.state()).toBe('paused');
    await server.resume();
    await vi.waitFor(() => expect(count('connected')).toBe(2), WAIT);
    const { last } = await log.info();
    // Not all of it fitted.
    expect(last).toBeLessThan(60);
  });

  test('gets each event once, however often it was sent meanwhile', async () => {
    const log = open();
    await log.info();
    await server.pause();
    const unknown = { attempts: 0 };
    const receipts = Promise.all(range(1, 10).map((number) => insist(log, number, unknown)));
    await vi.waitFor(() => expect(unknown.attempts).toBeGreaterThanOrEqual(20), WAIT);
    expect(server.state()).toBe('paused');
    await server.resume();
    const sequences = (await receipts).map(({ sequence }) => sequence);
    expect(sequences.toSorted((a, b) => a - b)).toEqual(range(1, 10));
    // What was sent first arrived as well, and was known already, or made known what came again.
    expect(await log.info()).toMatchObject({ first: 1, last: 10 });
    const seen = await connect({ servers: server.url });
    expect((await (await seen.jetstreamManager()).streams.info(STREAM)).state.messages).toBe(10);
    await seen.close();
  });

  test('keeps no connection attempts of ours, and no log from closing', async () => {
    const before = listHoldings();
    const log = open();
    await log.info();
    await server.pause();
    await vi.waitFor(() => expect(count('unreachable')).toBeGreaterThanOrEqual(2), WAIT);
    await log.close();
    await assertNoneLeft(before);
    expect(server.state()).toBe('paused');
  });
});

describe('a server that goes away', () => {
  test('and comes back at once: a reader reads on as if nothing had been, losing and doubling nothing', async () => {
    const log = open();
    const reader = follow(log);
    const unknown = { attempts: 0 };
    const restarted = new AbortController();
    let published = 0;
    const publishing = (async () => {
      while (!restarted.signal.aborted) {
        const from = published + 1;
        published += 50;
        await Promise.all(range(from, published).map((number) => insist(log, number, unknown)));
      }
    })();
    await vi.waitFor(() => expect(reader.entries.length).toBeGreaterThan(200), WAIT);
    const before = server.pid();
    await server.kill();
    expect(server.state()).toBe('gone');
    await server.start();
    expect(server.pid()).not.toBe(before);
    await vi.waitFor(() => expect(count('connected')).toBe(2), WAIT);
    restarted.abort();
    await publishing;
    await vi.waitFor(() => expect(reader.sequences()).toEqual(range(1, published)), WAIT);
    const numbers = reader.entries.map(({ data }) => (JSON.parse(data) as { number: number }).number);
    expect(numbers.toSorted((a, b) => a - b)).toEqual(range(1, published));
    await reader.stop();
  });

  test('for longer than the client would try on its own: everything is unavailable meanwhile, and heals', async () => {
    const log = open();
    const reader = followForever(log);
    await publishRange(log, 1, 10);
    await vi.waitFor(() => expect(reader.sequences().length).toBe(10), WAIT);
    await server.stop();
    const stoppedAtMs = performance.now();
    while (performance.now() - stoppedAtMs < 25_000) {
      await expect(log.publish(makePublication(11))).rejects.toThrow(UnavailableError);
      expect(server.state()).toBe('gone');
    }
    expect(reader.interruptions.length).toBeGreaterThan(2);
    await server.start();
    const unknown = { attempts: 0 };
    await Promise.all(range(11, 20).map((number) => insist(log, number, unknown)));
    await vi.waitFor(() => expect(reader.sequences()).toEqual(range(1, 20)), WAIT);
    await reader.stop();
  });

  test('before the log was ever connected: it connects when the server comes', async () => {
    await server.stop();
    const log = open();
    const [published, looked] = await Promise.allSettled([log.publish(makePublication(1)), log.info()]);
    expect(published).toMatchObject({ reason: expect.any(UnavailableError) as Error });
    expect(looked).toMatchObject({ reason: { message: expect.stringContaining('ECONNREFUSED') as string } });
    await server.start();
    await vi.waitFor(() => expect(count('connected')).toBe(1), WAIT);
    expect(await log.publish(makePublication(1))).toEqual({ sequence: 1, duplicate: false });
  });

  test('and comes back refusing us: a trouble that passes, for those who were let in before', async () => {
    const log = open();
    await log.info();
    await server.stop();
    const configuration = join(dirname(server.dataDir), 'nats.conf');
    await writeFile(configuration, 'authorization { token: other }');
    await server.start();
    await vi.waitFor(() => expect(notices.at(-1)?.message).toMatch(/Authorization Violation/), WAIT);
    await expect(log.publish(makePublication(1))).rejects.toThrow(UnavailableError);
    await server.stop();
    await writeFile(configuration, '');
    await server.start();
    await vi.waitFor(() => expect(count('connected')).toBe(2), WAIT);
    expect(await log.publish(makePublication(1))).toEqual({ sequence: 1, duplicate: false });
  });
});

describe('a connection that breaks', () => {
  test('between an event and its answer: the event is there, and publishing it again finds it', async () => {
    const { log, proxy } = await openThroughProxy();
    await log.publish(makePublication(1));
    const cut = proxy.cutWhen('toClient', (seen) => seen.includes('"seq":2'));
    await expect(log.publish(makePublication(2))).rejects.toThrow(/outcome is unknown: the connection.*lost/);
    await cut;
    expect(proxy.cuts).toBe(1);
    expect(await log.publish(makePublication(2))).toEqual({ sequence: 2, duplicate: true });
    expect((await readAll(log)).length).toBe(2);
  });

  test('by losing every answer: nobody waits for ever', async () => {
    const { log, proxy } = await openThroughProxy();
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
    const writer = open();
    await publishRange(writer, 1, 20_000);
    const { log, proxy } = await openThroughProxy();
    const reader = follow(log);
    for (const cuts of range(1, 5)) {
      await proxy.cutAfter('toClient', 300_000);
      await vi.waitFor(() => expect(proxy.cuts).toBe(cuts), WAIT);
    }
    await vi.waitFor(() => expect(reader.entries.length).toBeGreaterThanOrEqual(20_000), WAIT);
    expect(reader.sequences()).toEqual(range(1, 20_000));
    await reader.stop();
  });
});

describe('a stream that is replaced', () => {
  test('by an empty one: its readers are told, and so is everyone who knew it', async () => {
    const log = open();
    await publishRange(log, 1, 10);
    const { incarnation } = await log.info();
    const reader = follow(log);
    await vi.waitFor(() => expect(reader.entries.length).toBe(10), WAIT);
    const admin = await connect({ servers: server.url });
    expect(await (await admin.jetstreamManager()).streams.delete(STREAM)).toBe(true);
    await admin.close();
    await expect(reader.ended).rejects.toThrow(ConflictError);
    expect(count('stream-created')).toBe(2);
    expect((await log.info()).incarnation).not.toBe(incarnation);
    await expect(readAll(log, { from: 11, incarnation })).rejects.toThrow(ConflictError);
    expect(await log.publish(makePublication(1))).toEqual({ sequence: 1, duplicate: false });
  });

  test('by a publisher that finds none: it is made anew', async () => {
    const log = open();
    await publishRange(log, 1, 10);
    const admin = await connect({ servers: server.url });
    expect(await (await admin.jetstreamManager()).streams.delete(STREAM)).toBe(true);
    await admin.close();
    const unknown = { attempts: 0 };
    expect(await insist(log, 1, unknown)).toEqual({ sequence: 1, duplicate: false });
    expect(unknown.attempts).toBeGreaterThan(0);
    expect(count('stream-created')).toBe(2);
  });

  async function restoreOlder(writer: NatsLog): Promise<void> {
    await publishRange(writer, 1, 5);
    await server.stop();
    await cp(server.dataDir, `${server.dataDir}-backup`, { recursive: true });
    await server.start();
    await vi.waitFor(() => publishRange(writer, 6, 10), WAIT);
  }

  test('by an older copy of itself: a reader that was further is told', async () => {
    const log = open();
    await restoreOlder(log);
    const reader = follow(log);
    await vi.waitFor(() => expect(reader.entries.length).toBe(10), WAIT);
    const { incarnation } = await log.info();
    await server.stop();
    await rm(server.dataDir, { recursive: true });
    await cp(`${server.dataDir}-backup`, server.dataDir, { recursive: true });
    await server.start();
    await expect(reader.ended).rejects.toThrow(/went back/);
    // The proof: the same stream, shorter.
    expect(await log.info()).toMatchObject({ incarnation, last: 5 });
    await expect(readAll(log, { from: 11, incarnation })).rejects.toThrow(ConflictError);
  });

  test('by an older copy that has grown past what was read: a reader is told by the entry that changed', async () => {
    const writer = open();
    await restoreOlder(writer);
    const { log, proxy } = await openThroughProxy();
    const reader = follow(log);
    await vi.waitFor(() => expect(reader.entries.length).toBe(10), WAIT);
    proxy.refuse();
    expect(proxy.cut()).toBe(1);
    await server.kill();
    await rm(server.dataDir, { recursive: true });
    await cp(`${server.dataDir}-backup`, server.dataDir, { recursive: true });
    await server.start();
    await vi.waitFor(() => publishRange(writer, 101, 110), WAIT);
    expect(await writer.info()).toMatchObject({ last: 15 });
    await proxy.accept();
    await expect(reader.ended).rejects.toThrow(/entry 10 is not the one that was read/);
  });
});

test('entries that went to somebody else are missed, and read after all', async () => {
  const log = open();
  await publishRange(log, 1, 30);
  const thief = await connect({ servers: server.url });
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
    const log = open();
    await publishRange(log, 1, 30);
    const admin = await connect({ servers: server.url });
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
