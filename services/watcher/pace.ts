/**
 * When the files are written: at once after a calm, then not again before a pause is over, in which changes gather. The
 * pause is as long as the last writing took, within bounds, so that a large cluster that changes all the time costs at
 * most about half of a processor (S13) and a small one hardly any delay. Used by watcher.ts.
 */
import type { Clock } from '@elastic-dns/runtime';

export interface PaceOptions {
  clock: Clock;
  /** Shortest pause. */
  quietMs: number;
  /** Longest pause. */
  ceilingMs: number;
}

export class Pace {
  readonly #options: PaceOptions;
  #isPoked = false;
  #nap: AbortController | null = null;

  constructor(options: PaceOptions) {
    this.#options = options;
  }

  /** Something is to be written. */
  poke(): void {
    this.#isPoked = true;
    this.#nap?.abort();
  }

  /** After writing that began then: the pause, and then until there is something to do, at the latest at `dueMs`. */
  async rest(beganMs: number, dueMs: number, signal: AbortSignal): Promise<void> {
    const { clock, quietMs, ceilingMs } = this.#options;
    const pauseMs = Math.min(Math.max(clock.now() - beganMs, quietMs), ceilingMs);
    await clock.sleep(pauseMs, signal);
    if (!this.#isPoked && !signal.aborted) {
      const nap = new AbortController();
      const wake = (): void => nap.abort();
      this.#nap = nap;
      signal.addEventListener('abort', wake, { once: true });
      await clock.sleep(dueMs - clock.now(), nap.signal);
      signal.removeEventListener('abort', wake);
      this.#nap = null;
    }
    this.#isPoked = false;
  }
}
