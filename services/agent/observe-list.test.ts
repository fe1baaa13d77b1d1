import { describe, expect, test } from 'vitest';
import type { Container } from '@elastic-dns/model';
import { CONFIG, expected, held, sorted, start } from './fixture.ts';
import { ALL_EVENTS, containerId, sampleContainer, TestEngine } from './samples.ts';

const HEALTHCHECK = { health: 'starting' } as const;

describe('an engine out of sight', () => {
  test('changes nothing, and is waited for', async () => {
    const { engine, log, clock, health, status, settle, stop } = await start();
    engine.start(sampleContainer(1));
    await settle();
    expect(health.ready().ok).toBe(true);
    engine.goAway();
    await settle();
    await clock.advance(3_600_000);
    expect(log.words).toEqual(['snapshot 0', 'started ready']);
    expect(status()).toMatchObject({ engine: false, log: true, instances: 1 });
    expect(health.ready()).toMatchObject({ ok: false });
    await stop();
  });

  test('that comes back is listed, its changes are told, and a snapshot settles the rest', async () => {
    const { engine, log, clock, settle, stop } = await start();
    const [gone, stopped, moved, same] = [1, 2, 3, 4].map((number) => sampleContainer(number)) as [
      Container,
      Container,
      Container,
      Container,
    ];
    for (const container of [gone, stopped, moved, same]) engine.start(container);
    await settle();
    engine.goAway();
    await settle();
    engine.remove(gone);
    engine.happen(stopped.id, { kind: 'die', exitCode: 1 }, { ...stopped, status: 'exited' });
    engine.happen(moved.id, { kind: 'start' }, { ...moved, startedAtMs: 900_000 });
    engine.start(sampleContainer(5));
    engine.comeBack();
    await clock.advance(20_000);
    await settle();
    const [, ...later] = log.words.slice(4);
    expect(sorted(later.slice(0, -1))).toEqual(['started ready', 'started ready', 'stopped', 'stopped']);
    expect(later.at(-1)).toBe('snapshot 3');
    expect(log.events.at(-1)?.cause).toBe('the engine was out of sight');
    expect(held(log.registry)).toEqual(expected(await engine.list()));
    await stop();
  });

  test('has made old what was seen of it: an event that comes before the list is not told with the old address', async () => {
    const { engine, log, clock, settle, stop } = await start();
    const web = sampleContainer(1, HEALTHCHECK);
    engine.start(web);
    await settle();
    engine.goAway();
    await settle();
    const moved = { ...web, networks: [{ name: 'shop_default', ipv4: '10.0.0.99', ipv6: null }] };
    engine.happen(web.id, { kind: 'connect', network: 'shop_default' }, moved);
    engine.duringList = () =>
      engine.happen(web.id, { kind: 'health', health: 'healthy' }, { ...moved, health: 'healthy' });
    engine.comeBack();
    await clock.advance(20_000);
    await settle();
    expect(log.words).toEqual(['snapshot 0', 'started starting', 'ready ready', 'snapshot 1']);
    expect(log.events[2]).toMatchObject({ data: { instance: { ipv4: '10.0.0.99' } } });
    await stop();
  });

  test('when the agent starts: nothing is said until it is seen', async () => {
    const engine = new TestEngine();
    engine.start(sampleContainer(1));
    engine.goAway();
    const { log, clock, settle, stop } = await start({ engine });
    await clock.advance(60_000);
    expect(log.words).toEqual([]);
    engine.comeBack();
    await clock.advance(20_000);
    await settle();
    expect(log.words).toEqual(['snapshot 1']);
    await stop();
  });
});

describe('what happens while the list is under way', () => {
  test('a container that starts is not lost', async () => {
    const engine = new TestEngine();
    engine.duringList = () => engine.start(sampleContainer(1));
    const { log, settle, stop } = await start({ engine });
    await settle();
    expect(held(log.registry)).toEqual(expected([sampleContainer(1)]));
    await stop();
  });

  test('a container that is removed is not revived', async () => {
    const engine = new TestEngine();
    engine.start(sampleContainer(1));
    engine.duringList = () => engine.remove(sampleContainer(1));
    const { log, settle, stop } = await start({ engine });
    await settle();
    expect(held(log.registry)).toEqual([]);
    expect(log.words).toEqual(['snapshot 0']);
    await stop();
  });

  test('a container that ends is not revived', async () => {
    const engine = new TestEngine();
    const web = sampleContainer(1);
    engine.start(web);
    engine.duringList = () =>
      engine.happen(web.id, { kind: 'die', exitCode: 1 }, { ...web, status: 'exited' });
    const { log, settle, stop } = await start({ engine });
    await settle();
    expect(log.words).toEqual(['snapshot 0']);
    await stop();
  });

  test('a container that tells of its health meanwhile is in the first snapshot', async () => {
    const engine = new TestEngine();
    const web = sampleContainer(1, HEALTHCHECK);
    engine.start(web);
    const release = engine.hold(web.id, 'question');
    engine.duringList = () =>
      engine.happen(web.id, { kind: 'health', health: 'healthy' }, { ...web, health: 'healthy' });
    const { log, settle, stop } = await start({ engine });
    expect(log.words).toEqual(['snapshot 1']);
    release();
    await settle();
    expect(log.words).toEqual(['snapshot 1', 'ready ready']);
    await stop();
  });

  test('a stop signal is not forgotten', async () => {
    const engine = new TestEngine();
    engine.start(sampleContainer(1));
    engine.duringList = () => engine.happen(containerId(1), { kind: 'kill', signal: 15 });
    const { log, settle, stop } = await start({ engine });
    await settle();
    expect(log.events[0]).toMatchObject({ data: { instances: [{ state: 'stopping' }] } });
    await stop();
  });
});

test('events that were lost are made up for by the next regular snapshot', async () => {
  const { engine, log, clock, settle, stop } = await start();
  const [gone, kept] = [sampleContainer(1), sampleContainer(2)];
  engine.start(gone);
  engine.start(kept);
  await settle();
  engine.lossPattern = ALL_EVENTS;
  engine.remove(gone);
  engine.start(sampleContainer(3));
  await settle();
  expect(held(log.registry)).toEqual(expected([gone, kept]));
  await clock.advance(1.2 * CONFIG.snapshotIntervalMs);
  await settle();
  expect(held(log.registry)).toEqual(expected([kept, sampleContainer(3)]));
  expect(log.events.at(-1)).toMatchObject({ type: 'node.snapshot', cause: 'regular snapshot' });
  await stop();
});

test('regular snapshots come at intervals that differ by up to a fifth', async () => {
  const { log, clock, settle, stop } = await start();
  const times: number[] = [];
  for (let minute = 0; minute < 600; minute++) {
    await clock.advance(6_000);
    await settle();
    while (times.length < log.entries.length) times.push(clock.now());
  }
  const intervals = times.slice(1).map((time, index) => time - (times[index] ?? 0));
  expect(intervals.length).toBeGreaterThan(8);
  expect(Math.min(...intervals)).toBeGreaterThanOrEqual(0.8 * CONFIG.snapshotIntervalMs - 6_000);
  expect(Math.max(...intervals)).toBeLessThanOrEqual(1.2 * CONFIG.snapshotIntervalMs + 6_000);
  expect(new Set(intervals).size).toBeGreaterThan(2);
  await stop();
});
