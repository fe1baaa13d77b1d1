import { VirtualClock } from '@elastic-dns/runtime';
import { describe, expect, it } from 'vitest';
import { Pace } from './pace.ts';

const NEVER_MS = 1_000_000;

/** Begins a rest after writing that took this long; tells when it ended. */
function rest(
  tookMs: number,
  dueMs = NEVER_MS,
): { clock: VirtualClock; pace: Pace; endedMs: () => number | null; ending: AbortController } {
  const clock = new VirtualClock(1_000);
  const pace = new Pace({ clock, quietMs: 5, ceilingMs: 50 });
  const ending = new AbortController();
  let endedMs: number | null = null;
  void pace.rest(1_000 - tookMs, dueMs, ending.signal).then(() => (endedMs = clock.now() - 1_000));
  return { clock, pace, endedMs: () => endedMs, ending };
}

describe('the pace of writing', () => {
  it('writes at once what comes after a calm', async () => {
    const { clock, pace, endedMs } = rest(0);
    await clock.advance(400);
    expect(endedMs()).toBeNull();
    pace.poke();
    await clock.advance(0);
    expect(endedMs()).toBe(400);
  });

  it.each([
    [0, 5],
    [20, 20],
    [900, 50],
  ])('after writing for %d ms, gathers what comes for %d ms', async (tookMs, pauseMs) => {
    const { clock, pace, endedMs } = rest(tookMs);
    pace.poke();
    await clock.advance(pauseMs - 1);
    expect(endedMs()).toBeNull();
    await clock.advance(1);
    expect(endedMs()).toBe(pauseMs);
  });

  it('goes on when something is due, and when it is told to end', async () => {
    const due = rest(0, 1_030);
    await due.clock.advance(100);
    expect(due.endedMs()).toBe(30);
    const ended = rest(0);
    await ended.clock.advance(100);
    ended.ending.abort();
    await ended.clock.advance(0);
    expect(ended.endedMs()).toBe(100);
  });
});
