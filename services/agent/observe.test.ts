import { expect, test, vi } from 'vitest';
import { UnavailableError } from '@elastic-dns/model';
import { expected, held, start } from './fixture.ts';
import { STOPPING_LIMIT_MS } from './life.ts';
import { containerId, sampleContainer } from './samples.ts';

const HEALTHCHECK = { health: 'starting' } as const;

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

test('asks again when a network was left and joined again while the answer was under way', async () => {
  const { engine, log, settle, stop } = await start();
  const web = sampleContainer(1);
  engine.start(web);
  await settle();
  const release = engine.hold(web.id, 'answer');
  engine.happen(web.id, { kind: 'rename' });
  await settle();
  const back = { ...web, networks: [{ name: 'shop_default', ipv4: '10.0.0.99', ipv6: null }] };
  engine.happen(web.id, { kind: 'disconnect', network: 'shop_default' }, { ...web, networks: [] });
  engine.happen(web.id, { kind: 'connect', network: 'shop_default' }, back);
  await settle();
  release();
  await settle();
  expect(held(log.registry)).toEqual(expected([back]));
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
