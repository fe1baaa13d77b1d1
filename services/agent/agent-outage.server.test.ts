/** The agent on a real engine and real logs, each of which goes out of reach and comes back. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Log } from '@elastic-dns/event-log';
import { EmbeddedLog } from '@elastic-dns/event-log/embedded';
import { NatsLog } from '@elastic-dns/event-log/nats';
import { UnavailableError } from '@elastic-dns/model';
import { startLab, type Lab, type LabNode } from '@elastic-dns/testkit/lab';
import { assertNoneLeft, checkLeaks, listHoldings } from '@elastic-dns/testkit/leaks';
import { pauseProcess, processState, resumeProcess } from '@elastic-dns/testkit/processes';
import { startNats } from '@elastic-dns/testkit/servers';
import {
  addsUp,
  makeFolder,
  readEntries,
  readRegistry,
  removeAll,
  runContainer,
  startReal,
  WAIT,
} from './fixture.ts';

let lab: Lab;
let node: LabNode;
let holdings: string[];
beforeAll(async () => {
  holdings = listHoldings();
  lab = await startLab({ nodes: 1 });
  node = lab.node('n1');
});
afterAll(async () => {
  await lab.stop();
  await assertNoneLeft(holdings);
});
checkLeaks();

const short = (id: string): string => id.slice(0, 12);

test('an engine that stands still changes nothing of what was said, until it goes on and shows what is true', async () => {
  const log = new EmbeddedLog({ folder: makeFolder() });
  const agent = await startReal(node, { log });
  const [crashes, stays] = [await runContainer(lab, node), await runContainer(lab, node)];
  await addsUp(log, node);
  const before = await readRegistry(log);
  expect(new Set(Object.keys(before))).toEqual(new Set([short(crashes), short(stays)]));
  const { Pid } = (await node.docker.inspect(crashes)).State;
  await pauseProcess(node.engine.pid());
  expect(processState(node.engine.pid())).toBe('paused');
  process.kill(Pid, 'SIGKILL');
  await vi.waitFor(() => expect(agent.status().engine).toBe(false), WAIT);
  expect(await readRegistry(log)).toEqual(before);
  await resumeProcess(node.engine.pid());
  await vi.waitFor(() => expect(agent.status().engine).toBe(true), WAIT);
  await addsUp(log, node);
  expect(Object.keys(await readRegistry(log))).toEqual([short(stays)]);
  await agent.stop();
  await removeAll(node);
  await log.close();
});

test('an engine that restarts takes its containers along, and those that come back are told', async () => {
  const log = new EmbeddedLog({ folder: makeFolder() });
  const agent = await startReal(node, { log });
  await runContainer(lab, node);
  const back = await runContainer(lab, node, { restart: 'always' });
  await addsUp(log, node);
  const pid = node.engine.pid();
  await node.engine.restart();
  expect(node.engine.pid()).not.toBe(pid);
  await addsUp(log, node);
  expect(Object.keys(await readRegistry(log))).toEqual([short(back)]);
  await agent.stop();
  await removeAll(node);
  await log.close();
});

test('a log that is out of reach gets everything when it is back', async () => {
  const log = new EmbeddedLog({ folder: makeFolder() });
  let isDown = false;
  let refused = 0;
  const publish: Log['publish'] = async (publication) => {
    if (!isDown) return log.publish(publication);
    refused += 1;
    throw new UnavailableError('cut');
  };
  const agent = await startReal(node, { log: { publish } });
  isDown = true;
  const [stays, goes] = [await runContainer(lab, node), await runContainer(lab, node)];
  await node.docker.remove(goes);
  await vi.waitFor(() => expect(refused).toBeGreaterThan(3), WAIT);
  expect(agent.status()).toMatchObject({ log: false });
  expect(await readRegistry(log)).toEqual({});
  isDown = false;
  await addsUp(log, node);
  expect(Object.keys(await readRegistry(log))).toEqual([short(stays)]);
  await agent.stop();
  await removeAll(node);
  await log.close();
});

test('NATS that stands still and is killed gets everything when it is back, and nothing twice', async () => {
  const nats = await startNats();
  const log = new NatsLog({ servers: [nats.url] });
  const agent = await startReal(node, { log });
  const stays = await runContainer(lab, node);
  await addsUp(log, node);
  await nats.pause();
  expect(nats.state()).toBe('paused');
  await node.docker.remove(await runContainer(lab, node));
  await vi.waitFor(() => expect(agent.status()).toMatchObject({ log: false }), WAIT);
  expect(agent.status().buffered).toBeGreaterThan(0);
  await nats.kill();
  expect(nats.state()).toBe('gone');
  const late = await runContainer(lab, node);
  await nats.start();
  await addsUp(log, node);
  expect(new Set(Object.keys(await readRegistry(log)))).toEqual(new Set([short(stays), short(late)]));
  const ids = (await readEntries(log)).map(({ data }) => (JSON.parse(data) as { id: string }).id);
  expect(new Set(ids).size).toBe(ids.length);
  await agent.stop();
  await removeAll(node);
  await log.close();
  await nats.remove();
});
