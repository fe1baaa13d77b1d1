import { expect, test } from 'vitest';
import { ConfigError, type NodeSnapshot } from '@elastic-dns/model';
import { createLogger, VirtualClock } from '@elastic-dns/runtime';
import type { Saying } from './life.ts';
import { Publisher, type SnapshotReason } from './publish.ts';
import { MemoryLog, NODE, sampleContainer } from './samples.ts';
import { translate } from './translate.ts';

/** Longer than any wait between two tries. */
const RETRY_MS = 5_000;

interface Setup {
  log: MemoryLog;
  clock: VirtualClock;
  publisher: Publisher;
  /** What the log is told from now on of container `number`: it is there, with this state. */
  say: (number: number) => void;
  snapshots: SnapshotReason[];
  failures: string[];
  buffered: () => number;
}

function setUp(bufferEvents = 100): Setup {
  const log = new MemoryLog();
  const clock = new VirtualClock();
  const known = new Map<string, NodeSnapshot['instances'][number]>();
  const snapshots: SnapshotReason[] = [];
  const failures: string[] = [];
  let buffered = 0;
  const publisher = new Publisher({
    log,
    node: NODE.name,
    epoch: 7,
    compose: () => ({ zone: null, ipv4: null, ipv6: null, instances: [...known.values()], refused: [] }),
    bufferEvents,
    clock,
    logger: createLogger({ level: 'silent' }),
    observer: {
      published: () => undefined,
      failed: (why) => failures.push(why),
      snapshot: (reason) => snapshots.push(reason),
      buffered: (count) => (buffered = count),
    },
  });
  const say = (number: number): void => {
    const translated = translate(sampleContainer(number), { node: NODE, network: null, isStopping: false });
    if (translated?.kind !== 'instance') throw new Error('not an instance');
    const { instance } = translated;
    known.set(instance.id, instance);
    const saying: Saying = {
      body: { type: 'instance.started', data: { instance } },
      cause: 'test',
      observedAtMs: 0,
    };
    publisher.say(saying);
  };
  return { log, clock, publisher, say, snapshots, failures, buffered: () => buffered };
}

const ids = (log: MemoryLog): string[] => log.entries.map(({ id }) => id);

test('numbers events from 1, the first being a snapshot that says all that came before it', async () => {
  const { log, clock, publisher, say } = setUp();
  say(1);
  expect(publisher.lastSequence).toBe(0);
  publisher.snapshot('start');
  say(2);
  await clock.advance(0);
  expect(ids(log)).toEqual(['n1/7/1', 'n1/7/2']);
  expect(log.words).toEqual(['snapshot 1', 'started ready']);
  expect(log.events[0]).toMatchObject({ cause: 'the agent has started' });
});

test('holds events while the log is down, and sends them with the same ids and a snapshot when it is back', async () => {
  const { log, clock, publisher, say, snapshots, buffered } = setUp();
  publisher.snapshot('start');
  await clock.advance(0);
  log.mode = 'down';
  say(1);
  say(2);
  await clock.advance(60_000);
  expect(log.words).toEqual(['snapshot 0']);
  expect(log.tries).toBeGreaterThan(10);
  expect(publisher.isReachable).toBe(false);
  expect(buffered()).toBe(2);
  publisher.snapshot('interval');
  log.mode = 'up';
  await clock.advance(RETRY_MS);
  expect(ids(log)).toEqual(['n1/7/1', 'n1/7/2', 'n1/7/3', 'n1/7/4']);
  expect(log.words).toEqual(['snapshot 0', 'started ready', 'started ready', 'snapshot 2']);
  expect(snapshots).toEqual(['start', 'log']);
  expect(publisher.isReachable).toBe(true);
  expect(buffered()).toBe(0);
});

test('says nothing twice when answers are lost', async () => {
  const { log, clock, publisher, say } = setUp();
  publisher.snapshot('start');
  await clock.advance(0);
  log.mode = 'deaf';
  say(1);
  await clock.advance(30_000);
  log.mode = 'up';
  await clock.advance(RETRY_MS);
  expect(log.tries).toBeGreaterThan(4);
  expect(log.words).toEqual(['snapshot 0', 'started ready', 'snapshot 1']);
});

