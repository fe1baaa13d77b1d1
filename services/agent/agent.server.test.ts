/** The agent on a real engine: whatever happens, the log adds up to what the engine's own command line says. */
import { afterAll, beforeAll, expect, onTestFailed, test, vi } from 'vitest';
import { createDockerEngine } from '@elastic-dns/engine/docker';
import type { Engine, EngineEvent } from '@elastic-dns/engine';
import { EmbeddedLog } from '@elastic-dns/event-log/embedded';
import { startLab, type Lab, type LabNode } from '@elastic-dns/testkit/lab';
import { assertNoneLeft, checkLeaks, listHoldings } from '@elastic-dns/testkit/leaks';
import { spawnProcess, type SpawnedProcess } from '@elastic-dns/testkit/processes';
import {
  addsUp,
  CONFIG,
  makeFolder,
  readEntries,
  removeAll,
  runContainer,
  startReal,
  WAIT,
} from './fixture.ts';
import { NODE } from './samples.ts';

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

/** Numbers from 0 to 1, the same for the same seed. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

/** Lanes side by side; in each, containers start, end, fall ill and recover, one thing after the other. */
async function churn(seed: number, lanes: number, steps: number): Promise<void> {
  const { docker } = node;
  const live = async (random: () => number): Promise<void> => {
    const ids: string[] = [];
    for (let step = 0; step < steps; step++) {
      const id = ids[Math.floor(random() * ids.length)];
      const dice = random();
      if (!id || dice < 0.3) {
        const healthCheck = { command: 'test ! -e /tmp/ill', intervalMs: 100 };
        ids.push(await runContainer(lab, node, random() < 0.5 ? { healthCheck } : {}));
        continue;
      }
      const isUp = (await docker.inspect(id)).State.Running;
      if (dice < 0.4) await docker.remove(ids.splice(ids.indexOf(id), 1)[0] ?? '');
      else if (!isUp) await docker.start(id);
      else if (dice < 0.55) await docker.stop(id);
      else if (dice < 0.65) await docker.kill(id);
      else if (dice < 0.75) await docker.restart(id);
      else if (dice < 0.85) await docker.exec(id, ['touch', '/tmp/ill']);
      else if (dice < 0.95) await docker.exec(id, ['rm', '-f', '/tmp/ill']);
      else await docker.command(['pause', id]).then(() => docker.command(['unpause', id]));
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, lane) => live(randomOf(seed + lane))));
}

test('the log adds up to what runs after a random churn, without another snapshot', async () => {
  const log = new EmbeddedLog({ folder: makeFolder() });
  const agent = await startReal(node, { log });
  const seed = Math.floor(Math.random() * 2 ** 32);
  onTestFailed(() => void process.stderr.write(`seed of the churn: ${seed}\n`));
  await churn(seed, 4, 10);
  await addsUp(log, node);
  const entries = await readEntries(log);
  expect(entries.length).toBeGreaterThan(40);
  expect(entries.filter(({ data }) => data.includes('"type":"node.snapshot"'))).toHaveLength(1);
  await agent.stop();
  await removeAll(node);
  await log.close();
});

test("the log adds up one interval later when half of the engine's events are lost", async () => {
  const log = new EmbeddedLog({ folder: makeFolder() });
  const docker = createDockerEngine({ host: node.docker.host });
  let count = 0;
  const engine: Engine = {
    subscribe: async (signal) => halfOf(await docker.subscribe(signal)),
    list: () => docker.list(),
    inspect: (id) => docker.inspect(id),
    peek: (id) => docker.peek(id),
    info: () => docker.info(),
    close: () => docker.close(),
  };
  async function* halfOf(events: AsyncIterable<EngineEvent>): AsyncIterable<EngineEvent> {
    for await (const event of events) if (++count % 2 === 0) yield event;
  }
  const agent = await startReal(node, { log, engine, config: { ...CONFIG, snapshotIntervalMs: 2_000 } });
  await churn(7, 3, 8);
  await addsUp(log, node);
  expect(count).toBeGreaterThan(60);
  await agent.stop();
  await removeAll(node);
  await log.close();
});

/** An agent in a process of its own, so that it can be killed. */
function spawnAgent(logFolder: string, dataDir: string): Promise<SpawnedProcess> {
  const from = (specifier: string): string => JSON.stringify(import.meta.resolve(specifier));
  const program = `
    import { createDockerEngine } from ${from('@elastic-dns/engine/docker')};
    import { EmbeddedLog } from ${from('@elastic-dns/event-log/embedded')};
    import { createLogger, createMetrics, Health } from ${from('@elastic-dns/runtime')};
    import { runAgent } from ${from('./index.ts')};
    await runAgent({
      engine: createDockerEngine({ host: ${JSON.stringify(node.docker.host)} }),
      log: new EmbeddedLog({ folder: ${JSON.stringify(logFolder)} }),
      node: ${JSON.stringify(NODE)},
      config: ${JSON.stringify({ ...CONFIG, snapshotIntervalMs: 3_600_000 })},
      dataDir: ${JSON.stringify(dataDir)},
      logger: createLogger({ level: 'warn' }),
      metrics: createMetrics(),
      health: new Health(),
      signal: new AbortController().signal,
    });
  `;
  return spawnProcess(lab.run, [process.execPath, '--input-type=module', '--eval', program], {
    name: 'agent',
  });
}

test('the log adds up when the agent is killed in a burst and starts again after more has changed', async () => {
  const [logFolder, dataDir] = [makeFolder(), makeFolder()];
  const log = new EmbeddedLog({ folder: logFolder });
  const removed = await runContainer(lab, node);
  const first = await spawnAgent(logFolder, dataDir);
  await addsUp(log, node);
  const before = (await log.info()).last;
  const burst = churn(11, 4, 6);
  await vi.waitFor(async () => expect((await log.info()).last).toBeGreaterThan(before + 5), WAIT);
  expect(await first.kill()).toEqual({ exitCode: null, signal: 'SIGKILL' });
  await burst;
  await node.docker.remove(removed);
  await runContainer(lab, node);
  const second = await spawnAgent(logFolder, dataDir);
  await addsUp(log, node);
  await second.kill();
  await removeAll(node);
  await log.close();
});

test('the log adds up when the agent stands still for a while and goes on', async () => {
  const logFolder = makeFolder();
  const log = new EmbeddedLog({ folder: logFolder });
  const [stays, goes] = [await runContainer(lab, node), await runContainer(lab, node)];
  const agent = await spawnAgent(logFolder, makeFolder());
  await addsUp(log, node);
  await agent.pause();
  expect(agent.state()).toBe('paused');
  await node.docker.remove(goes);
  await node.docker.restart(stays);
  await runContainer(lab, node);
  await agent.resume();
  await addsUp(log, node);
  await agent.kill();
  await removeAll(node);
  await log.close();
});
