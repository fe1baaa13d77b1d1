import { describe, expect, test, vi } from 'vitest';
import { systemClock, VirtualClock } from './clock.ts';

describe('systemClock', () => {
  test('sleeps for the time asked and not less', async () => {
    const beforeMs = performance.now();
    await systemClock.sleep(20);
    expect(performance.now() - beforeMs).toBeGreaterThanOrEqual(19);
  });

  test('resolves a sleep as soon as its signal aborts, and at once when it has before', async () => {
    const controller = new AbortController();
    const asleep = systemClock.sleep(3_600_000, controller.signal);
    controller.abort();
    await expect(asleep).resolves.toBeUndefined();
    await expect(systemClock.sleep(3_600_000, controller.signal)).resolves.toBeUndefined();
  });

  test('sleeps longer than a single timer can', async () => {
    vi.useFakeTimers();
    try {
      let isAwake = false;
      const asleep = systemClock.sleep(2 ** 32).then(() => (isAwake = true));
      await vi.advanceTimersByTimeAsync(2 ** 32 - 1);
      expect(isAwake).toBe(false);
      await vi.advanceTimersByTimeAsync(1);
      await asleep;
      expect(isAwake).toBe(true);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('VirtualClock', () => {
  test('wakes sleepers in the order of their times, each at its own time', async () => {
    const clock = new VirtualClock(1000);
    const woken: [string, number][] = [];
    const sleep = (name: string, ms: number): Promise<void> =>
      clock.sleep(ms).then(() => void woken.push([name, clock.now()]));
    void sleep('late', 30);
    void sleep('early', 10);
    void sleep('early too', 10);
    expect(clock.nextWakeMs).toBe(1010);
    await clock.advance(29);
    expect(woken).toEqual([
      ['early', 1010],
      ['early too', 1010],
    ]);
    expect(clock.now()).toBe(1029);
    await clock.advance(1);
    expect(woken.at(-1)).toEqual(['late', 1030]);
    expect(clock.sleeping).toBe(0);
  });

  test('wakes a sleep that begins while time moves on', async () => {
    const clock = new VirtualClock();
    let turns = 0;
    const ticking = (async () => {
      for (; turns < 5; turns++) await clock.sleep(10);
    })();
    await clock.advance(50);
    await ticking;
    expect(turns).toBe(5);
  });

  test('resolves a sleep when its signal aborts, and forgets the sleeper', async () => {
    const clock = new VirtualClock();
    const controller = new AbortController();
    const asleep = clock.sleep(10, controller.signal);
    controller.abort();
    await asleep;
    expect(clock.sleeping).toBe(0);
    expect(clock.now()).toBe(0);
  });
});
