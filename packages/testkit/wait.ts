/**
 * Bounded, conditional waiting: the only way in which a test waits for something outside of its process.
 * Called by testkit itself and by every test of kind `server` and `e2e`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';

export interface WaitOptions {
  /** What is waited for, as the words after "waited for". */
  what: string;
  /** Default 10 s. */
  timeoutMs?: number;
  /** Pause between two looks; default 20 ms. */
  intervalMs?: number;
  /** Ends the wait at once when it gives a reason why it can no longer succeed. */
  unless?: () => string | undefined;
}

/**
 * Asks `probe` until it gives something truthy, and returns that. A probe that throws has not succeeded yet.
 * Rejects after the time-out with what the probe gave or threw last; a probe that hangs counts as that, too.
 */
export async function waitUntil<T>(
  probe: () => T | Promise<T>,
  options: WaitOptions,
): Promise<NonNullable<T>> {
  const { what, timeoutMs = 10_000, intervalMs = 20 } = options;
  const startedAt = Date.now();
  const deadline = startedAt + timeoutMs;
  let last = 'nothing: the first look did not end';
  for (;;) {
    const looked = await within(deadline - Date.now(), async () => probe());
    if (looked.kind === 'value' && looked.value) return looked.value;
    if (looked.kind === 'value') last = inspect(looked.value, { depth: 4, breakLength: 110 });
    if (looked.kind === 'error') last = `an error: ${String(looked.error)}`;
    const hopeless = options.unless?.();
    if (hopeless !== undefined)
      throw new Error(`gave up waiting for ${what}: ${hopeless}; last seen: ${last}`);
    if (Date.now() + intervalMs >= deadline || looked.kind === 'timeout') {
      throw new Error(`waited ${Date.now() - startedAt} ms for ${what}; last seen: ${last}`);
    }
    await sleep(intervalMs);
  }
}

type Look<T> = { kind: 'value'; value: T } | { kind: 'error'; error: unknown } | { kind: 'timeout' };

async function within<T>(ms: number, probe: () => Promise<T>): Promise<Look<T>> {
  const abort = new AbortController();
  const timeout = sleep(Math.max(ms, 1), undefined, { signal: abort.signal }).then(
    (): Look<T> => ({ kind: 'timeout' }),
    (): Look<T> => ({ kind: 'timeout' }),
  );
  const look = probe().then(
    (value): Look<T> => ({ kind: 'value', value }),
    (error: unknown): Look<T> => ({ kind: 'error', error }),
  );
  try {
    return await Promise.race([look, timeout]);
  } finally {
    abort.abort();
  }
}
