import { expect, test } from 'vitest';
import type { Container } from '@elastic-dns/model';
import { VirtualClock } from '@elastic-dns/runtime';
import { engineContract, follow, type Action, type EngineHarness } from './contract.ts';
import { demoTrace } from './demo-trace.ts';
import { PlayedEngine, TracePlayer, type Trace, type TraceStep } from './trace.ts';

type Happening = TraceStep['event'];

const CONNECT: Happening = { kind: 'connect', network: 'bridge' };
const DISCONNECT: Happening = { kind: 'disconnect', network: 'bridge' };
const DOWN = { networks: [{ name: 'bridge', ipv4: null, ipv6: null }] };

/** What the real engine does for each action, as its own run of the contract shows. */
function lifeOf(
  action: Action,
  container: Container,
  number: number,
): [Happening, Partial<Container> | null][] {
  const up = { networks: [{ name: 'bridge', ipv4: `10.0.0.${number}`, ipv6: null }] };
  switch (action) {
    case 'reload':
      return [[{ kind: 'kill', signal: 1 }, {}]];
    case 'break':
      return [[{ kind: 'health', health: 'unhealthy' }, { health: 'unhealthy' }]];
    case 'mend':
      return [[{ kind: 'health', health: 'healthy' }, { health: 'healthy' }]];
    case 'pause':
      return [[{ kind: 'pause' }, { status: 'paused' }]];
    case 'unpause':
      return [[{ kind: 'unpause' }, { status: 'running' }]];
    case 'rename':
      return [[{ kind: 'rename' }, { name: container.name.replace('web', 'renamed') }]];
    case 'stop':
    case 'crash':
      return [
        [{ kind: 'kill', signal: action === 'stop' ? 15 : 9 }, {}],
        [{ kind: 'die', exitCode: action === 'stop' ? 0 : 137 }, { status: 'exited' }],
        [DISCONNECT, DOWN],
      ];
    case 'start':
      // The engine holds an inspect back until the start is over, so it shows the running container already here.
      return [
        [CONNECT, { ...up, status: 'running', health: 'starting', startedAtMs: Date.now() }],
        [{ kind: 'start' }, {}],
        [{ kind: 'health', health: 'healthy' }, { health: 'healthy' }],
      ];
    case 'remove':
      return [[{ kind: 'destroy' }, null]];
  }
}

function startPlayed(): EngineHarness {
  const engine = new PlayedEngine({ name: 'played', version: '1' });
  const containers = new Map<string, { container: Container; number: number }>();
  let atNs = 0n;
  const act = async (id: string, action: Action): Promise<void> => {
    const known = containers.get(id);
    if (!known) throw new Error(`no container ${id}`);
    for (const [event, set] of lifeOf(action, known.container, known.number)) {
      if (set) known.container = { ...known.container, ...set };
      engine.play({ ...event, containerId: id, atNs: ++atNs }, set && known.container);
    }
  };
  const run = async (number: number): Promise<string> => {
    const id = number.toString(16).padStart(64, '0');
    const container: Container = {
      id,
      name: `web-${number}`,
      labels: { tier: 'front' },
      status: 'created',
      health: 'starting',
      startedAtMs: 0,
      hostNetwork: false,
      networks: [],
      ports: [{ port: 80, protocol: 'tcp', published: null }],
      stopSignal: 15,
      hostsPath: `/hosts/${id}`,
    };
    containers.set(id, { container, number });
    engine.play({ kind: 'create', containerId: id, atNs: ++atNs }, container);
    await act(id, 'start');
    return id;
  };
  return { engine, run, act, close: () => engine.close() };
}

engineContract('the played engine', async () => startPlayed());

const id = 'a'.repeat(64);
const trace: Trace = {
  nodes: [
    { name: 'n1', ipv4: '10.0.0.1', zone: null, engine: { name: 'Docker', version: '1' } },
    { name: 'n2', ipv4: '10.0.0.2', zone: null, engine: { name: 'Docker', version: '1' } },
  ],
  steps: [
    {
      atMs: 100,
      node: 'n1',
      container: 'aaaaaaaaaaaa',
      event: { kind: 'create' },
      set: { id, name: 'web', labels: {}, status: 'created', networks: [] },
    },
    {
      atMs: 300,
      node: 'n1',
      container: 'aaaaaaaaaaaa',
      event: { kind: 'start' },
      set: { status: 'running' },
    },
    { atMs: 1_000_000, node: 'n1', container: 'aaaaaaaaaaaa', event: { kind: 'kill', signal: 15 } },
    { atMs: 1_000_000, node: 'n1', container: 'aaaaaaaaaaaa', event: { kind: 'destroy' }, set: null },
  ],
};

