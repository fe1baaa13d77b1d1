import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { UnavailableError } from '@elastic-dns/model';
import { assertNoneLeft, checkLeaks, listHoldings } from '@elastic-dns/testkit/leaks';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { insist, NatsFixture, range } from './fixture.ts';
import { follow, makePublication, publishRange, readAll } from './samples.ts';

const WAIT = { timeout: 30_000, interval: 20 };

checkLeaks();

let nats: NatsFixture;
beforeEach(async () => {
  nats = await NatsFixture.start();
});
afterEach(() => nats.remove());

describe('a server that is stopped (SIGSTOP)', () => {
  test('is noticed while it is stopped, and nothing is lost or doubled once it goes on', async () => {
    const log = nats.open();
    const reader = nats.followForever(log);
    await publishRange(log, 1, 100);
    await vi.waitFor(() => expect(reader.sequences().length).toBe(100), WAIT);

    await nats.server.pause();
    await expect(log.publish(makePublication(101))).rejects.toThrow(UnavailableError);
    await vi.waitFor(() => expect(nats.notices.at(-1)?.kind).toBe('unreachable'), WAIT);
    expect(nats.notices).toContainEqual({
      kind: 'disconnected',
      message: expect.stringContaining('silent') as string,
    });
    await expect(log.info()).rejects.toThrow(UnavailableError);
    expect(nats.server.state()).toBe('paused');

    await nats.server.resume();
    const unknown = { attempts: 0 };
    await Promise.all(range(101, 200).map((number) => insist(log, number, unknown)));
    await vi.waitFor(() => expect(reader.sequences()).toEqual(range(1, 200)), WAIT);
  });

  test('is noticed also when more is on its way to it than buffers hold', async () => {
    const log = nats.open();
    await log.info();
    await nats.server.pause();
    const large = 'x'.repeat(900_000);
    const results = await Promise.allSettled(
      range(1, 60).map((number) => log.publish(makePublication(number, 'n1', large))),
    );
    for (const result of results)
      expect(result).toMatchObject({ reason: expect.any(UnavailableError) as Error });
    await vi.waitFor(() => expect(nats.count('disconnected')).toBe(1), WAIT);
    expect(nats.server.state()).toBe('paused');
    await nats.server.resume();
    await vi.waitFor(() => expect(nats.count('connected')).toBe(2), WAIT);
    const { last } = await log.info();
    // Not all of it fitted.
    expect(last).toBeLessThan(60);
  });

  test('gets each event once, however often it was sent meanwhile', async () => {
    const log = nats.open();
    await log.info();
    await nats.server.pause();
    const unknown = { attempts: 0 };
    const receipts = Promise.all(range(1, 10).map((number) => insist(log, number, unknown)));
    await vi.waitFor(() => expect(unknown.attempts).toBeGreaterThanOrEqual(20), WAIT);
    expect(nats.server.state()).toBe('paused');
    await nats.server.resume();
    const sequences = (await receipts).map(({ sequence }) => sequence);
    expect(sequences.toSorted((a, b) => a - b)).toEqual(range(1, 10));
    // What was sent first arrived as well, and was known already, or made known what came again.
    expect(await log.info()).toMatchObject({ first: 1, last: 10 });
    expect((await readAll(log)).length).toBe(10);
  });

  test('keeps no connection attempts of ours, and no log from closing', async () => {
    const before = listHoldings();
    const log = nats.open();
    await log.info();
    await nats.server.pause();
    await vi.waitFor(() => expect(nats.count('unreachable')).toBeGreaterThanOrEqual(2), WAIT);
    await log.close();
    await assertNoneLeft(before);
    expect(nats.server.state()).toBe('paused');
  });
});

describe('a server that goes away', () => {
  test('and comes back at once: a reader reads on as if nothing had been, losing and doubling nothing', async () => {
    const log = nats.open();
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
    const before = nats.server.pid();
    await nats.server.kill();
    expect(nats.server.state()).toBe('gone');
    await nats.server.start();
    expect(nats.server.pid()).not.toBe(before);
    await vi.waitFor(() => expect(nats.count('connected')).toBe(2), WAIT);
    restarted.abort();
    await publishing;
    await vi.waitFor(() => expect(reader.sequences()).toEqual(range(1, published)), WAIT);
    const numbers = reader.entries.map(({ data }) => (JSON.parse(data) as { number: number }).number);
    expect(numbers.toSorted((a, b) => a - b)).toEqual(range(1, published));
    await reader.stop();
  });

  test('for longer than the client would try on its own: everything is unavailable meanwhile, and heals', async () => {
    const log = nats.open();
    const reader = nats.followForever(log);
    await publishRange(log, 1, 10);
    await vi.waitFor(() => expect(reader.sequences().length).toBe(10), WAIT);
    await nats.server.stop();
    const stoppedAtMs = performance.now();
    while (performance.now() - stoppedAtMs < 25_000) {
      await expect(log.publish(makePublication(11))).rejects.toThrow(UnavailableError);
      expect(nats.server.state()).toBe('gone');
    }
    expect(reader.interruptions.length).toBeGreaterThan(2);
    await nats.server.start();
    const unknown = { attempts: 0 };
    await Promise.all(range(11, 20).map((number) => insist(log, number, unknown)));
    await vi.waitFor(() => expect(reader.sequences()).toEqual(range(1, 20)), WAIT);
  });

  test('before the log was ever connected: it connects when the server comes', async () => {
    await nats.server.stop();
    const log = nats.open();
    const [published, looked] = await Promise.allSettled([log.publish(makePublication(1)), log.info()]);
    expect(published).toMatchObject({ reason: expect.any(UnavailableError) as Error });
    expect(looked).toMatchObject({ reason: { message: expect.stringContaining('ECONNREFUSED') as string } });
    await nats.server.start();
    await vi.waitFor(() => expect(nats.count('connected')).toBe(1), WAIT);
    expect(await log.publish(makePublication(1))).toEqual({ sequence: 1, duplicate: false });
  });

  test('and comes back refusing us: a trouble that passes, for those who were let in before', async () => {
    const log = nats.open();
    await log.info();
    await nats.server.stop();
    const configuration = join(dirname(nats.server.dataDir), 'nats.conf');
    await writeFile(configuration, 'authorization { token: other }');
    await nats.server.start();
    await vi.waitFor(() => expect(nats.notices.at(-1)?.message).toMatch(/Authorization Violation/), WAIT);
    await expect(log.publish(makePublication(1))).rejects.toThrow(UnavailableError);
    await nats.server.stop();
    await writeFile(configuration, '');
    await nats.server.start();
    await vi.waitFor(() => expect(nats.count('connected')).toBe(2), WAIT);
    expect(await log.publish(makePublication(1))).toEqual({ sequence: 1, duplicate: false });
  });
});
