import { EventEmitter } from 'node:events';
import { beforeEach, expect, test } from 'vitest';
import { VirtualClock } from './clock.ts';
import { Lifecycle, type SignalSource } from './lifecycle.ts';
import { createLogger } from './logger.ts';

class FakeProcess extends EventEmitter implements SignalSource {
  exits: number[] = [];
  exit(code: number): void {
    this.exits.push(code);
  }
}

let source: FakeProcess;
let clock: VirtualClock;
let lifecycle: Lifecycle;
let lines: string[];

beforeEach(() => {
  source = new FakeProcess();
  clock = new VirtualClock();
  lines = [];
  const destination = { write: (line: string) => lines.push(line) };
  const logger = createLogger({ destination, format: 'json' });
  lifecycle = new Lifecycle({ logger, source, clock, deadlineMs: 1000 });
});

/** Works until it is told to stop. */
async function untilAborted(signal: AbortSignal): Promise<void> {
  await clock.sleep(Number.MAX_SAFE_INTEGER, signal);
}

test.each(['SIGINT', 'SIGTERM'] as const)('stops in the reverse order of the start on %s', async (signal) => {
  const stopped: string[] = [];
  lifecycle.onStop('first', () => void stopped.push('first'));
  lifecycle.onStop('second', async () => {
    await clock.sleep(10);
    stopped.push('second');
  });
  const running = lifecycle.run(untilAborted);
  source.emit(signal, signal);
  await clock.advance(10);
  expect(await running).toEqual({ failed: [] });
  expect(stopped).toEqual(['second', 'first']);
  expect(source.exits).toEqual([]);
});

test('stops everything when the work is done by itself', async () => {
  let isStopped = false;
  lifecycle.onStop('one', () => void (isStopped = true));
  expect(await lifecycle.run(async () => {})).toEqual({ failed: [] });
  expect(isStopped).toBe(true);
  expect(lifecycle.signal.aborted).toBe(true);
});

test('stops everything when the work fails, and hands its error on', async () => {
  let isStopped = false;
  lifecycle.onStop('one', () => void (isStopped = true));
  await expect(
    lifecycle.run(async () => {
      throw new Error('no disk');
    }),
  ).rejects.toThrow('no disk');
  expect(isStopped).toBe(true);
});

test('leaves a stopper that hangs at its deadline, names it, and stops the rest', async () => {
  const stopped: string[] = [];
  lifecycle.onStop('first', () => void stopped.push('first'));
  lifecycle.onStop('stuck', async () => await new Promise(() => {}), 200);
  const running = lifecycle.run(untilAborted);
  lifecycle.stop();
  await clock.advance(199);
  expect(stopped).toEqual([]);
  await clock.advance(1);
  expect(await running).toEqual({ failed: ['stuck'] });
  expect(stopped).toEqual(['first']);
  expect(lines.join('')).toContain('stuck: did not stop within 200 ms');
});

test('goes on when a stopper throws, and names it', async () => {
  const stopped: string[] = [];
  lifecycle.onStop('first', () => void stopped.push('first'));
  lifecycle.onStop('broken', () => {
    throw new Error('no such file');
  });
  lifecycle.stop();
  expect(await lifecycle.run(untilAborted)).toEqual({ failed: ['broken'] });
  expect(stopped).toEqual(['first']);
  expect(lines.join('')).toContain('no such file');
});

test('does not wait for ever for work that does not heed the abort', async () => {
  const running = lifecycle.run(async () => await new Promise(() => {}));
  source.emit('SIGTERM', 'SIGTERM');
  await clock.advance(1000);
  expect(await running).toEqual({ failed: ['work'] });
});

test('exits at once with 130 at the second signal', async () => {
  let release = (): void => {};
  lifecycle.onStop('slow', async () => await new Promise<void>((resolve) => (release = resolve)));
  const running = lifecycle.run(untilAborted);
  source.emit('SIGINT', 'SIGINT');
  expect(source.exits).toEqual([]);
  source.emit('SIGINT', 'SIGINT');
  expect(source.exits).toEqual([130]);
  await clock.advance(0);
  release();
  await running;
});

test('takes its hands off the signals at the end', async () => {
  await lifecycle.run(async () => {});
  expect(source.listenerCount('SIGINT') + source.listenerCount('SIGTERM')).toBe(0);
});
