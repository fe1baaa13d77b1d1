/** L1 of the agent: whatever happens, when all is quiet again the log adds up to what runs. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Engine } from '@elastic-dns/engine';
import { demoTrace } from '@elastic-dns/engine/demo-trace';
import { TracePlayer } from '@elastic-dns/engine/trace';
import { VirtualClock } from '@elastic-dns/runtime';
import { CONFIG, expected, held, start, START_MS, startOn, type Agent } from './harness.ts';
import { STOPPING_LIMIT_MS } from './life.ts';
import { containerId, MemoryLog, sampleContainer } from './samples.ts';

const HEALTHCHECK = { health: 'starting' } as const;

type Act =
  | {
      do:
        | 'run'
        | 'stop'
        | 'crash'
        | 'restart'
        | 'remove'
        | 'health'
        | 'pause'
        | 'move'
        | 'hold question'
        | 'hold answer';
      to: number;
    }
  | { do: 'release' | 'settle' | 'lose' | 'deliver' | 'away' | 'back' | 'log down' | 'log deaf' | 'log up' };

const acts: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'run',
        'stop',
        'crash',
        'restart',
        'remove',
        'health',
        'pause',
        'move',
        'hold question',
        'hold answer',
      ),
      to: fc.integer({ min: 1, max: 4 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'release',
        'settle',
        'lose',
        'deliver',
        'away',
        'back',
        'log down',
        'log deaf',
        'log up',
      ),
    }),
  },
);

async function act(agent: Agent, schedule: readonly Act[]): Promise<void> {
  const { engine, log, clock, settle } = agent;
  const releases: (() => void)[] = [];
  let seconds = 1;

  const live = async (what: Act['do'], number: number): Promise<void> => {
    const id = containerId(number);
    const container = (await engine.truth()).find((each) => each.id === id);
    const health = number % 2 ? HEALTHCHECK : {};
    const fresh = sampleContainer(number, { ...health, startedAtMs: 1_000 * ++seconds });
    if (what === 'run' && !container) engine.start(fresh);
    if (!container) return;
    if (what === 'remove') engine.remove(container);
    const runs = container.status === 'running' || container.status === 'paused';
    if ((what === 'stop' || what === 'restart') && runs) engine.happen(id, { kind: 'kill', signal: 15 });
    if (['stop', 'crash', 'restart'].includes(what) && runs)
      engine.happen(id, { kind: 'die', exitCode: 0 }, { ...container, status: 'exited' });
    if (what === 'restart') {
      engine.happen(id, { kind: 'connect', network: 'shop_default' }, fresh, fresh.startedAtMs);
      engine.happen(id, { kind: 'start' }, fresh, fresh.startedAtMs);
    }
    if (!runs) return;
    if (what === 'health' && container.health !== 'none') {
      const next = container.health === 'healthy' ? 'unhealthy' : 'healthy';
      engine.happen(id, { kind: 'health', health: next }, { ...container, health: next });
    }
    if (what === 'pause') {
      const status = container.status === 'paused' ? 'running' : 'paused';
      engine.happen(id, { kind: status === 'paused' ? 'pause' : 'unpause' }, { ...container, status });
    }
    if (what === 'move') {
      const networks = [{ name: 'shop_default', ipv4: `10.0.1.${seconds}`, ipv6: null }];
      engine.happen(id, { kind: 'disconnect', network: 'shop_default' });
      engine.happen(id, { kind: 'connect', network: 'shop_default' }, { ...container, networks });
    }
  };

  for (const each of schedule) {
    if ('to' in each && (each.do === 'hold question' || each.do === 'hold answer'))
      releases.push(engine.hold(containerId(each.to), each.do === 'hold question' ? 'question' : 'answer'));
    else if ('to' in each) await live(each.do, each.to);
    else if (each.do === 'release') for (const release of releases.splice(0)) release();
    else if (each.do === 'settle') await settle();
    else if (each.do === 'lose' || each.do === 'deliver') engine.losesEvents = each.do === 'lose';
    else if (each.do === 'away') engine.goAway();
    else if (each.do === 'back') {
      engine.comeBack();
      await clock.advance(15_000);
    } else {
      log.mode = each.do === 'log down' ? 'down' : each.do === 'log deaf' ? 'deaf' : 'up';
      if (log.mode === 'up') await clock.advance(5_000);
    }
  }
  for (const release of releases) release();
  engine.comeBack();
  engine.losesEvents = false;
  log.mode = 'up';
  await clock.advance(20_000);
  await settle();
}

test('L1: when all is quiet again the log adds up to what runs, without another snapshot if no event was lost', async () => {
  const losesNothing = acts.filter((each) => each.do !== 'lose');
  await fc.assert(
    fc.asyncProperty(fc.array(losesNothing, { maxLength: 40 }), async (schedule) => {
      const agent = await start({ config: { snapshotIntervalMs: 1e9 } });
      await act(agent, schedule);
      expect(held(agent.log.registry)).toEqual(expected(await agent.engine.truth()));
      await agent.stop();
    }),
    { numRuns: 150 },
  );
});

test('L1: when all is quiet again the log adds up to what runs one interval later, whatever was lost', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(acts, { maxLength: 40 }), async (schedule) => {
      const agent = await start();
      await act(agent, schedule);
      await agent.clock.advance(1.2 * CONFIG.snapshotIntervalMs + STOPPING_LIMIT_MS);
      await agent.settle();
      expect(held(agent.log.registry)).toEqual(expected(await agent.engine.truth()));
      await agent.stop();
    }),
    { numRuns: 150 },
  );
});

test('L1: the log adds up to what runs after each event that real engines have told of', async () => {
  const clock = new VirtualClock(START_MS);
  const player = new TracePlayer(demoTrace, { clock });
  const log = new MemoryLog();
  const agents: Agent<Engine>[] = [];
  const nodes = demoTrace.nodes.map(({ name, ipv4, zone }) => ({ name, ipv4, zone, ipv6: null }));
  for (const node of nodes) {
    const engine = player.engines.get(node.name);
    if (!engine) throw new Error(`no engine for ${node.name}`);
    agents.push(await startOn(engine, { clock, log, node }));
  }
  for (let step = player.step(); step; step = player.step()) {
    await clock.advance(100);
    await agents[0]?.settle();
    for (const [index, node] of nodes.entries()) {
      const all = held(log.registry, node);
      const steady = all.filter((text) => !text.includes('"state":"stopping"'));
      const runs = expected((await agents[index]?.engine.list()) ?? [], node);
      expect(runs).toEqual(expect.arrayContaining(steady));
      expect(runs).toHaveLength(all.length);
    }
  }
  expect(log.words.filter((word) => word === 'refused')).toEqual([]);
  expect(log.words.length).toBeGreaterThan(100);
  for (const agent of agents) await agent.stop();
});