test('plays one event per step, on the engine of its node, with times of the playing', async () => {
  const clock = new VirtualClock(5_000);
  const player = new TracePlayer(trace, { clock });
  const [n1, n2] = [...player.engines.values()];
  if (!n1 || !n2) throw new Error('no engines');
  const followed = await follow(n1);
  expect(player.step()?.event.kind).toBe('create');
  expect(await n1.inspect(id)).toMatchObject({ name: 'web', status: 'created', startedAtMs: 0 });
  expect(player.step()?.event.kind).toBe('start');
  expect(await n1.list()).toEqual([expect.objectContaining({ status: 'running', startedAtMs: 5_000 })]);
  expect(await n2.list()).toEqual([]);
  player.step();
  expect(player.step()?.event.kind).toBe('destroy');
  expect(await n1.inspect(id)).toBeNull();
  expect(player.step()).toBeNull();
  followed.stop();
  await followed.ended;
  expect(followed.words(id)).toEqual(['create', 'start', 'kill 15', 'destroy']);
  const times = followed.events.map(({ atNs }) => atNs);
  expect(times).toEqual([5_000_000_000n, 5_000_000_001n, 5_000_000_002n, 5_000_000_003n]);
});

test('plays a trace within the time it is given, long pauses cut', async () => {
  const clock = new VirtualClock();
  const player = new TracePlayer(trace, { clock, durationMs: 1_800 });
  const played: [number, string][] = [];
  const running = player.run(AbortSignal.abort(), () => played.push([clock.now(), 'never']));
  expect(await running).toBe(false);
  const done = player.run(new AbortController().signal, ({ event }) =>
    played.push([clock.now(), event.kind]),
  );
  await clock.advance(1_800);
  expect(await done).toBe(true);
  expect(played).toEqual([
    [100, 'create'],
    [300, 'start'],
    [1_800, 'kill'],
    [1_800, 'destroy'],
  ]);
});

test('refuses a trace that speaks of a container before its create', () => {
  const player = new TracePlayer({ ...trace, steps: trace.steps.slice(1) });
  expect(() => player.step()).toThrow(/no create of aaaaaaaaaaaa/);
});

test('the recorded trace shows two applications on three nodes, with all that can happen to them', () => {
  expect(demoTrace.nodes.map(({ name }) => name)).toEqual(['node-1', 'node-2', 'node-3']);
  expect(demoTrace.steps.length).toBeGreaterThan(200);
  const created = demoTrace.steps.flatMap(({ event, set }) => (event.kind === 'create' && set ? [set] : []));
  expect(new Set(created.map(({ labels }) => labels?.['com.docker.compose.project']))).toEqual(
    new Set(['web-front-end', 'backoffice-workers']),
  );
  const versions = new Set(created.map(({ labels }) => labels?.['elastic-dns.version']));
  expect(versions.size).toBeGreaterThan(4);
  const words = new Set(
    demoTrace.steps.map(({ event }) => ('exitCode' in event ? `die ${event.exitCode}` : event.kind)),
  );
  for (const word of ['die 0', 'die 137', 'health', 'pause', 'unpause', 'kill', 'destroy'])
    expect(words).toContain(word);
});

test('the recorded trace plays to its end with a container as it was at every step, and nothing of the recording machine', async () => {
  const player = new TracePlayer(demoTrace, { clock: new VirtualClock(1_000_000) });
  for (let step = player.step(); step; step = player.step()) {
    const { node, container: prefix, event } = step;
    const container = (await player.engines.get(node)?.list())?.find(({ id }) => id.startsWith(prefix));
    if (event.kind === 'destroy') expect(container).toBeUndefined();
    else
      expect(container).toMatchObject({
        id: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
        hostsPath: null,
      });
    const isUp = container?.status === 'running';
    if (event.kind === 'start') expect(container?.networks[0]?.ipv4).toMatch(/^10\./);
    if (event.kind === 'start' || event.kind === 'health') expect(isUp).toBe(true);
    if (event.kind === 'die') expect(container?.status).toBe('exited');
  }
  expect(JSON.stringify(demoTrace)).not.toMatch(/\/tmp|hostsPath|startedAtMs/);
});