test('tries one publication at a time while the log is down', async () => {
  const { log, clock, publisher, say } = setUp();
  publisher.snapshot('start');
  await clock.advance(0);
  log.mode = 'down';
  for (let number = 1; number <= 80; number++) say(number);
  await clock.advance(0);
  const triesAtOnce = log.tries;
  expect(triesAtOnce).toBeLessThanOrEqual(1 + 64);
  await clock.advance(100);
  expect(log.tries - triesAtOnce).toBeLessThanOrEqual(2);
  log.mode = 'up';
  await clock.advance(RETRY_MS);
  expect(new Set(ids(log)).size).toBe(82);
  expect(log.registry.subjectsOf('n1').size).toBe(80);
});

test('drops what waits for a snapshot when too much waits, and loses nothing that is said after that', async () => {
  const { log, clock, publisher, say, snapshots, buffered } = setUp(10);
  publisher.snapshot('start');
  await clock.advance(0);
  log.mode = 'down';
  for (let number = 1; number <= 30; number++) say(number);
  await clock.advance(1_000);
  expect(buffered()).toBeLessThanOrEqual(10);
  log.mode = 'deaf';
  await clock.advance(RETRY_MS);
  say(31);
  await clock.advance(1_000);
  log.mode = 'up';
  await clock.advance(RETRY_MS);
  expect(snapshots).toEqual(['start', 'overflow', 'log']);
  expect(log.words).toEqual(['snapshot 0', 'snapshot 30', 'started ready', 'snapshot 31']);
  expect(log.registry.subjectsOf('n1').size).toBe(31);
});

test('replaces by a snapshot what a log that is up but slow does not take in time', async () => {
  const { log, clock, publisher, say } = setUp(10);
  publisher.snapshot('start');
  await clock.advance(0);
  for (let number = 1; number <= 200; number++) say(number);
  await clock.advance(0);
  expect(log.words.filter((word) => word.startsWith('snapshot'))).toHaveLength(2);
  expect(log.registry.subjectsOf('n1').size).toBe(200);
});

test('drops one event that the log will never take, and goes on', async () => {
  const { log, clock, publisher, say, failures } = setUp();
  publisher.snapshot('start');
  say(1);
  await clock.advance(0);
  log.maxBytes = 700;
  publisher.snapshot('interval');
  for (let number = 2; number <= 4; number++) say(number);
  publisher.snapshot('interval');
  await clock.advance(0);
  expect(failures).toEqual(['refused']);
  expect(log.words).toEqual([
    'snapshot 0',
    'started ready',
    'snapshot 1',
    'started ready',
    'started ready',
    'started ready',
  ]);
  expect(publisher.isReachable).toBe(true);
});

test('ends with the reason when the log refuses this node altogether', async () => {
  const { log, clock, publisher } = setUp();
  log.publish = () => Promise.reject(new ConfigError('not allowed to publish as n1'));
  publisher.snapshot('start');
  await clock.advance(0);
  await expect(publisher.failed).rejects.toThrow('not allowed to publish as n1');
});

test('waits at its end for what is under way, but not for a log that is down', async () => {
  const { log, clock, publisher, say } = setUp();
  publisher.snapshot('start');
  say(1);
  await publisher.drain(2_000);
  expect(log.words).toEqual(['snapshot 0', 'started ready']);
  expect(clock.now()).toBe(0);

  const down = setUp();
  down.log.mode = 'down';
  down.publisher.snapshot('start');
  await down.clock.advance(10);
  await down.publisher.drain(2_000);
  expect(down.clock.now()).toBe(10);
  expect(down.clock.sleeping).toBe(0);
});

test('waits at its end no longer than it is given', async () => {
  const { log, clock, publisher } = setUp();
  log.publish = () => new Promise(() => undefined);
  publisher.snapshot('start');
  const drained = publisher.drain(2_000);
  await clock.advance(2_000);
  await drained;
  expect(publisher.buffered).toBe(1);
});
