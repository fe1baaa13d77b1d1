import { expect, test } from 'vitest';
import { ConfigError } from '@elastic-dns/model';
import { VirtualClock } from '@elastic-dns/runtime';
import { CONFIG, expected, held, makeFolder, sorted, start, START_MS, type Agent } from './fixture.ts';
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
