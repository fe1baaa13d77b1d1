/** L1 of the agent: whatever happens, when all is quiet again the log adds up to what runs. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Engine } from '@elastic-dns/engine';
import { demoTrace } from '@elastic-dns/engine/demo-trace';
import { TracePlayer } from '@elastic-dns/engine/trace';
import { VirtualClock } from '@elastic-dns/runtime';
import { expected, held, start, START_MS, startOn, type Agent } from './fixture.ts';
import { containerId, MemoryLog, sampleContainer, type TestEngine } from './samples.ts';

/** Much less than a container is given to stop, so that the end of that time mends nothing. */
const INTERVAL_MS = 5_000;

/** What may happen to a container. */
const LIVES = ['run', 'stop', 'crash', 'restart', 'remove', 'health', 'pause', 'move'] as const;
/** What may happen around them. */
const TROUBLES = [
  'hold question',
  'hold answer',
  'release',
  'away',
  'back',
  'log down',
  'log deaf',
  'log up',
] as const;

type Act =
  | { do: (typeof LIVES)[number] | (typeof TROUBLES)[number] | 'settle'; to: number }
  | { do: 'lose'; pattern: number }
  | { do: 'interval' };

const to = fc.integer({ min: 1, max: 4 });
const withoutLoss: fc.Arbitrary<Act> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom(...LIVES), to }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom(...TROUBLES), to }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('settle' as const), to }) },
);
const withLoss: fc.Arbitrary<Act> = fc.oneof(
  { weight: 6, arbitrary: withoutLoss },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('lose' as const), pattern: fc.nat(0xffff) }) },
  { weight: 1, arbitrary: fc.constant({ do: 'interval' as const }) },
);

/** One container of the engine lives on, in the way of the real one. */
async function live(engine: TestEngine, what: string, number: number, startedAtMs: number): Promise<void> {
  const id = containerId(number);
  const container = (await engine.truth()).find((each) => each.id === id);
  const fresh = sampleContainer(number, { health: number % 2 ? 'starting' : 'none', startedAtMs });
  const networks = [{ name: 'shop_default', ipv4: `10.0.1.${(startedAtMs / 1_000) % 250}`, ipv6: null }];
  if (what === 'run' && !container) engine.start(fresh);
  if (!container) return;
  if (what === 'remove') engine.remove(container);
  const runs = container.status === 'running' || container.status === 'paused';
  if (runs && ['stop', 'crash', 'restart'].includes(what)) {
    if (what !== 'crash') engine.happen(id, { kind: 'kill', signal: 15 });
    engine.happen(id, { kind: 'die', exitCode: 0 }, { ...container, status: 'exited' });
  }
  if (what === 'restart') {
    engine.happen(id, { kind: 'connect', network: 'shop_default' }, fresh, startedAtMs);
    engine.happen(id, { kind: 'start' }, fresh, startedAtMs);
  }
  if (!runs) return;
  if (what === 'health' && container.health !== 'none') {
    const health = container.health === 'healthy' ? 'unhealthy' : 'healthy';
    engine.happen(id, { kind: 'health', health }, { ...container, health });
  }
  if (what === 'pause') {
    const isPaused = container.status === 'paused';
    const status = isPaused ? 'running' : 'paused';
    engine.happen(id, { kind: isPaused ? 'unpause' : 'pause' }, { ...container, status });
  }
  if (what === 'move') {
    engine.happen(id, { kind: 'disconnect', network: 'shop_default' }, { ...container, networks: [] });
    engine.happen(id, { kind: 'connect', network: 'shop_default' }, { ...container, networks });
  }
}

/** Plays a schedule, then heals whatever it has broken and waits for what tries again. */
async function play({ engine, log, clock, settle }: Agent, schedule: readonly Act[]): Promise<void> {
  const releases: (() => void)[] = [];
  const modes = { 'log down': 'down', 'log deaf': 'deaf', 'log up': 'up' } as const;
  for (const [index, act] of [...schedule, { do: 'back', to: 0 } as const].entries()) {
    switch (act.do) {
      case 'lose':
        engine.lossPattern = act.pattern;
        break;
      case 'interval':
        await clock.advance(1.2 * INTERVAL_MS);
        break;
      case 'settle':
        await settle();
        break;
      case 'hold question':
      case 'hold answer':
        releases.push(engine.hold(containerId(act.to), act.do === 'hold question' ? 'question' : 'answer'));
        break;
      case 'release':
        for (const release of releases.splice(0)) release();
        break;
      case 'away':
        engine.goAway();
        break;
      case 'back':
        engine.comeBack();
        await clock.advance(15_000);
        break;
      case 'log down':
      case 'log deaf':
      case 'log up':
        log.mode = modes[act.do];
        await clock.advance(1_000);
        break;
      case 'run':
      case 'stop':
      case 'crash':
      case 'restart':
      case 'remove':
      case 'health':
      case 'pause':
      case 'move':
        await live(engine, act.do, act.to, 1_000 * (index + 2));
        break;
    }
  }
  for (const release of releases) release();
  engine.lossPattern = 0;
  log.mode = 'up';
  await clock.advance(20_000);
  await settle();
}

test('L1: when all is quiet again the log adds up to what runs, without another snapshot if no event was lost', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(withoutLoss, { maxLength: 40 }), async (schedule) => {
      const agent = await start({ config: { snapshotIntervalMs: 1e9 } });
      await play(agent, schedule);
      expect(held(agent.log.registry)).toEqual(expected(await agent.engine.truth()));
      await agent.stop();
    }),
    { numRuns: 300 },
  );
});

test('L1: when all is quiet again the log adds up to what runs one interval later, whatever was lost', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(withLoss, { maxLength: 40 }), async (schedule) => {
      const agent = await start({ config: { snapshotIntervalMs: INTERVAL_MS } });
      await play(agent, schedule);
      await agent.clock.advance(1.2 * INTERVAL_MS);
      await agent.settle();
      expect(held(agent.log.registry)).toEqual(expected(await agent.engine.truth()));
      await agent.stop();
    }),
    { numRuns: 300 },
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
