import { describe, expect, test, vi } from 'vitest';
import { ConfigError, UnavailableError, type Container } from '@elastic-dns/model';
import { VirtualClock } from '@elastic-dns/runtime';
import { CONFIG, expected, held, makeFolder, sorted, start, START_MS, type Agent } from './harness.ts';
import { STOPPING_LIMIT_MS } from './life.ts';
import { containerId, MemoryLog, sampleContainer, TestEngine } from './samples.ts';

const HEALTHCHECK = { health: 'starting' } as const;

test('says first all that runs, then each change as it happens', async () => {
  const engine = new TestEngine();
  engine.start(sampleContainer(1));
  engine.happen(containerId(2), { kind: 'create' }, sampleContainer(2, { status: 'created' }));
  const { log, settle, stop } = await start({ engine });
  expect(log.words).toEqual(['snapshot 1']);
  const web = sampleContainer(3, HEALTHCHECK);
  engine.start(web);
  await settle();
  engine.happen(web.id, { kind: 'health', health: 'healthy' }, { ...web, health: 'healthy' });
  engine.happen(web.id, { kind: 'health', health: 'unhealthy' }, { ...web, health: 'unhealthy' });
  engine.happen(web.id, { kind: 'kill', signal: 1 });
  engine.happen(web.id, { kind: 'kill', signal: 15 });
  engine.happen(web.id, { kind: 'die', exitCode: 0 }, { ...web, status: 'exited' });
  engine.happen(web.id, { kind: 'disconnect', network: 'shop_default' });
  engine.happen(web.id, { kind: 'destroy' }, null);
  await settle();
  expect(log.words).toEqual([
    'snapshot 1',
    'started starting',
    'ready ready',
    'unready unready',
    'stopping stopping',
    'stopped',
  ]);
  expect(log.events.map(({ id }) => id.sequence)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(log.events.map(({ cause }) => cause)).toEqual([
    'the agent has started',
    'engine: start',
    'engine: health healthy',
    'engine: health unhealthy',
    'engine: kill with signal 15',
    'engine: die with exit code 0',
  ]);
  await stop();
});

test('asks the engine once for a start, at its connect event, and says it when the engine answers', async () => {
  const { engine, log, settle, stop } = await start();
  const web = sampleContainer(1);
  const release = engine.hold(web.id, 'question');
  engine.happen(web.id, { kind: 'create' }, { ...web, status: 'created' });
  engine.happen(web.id, { kind: 'connect', network: 'shop_default' });
  await settle();
  expect(engine.inspects).toBe(1);
  engine.happen(web.id, { kind: 'start' }, web, web.startedAtMs);
  release();
  await settle();
  expect(log.words).toEqual(['snapshot 0', 'started ready']);
  expect(engine.inspects).toBe(1);
  await stop();
});

test('asks again when the answer does not show what happened while it was under way', async () => {
  const { engine, log, settle, stop } = await start();
  const web = sampleContainer(1);
  engine.start(web);
  await settle();
  const release = engine.hold(web.id, 'answer');
  engine.happen(web.id, { kind: 'rename' });
  await settle();
  const both = { ...web, networks: [...web.networks, { name: 'z', ipv4: '10.9.0.1', ipv6: null }] };
  engine.happen(web.id, { kind: 'connect', network: 'z' }, both);
  await settle();
  release();
  await settle();
  expect(log.words).toEqual(['snapshot 0', 'started ready', 'refused']);
  await stop();
});

test('an answer from before a health event does not take the event back', async () => {
  const { engine, log, settle, stop } = await start();
  const web = sampleContainer(1, HEALTHCHECK);
  engine.start(web);
  await settle();
  const release = engine.hold(web.id, 'answer');
  engine.happen(web.id, { kind: 'rename' }, { ...web, name: 'new' });
  await settle();
  engine.happen(web.id, { kind: 'health', health: 'healthy' }, { ...web, name: 'new', health: 'healthy' });
  await settle();
  release();
  await settle();
  expect(log.words).toEqual(['snapshot 0', 'started starting', 'ready ready', 'ready ready']);
  expect(held(log.registry)).toEqual(expected(await engine.list()));
  await stop();
});

test('an answer from before the end does not revive a container', async () => {
  const { engine, log, settle, stop } = await start();
  const web = sampleContainer(1);
  const release = engine.hold(web.id, 'answer');
  engine.start(web);
  await settle();
  engine.happen(web.id, { kind: 'die', exitCode: 1 }, { ...web, status: 'exited' });
  await settle();
  release();
  await settle();
  expect(log.words).toEqual(['snapshot 0']);
  await stop();
});

test('a restart is told as an end and a start, in this order, whatever is under way', async () => {
  const { engine, log, settle, stop } = await start();
  const web = sampleContainer(1);
  engine.start(web);
  await settle();
  const release = engine.hold(web.id, 'answer');
  engine.happen(web.id, { kind: 'rename' });
  await settle();
  engine.happen(web.id, { kind: 'kill', signal: 15 });
  engine.happen(web.id, { kind: 'die', exitCode: 0 }, { ...web, status: 'exited' });
  const again = {
    ...web,
    startedAtMs: 500_000,
    networks: [{ name: 'shop_default', ipv4: '10.0.0.9', ipv6: null }],
  };
  engine.happen(web.id, { kind: 'connect', network: 'shop_default' }, again);
  engine.happen(web.id, { kind: 'start' }, again, 500_000);
  release();
  await settle();
  expect(log.words).toEqual(['snapshot 0', 'started ready', 'stopping stopping', 'stopped', 'started ready']);
  expect(held(log.registry)).toEqual(expected([again]));
  await stop();
});

test('containers do not wait for one that the engine does not answer for', async () => {
  const { engine, log, settle, stop } = await start();
  const release = engine.hold(containerId(1), 'question');
  engine.start(sampleContainer(1));
  engine.start(sampleContainer(2));
  await settle();
  expect(log.words).toEqual(['snapshot 0', 'started ready']);
  release();
  await settle();
  expect(log.words).toEqual(['snapshot 0', 'started ready', 'started ready']);
  await stop();
});

test('asks again when the engine fails to answer once', async () => {
  const { engine, log, clock, settle, stop } = await start();
  const failing = vi.spyOn(engine, 'inspect').mockRejectedValueOnce(new UnavailableError('slow'));
  engine.start(sampleContainer(1));
  await settle();
  expect(failing).toHaveBeenCalledTimes(1);
  expect(log.words).toEqual(['snapshot 0']);
  await clock.advance(1_000);
  await settle();
  expect(log.words).toEqual(['snapshot 0', 'started ready']);
  await stop();
});

test('new addresses and names of a running container are told', async () => {
  const { engine, log, settle, stop } = await start();
  const web = sampleContainer(1);
  engine.start(web);
  await settle();
  const moved = { ...web, networks: [{ name: 'other', ipv4: '10.5.0.1', ipv6: null }] };
  engine.happen(
    web.id,
    { kind: 'connect', network: 'other' },
    { ...web, networks: [...web.networks, ...moved.networks] },
  );
  await settle();
  engine.happen(web.id, { kind: 'disconnect', network: 'shop_default' }, moved);
  await settle();
  engine.happen(web.id, { kind: 'rename' }, { ...moved, name: 'renamed' });
  await settle();
  expect(log.words).toEqual(['snapshot 0', 'started ready', 'refused', 'started ready', 'ready ready']);
  expect(held(log.registry)).toEqual(expected([{ ...moved, name: 'renamed' }]));
  await stop();
});

test('a container that survives its stop signal is ready again after the limit, and the log is told why', async () => {
  const { engine, log, clock, settle, stop } = await start();
  engine.start(sampleContainer(1));
  await settle();
  engine.happen(containerId(1), { kind: 'kill', signal: 15 });
  await settle();
  await clock.advance(STOPPING_LIMIT_MS - 1);
  expect(log.words).toEqual(['snapshot 0', 'started ready', 'stopping stopping']);
  await clock.advance(1);
  await settle();
  expect(log.words).toEqual(['snapshot 0', 'started ready', 'stopping stopping', 'ready ready']);
  expect(log.events.at(-1)?.cause).toBe('still runs 120 s after its stop signal');
  await stop();
});

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
  engine.losesEvents = true;
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

test('a log that was out of reach gets what waited and a snapshot', async () => {
  const { engine, log, clock, health, settle, stop } = await start();
  log.mode = 'down';
  engine.start(sampleContainer(1));
  await settle();
  expect(health.ready()).toMatchObject({ ok: false });
  log.mode = 'up';
  await clock.advance(5_000);
  await settle();
  expect(log.words).toEqual(['snapshot 0', 'started ready', 'snapshot 1']);
  expect(health.ready()).toMatchObject({ ok: true });
  await stop();
});

test('a container without a name that fits is listed as refused, with the reason, and warned of once', async () => {
  const { engine, log, clock, status, warnings, settle, stop } = await start();
  const labels = { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'a\n10.0.0.1 bank' };
  engine.start(sampleContainer(1, { labels }));
  engine.start(sampleContainer(2));
  await settle();
  expect(sorted(log.words)).toEqual(['refused', 'snapshot 0', 'started ready']);
  expect(status().refused).toMatchObject([{ id: 'n1-000000000001', container: 'shop-api-1' }]);
  expect(status().refused[0]?.reason).toMatch(/^service [\x20-\x7e]+$/);
  await clock.advance(1.2 * CONFIG.snapshotIntervalMs);
  await settle();
  expect(log.events.at(-1)).toMatchObject({ data: { refused: status().refused } });
  expect(warnings).toHaveLength(1);
  engine.remove(sampleContainer(1, { labels }));
  await settle();
  expect(status().refused).toEqual([]);
  expect(log.words.at(-1)).toBe('stopped');
  await stop();
});

test('says nothing of its containers when it ends, and more than before when it starts again', async () => {
  const engine = new TestEngine();
  const log = new MemoryLog();
  const clock = new VirtualClock(START_MS);
  const folder = makeFolder();
  const first = await start({ engine, log, clock, folder });
  engine.start(sampleContainer(1));
  await first.settle();
  await first.stop();
  expect(log.words).toEqual(['snapshot 0', 'started ready']);
  engine.remove(sampleContainer(1));
  engine.start(sampleContainer(2));
  const second = await start({ engine, log, clock, folder });
  expect(second.status().epoch).toBeGreaterThan(first.status().epoch);
  expect(held(log.registry)).toEqual(expected([sampleContainer(2)]));
  await second.stop();
});

test('ends when the log has what was said last', async () => {
  const { engine, log, settle, stop } = await start();
  const answer = Promise.withResolvers<void>();
  const publish = log.publish.bind(log);
  log.publish = async (publication) => {
    await answer.promise;
    return publish(publication);
  };
  engine.start(sampleContainer(1));
  await settle();
  let hasEnded = false;
  const stopping = stop().then(() => (hasEnded = true));
  await settle();
  expect(hasEnded).toBe(false);
  answer.resolve();
  await stopping;
  expect(log.words).toEqual(['snapshot 0', 'started ready']);
});

test('leaves nothing waiting when it ends', async () => {
  const { engine, clock, settle, stop } = await start();
  engine.start(sampleContainer(1));
  await settle();
  engine.happen(containerId(1), { kind: 'kill', signal: 15 });
  await settle();
  expect(clock.sleeping).toBe(2);
  await stop();
  await settle();
  expect(clock.sleeping).toBe(0);
});

test("ends with the reason when the log does not take this node's events", async () => {
  const log = new MemoryLog();
  log.publish = () => Promise.reject(new ConfigError('may not publish as n1'));
  const agent = await start({ log }).catch((error: unknown) => error);
  const ended = agent instanceof Error ? Promise.reject(agent) : (agent as Agent).ended;
  await expect(ended).rejects.toThrow('may not publish as n1');
});

test('counts what it does', async () => {
  const { engine, log, clock, metric, settle, stop } = await start();
  engine.start(sampleContainer(1));
  engine.start(sampleContainer(2, HEALTHCHECK));
  engine.start(sampleContainer(3, { networks: [] }));
  await settle();
  engine.happen(containerId(1), { kind: 'die', exitCode: 0 }, sampleContainer(1, { status: 'exited' }));
  await settle();
  log.mode = 'down';
  engine.start(sampleContainer(4));
  await settle();
  expect(await metric('elastic_dns_agent_buffered')).toEqual({ '': 1 });
  log.mode = 'up';
  await clock.advance(5_000);
  await settle();
  expect(await metric('elastic_dns_agent_buffered')).toEqual({ '': 0 });
  expect(await metric('elastic_dns_agent_events_published_total')).toEqual({
    'node.snapshot': 2,
    'instance.started': 3,
    'instance.refused': 1,
    'instance.stopped': 1,
  });
  expect(await metric('elastic_dns_agent_snapshots_total')).toEqual({ start: 1, log: 1 });
  expect(await metric('elastic_dns_agent_containers')).toEqual({ ready: 1, starting: 1, refused: 1 });
  expect((await metric('elastic_dns_agent_publish_errors_total'))['unavailable']).toBeGreaterThan(0);
  await stop();
});
