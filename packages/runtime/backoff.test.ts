import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { Backoff } from './backoff.ts';

test('doubles the ceiling of its waits up to the longest', () => {
  const backoff = new Backoff({ minMs: 100, maxMs: 1000, random: () => 0.999_999 });
  const waits = Array.from({ length: 6 }, () => Math.round(backoff.nextMs()));
  expect(waits).toEqual([200, 400, 800, 1000, 1000, 1000]);
});

test('spreads its waits over the whole way from the shortest to the ceiling', () => {
  const backoff = new Backoff({ minMs: 100, maxMs: 1000, random: () => 0 });
  expect([backoff.nextMs(), backoff.nextMs()]).toEqual([100, 100]);
});

test('begins again with short waits after a reset', () => {
  const backoff = new Backoff({ minMs: 100, maxMs: 10_000, random: () => 0.5 });
  const first = backoff.nextMs();
  backoff.nextMs();
  backoff.reset();
  expect(backoff.nextMs()).toBe(first);
});

test('never waits less than the shortest or more than the longest', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 0, max: 100_000 }),
      fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { maxLength: 50 }),
      (minMs, extraMs, randoms) => {
        const maxMs = minMs + extraMs;
        const values = [...randoms];
        const backoff = new Backoff({ minMs, maxMs, random: () => values.shift() ?? 0 });
        for (const _ of randoms) {
          const wait = backoff.nextMs();
          expect(wait).toBeGreaterThanOrEqual(minMs);
          expect(wait).toBeLessThanOrEqual(maxMs);
        }
      },
    ),
  );
});
