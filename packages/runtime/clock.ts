/**
 * Time, as something that can be given: whoever waits or stamps takes a Clock, so that tests run without waiting.
 * Used by every loop, the supervisor and the simulation.
 */

export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /**
   * Resolves after `ms`, or as soon as `signal` aborts, whichever comes first; it never rejects. So a loop has one
   * way out: `while (!signal.aborted) { ...; await clock.sleep(ms, signal); }`.
   */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** setTimeout takes no more: a larger delay would fire at once. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: async (ms, signal) => {
    for (let left = ms; left > 0; left -= MAX_TIMEOUT_MS) {
      if (signal?.aborted === true) return;
      await new Promise<void>((resolve) => {
        const finish = (): void => {
          clearTimeout(timer);
          signal?.removeEventListener('abort', finish);
          resolve();
        };
        const timer = setTimeout(finish, Math.min(left, MAX_TIMEOUT_MS));
        signal?.addEventListener('abort', finish, { once: true });
      });
    }
  },
};

interface Sleeper {
  atMs: number;
  wake: () => void;
}

/** A clock that stands still until a test moves it. */
export class VirtualClock implements Clock {
  #nowMs: number;
  #sleepers: Sleeper[] = [];

  constructor(startMs = 0) {
    this.#nowMs = startMs;
  }

  now(): number {
    return this.#nowMs;
  }

  /** How many are asleep now. */
  get sleeping(): number {
    return this.#sleepers.length;
  }

  /** When the next sleeper wakes; null when none is asleep. */
  get nextWakeMs(): number | null {
    return this.#sleepers[0]?.atMs ?? null;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms <= 0 || signal?.aborted === true) return;
    await new Promise<void>((resolve) => {
      const sleeper: Sleeper = {
        atMs: this.#nowMs + ms,
        wake: () => {
          signal?.removeEventListener('abort', sleeper.wake);
          this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
          resolve();
        },
      };
      // Behind all that wake at the same time: who slept first wakes first.
      const place = this.#sleepers.findIndex((other) => other.atMs > sleeper.atMs);
      this.#sleepers.splice(place === -1 ? this.#sleepers.length : place, 0, sleeper);
      signal?.addEventListener('abort', sleeper.wake, { once: true });
    });
  }

  /**
   * Moves on by `ms`. Sleepers wake one at a time in the order of their times, each with the clock at its own time
   * and everything that follows from it run (promises, and one turn of the event loop) before the next; sleeps that
   * begin meanwhile and end within `ms` are woken too.
   */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await settle();
    for (let next = this.#sleepers[0]; next && next.atMs <= endMs; next = this.#sleepers[0]) {
      this.#nowMs = next.atMs;
      next.wake();
      await settle();
    }
    this.#nowMs = endMs;
  }
}

async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
