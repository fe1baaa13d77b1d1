import { expect, test } from 'vitest';
import { waitUntil } from './wait.ts';

test('gives what the probe gave as soon as that is truthy, errors before it notwithstanding', async () => {
  let looks = 0;
  const probe = async (): Promise<string | undefined> => {
    looks++;
    if (looks === 1) throw new Error('not yet');
    return looks < 3 ? undefined : 'here';
  };
  expect(await waitUntil(probe, { what: 'it', intervalMs: 1 })).toBe('here');
});

test('says what it waited for and what it saw last when the time is over', async () => {
  const wait = waitUntil(() => false, { what: 'the moon', timeoutMs: 10, intervalMs: 1 });
  await expect(wait).rejects.toThrow(/waited \d+ ms for the moon; last seen: false/);
  const failing = waitUntil(() => Promise.reject(new Error('clouds')), { what: 'the moon', timeoutMs: 10 });
  await expect(failing).rejects.toThrow(/the moon; last seen: an error: Error: clouds/);
});

test('ends although the probe hangs', async () => {
  const wait = waitUntil(() => new Promise(() => undefined), { what: 'an answer', timeoutMs: 10 });
  await expect(wait).rejects.toThrow('the first look did not end');
});

test('gives up at once when there is a reason to', async () => {
  const wait = waitUntil(() => false, { what: 'it', timeoutMs: 60_000, unless: () => 'it has died' });
  await expect(wait).rejects.toThrow('gave up waiting for it: it has died');
});
