import { describe, expect, test } from 'vitest';
import type { Container, EventBody } from '@elastic-dns/model';
import { forgetSeen, isShown, live, look, newLife, STOPPING_LIMIT_MS, type Life, type Step } from './life.ts';
import { containerId, NODE, sampleContainer, type Happening } from './samples.ts';

const OPTIONS = { node: NODE, network: null };
const START_MS = 1_000;
/** When everything below happens, unless it says otherwise. */
const NOW_MS = 1_500;
const CAUSE = { cause: 'test', observedAtMs: NOW_MS };

const id = containerId(1);
const container = (overrides: Partial<Container> = {}): Container => sampleContainer(1, overrides);
const happen = (life: Life, event: Happening, nowMs = NOW_MS): Step =>
  live(life, { ...event, containerId: id, atNs: BigInt(nowMs) * 1_000_000n }, nowMs, OPTIONS);
const see = (life: Life, seen: Container | null, nowMs = NOW_MS): Step =>
  look(life, seen, CAUSE, nowMs, OPTIONS);
const seen = (overrides: Partial<Container>): Life => see(newLife(id), container(overrides)).life;

/** Every state that a life can be in. */
const STATES: Record<string, Life> = {
  unknown: newLife(id),
  created: seen({ status: 'created', startedAtMs: 0 }),
  starting: seen({ health: 'starting' }),
  ready: seen({}),
  unready: seen({ health: 'unhealthy' }),
  paused: seen({ status: 'paused' }),
  stopping: happen(seen({}), { kind: 'kill', signal: 15 }).life,
  refused: seen({ networks: [] }),
  unnamed: seen({ labels: {} }),
  exited: happen(seen({}), { kind: 'die', exitCode: 0 }).life,
  // The engine was out of sight: what it shows now is not known, what was told is.
  lost: forgetSeen(seen({})),
};

/** Every kind of event. */
const EVENTS: Record<string, Happening> = {
  create: { kind: 'create' },
  connect: { kind: 'connect', network: 'other' },
  disconnect: { kind: 'disconnect', network: 'other' },
  start: { kind: 'start' },
  pause: { kind: 'pause' },
  unpause: { kind: 'unpause' },
  healthy: { kind: 'health', health: 'healthy' },
  unhealthy: { kind: 'health', health: 'unhealthy' },
  rename: { kind: 'rename' },
  'kill-15': { kind: 'kill', signal: 15 },
  'kill-1': { kind: 'kill', signal: 1 },
  'kill-9': { kind: 'kill', signal: 9 },
  oom: { kind: 'oom' },
  'die-1': { kind: 'die', exitCode: 1 },
  destroy: { kind: 'destroy' },
};

/**
 * What comes of each event in each state: what is said, `look` when the engine is asked, `-` for neither. A start in a
 * state that runs is the one that was seen already.
 */
const CELLS = `
             created  starting   ready      unready    paused     stopping  refused    unnamed  exited  lost     unknown
  create     -        -          -          -          -          -         -          -        -       -        -
  connect    look     look       look       look       look       look      look       look     look    look     look
  disconnect -        look       look       look       look       look      look       look     -       look     look
  start      look     -          -          -          -          -         -          -        look    look     look
  pause      -        unready    unready    -          -          -         -          -        -       look     look
  unpause    -        -          -          -          ready      -         -          -        -       look     look
  healthy    -        ready      -          ready      -          -         -          -        -       look     look
  unhealthy  -        unready    unready    -          -          -         -          -        -       look     look
  rename     -        look       look       look       look       look      look       look     -       look     look
  kill-15    -        stopping   stopping   stopping   stopping   -         -          -        -       look     look
  kill-1     -        -          -          -          -          -         -          -        -       look     look
  kill-9     -        -          -          -          -          -         -          -        -       look     look
  oom        -        -          -          -          -          -         -          -        -       -        -
  die-1      -        stopped    stopped    stopped    stopped    stopped   stopped    -        -       stopped  -
  destroy    -        stopped    stopped    stopped    stopped    stopped   stopped    -        -       stopped  -
`;

function wordsOf({ say, look }: Step): string {
  const said = say ? say.body.type.replace('instance.', '') : null;
  return said ?? (look ? 'look' : '-');
}

describe('what comes of each event in each state', () => {
  const [header = '', ...rows] = CELLS.trim().split('\n');
  const states = header.trim().split(/\s+/);
  test('the table has every state and every event', () => {
    expect(new Set(states)).toEqual(new Set(Object.keys(STATES)));
    expect(rows.map((row) => row.trim().split(/\s+/)[0])).toEqual(Object.keys(EVENTS));
  });
  for (const row of rows) {
    const [name = '', ...cells] = row.trim().split(/\s+/);
    for (const [index, cell] of cells.entries()) {
      const state = states[index] ?? '';
      test(`${name} when ${state}: ${cell}`, () => {
        const life = STATES[state];
        const event = EVENTS[name];
        if (!life || !event) throw new Error(`no such cell: ${state}, ${name}`);
        const step = happen(life, event);
        expect(wordsOf(step)).toBe(cell);
        expect(step.say && step.look).toBeNull();
      });
    }
  }
});

/** What each look says, by the state before and what the engine shows. */
const SHOWN: Record<string, Container | null> = {
  created: container({ status: 'created', startedAtMs: 0 }),
  starting: container({ health: 'starting' }),
  ready: container(),
  unhealthy: container({ health: 'unhealthy' }),
  paused: container({ status: 'paused' }),
  networkless: container({ networks: [] }),
  unnamed: container({ labels: {} }),
  restarted: container({ startedAtMs: NOW_MS + 400 }),
  restarting: container({ status: 'restarting' }),
  exited: container({ status: 'exited' }),
  gone: null,
};
const LOOKS = `
               unknown   created   starting  ready     unready   paused    stopping  refused   unnamed   exited    lost
  created      -         -         stopped   stopped   stopped   stopped   stopped   stopped   -         -         stopped
  starting     started   started   -         started   started   started   -         started   started   started   started
  ready        started   started   ready     -         ready     ready     -         started   started   started   -
  unhealthy    started   started   unready   unready   -         -         -         started   started   started   unready
  paused       started   started   unready   unready   -         -         -         started   started   started   unready
  networkless  refused   refused   refused   refused   refused   refused   refused   -         refused   refused   refused
  unnamed      -         -         stopped   stopped   stopped   stopped   stopped   stopped   -         -         stopped
  restarted    started   started   started   started   started   started   started   started   started   started   started
  restarting   -         -         stopped   stopped   stopped   stopped   stopped   stopped   -         -         stopped
  exited       -         -         stopped   stopped   stopped   stopped   stopped   stopped   -         -         stopped
  gone         -         -         stopped   stopped   stopped   stopped   stopped   stopped   -         -         stopped
`;

describe('what each look says', () => {
  const [header = '', ...rows] = LOOKS.trim().split('\n');
  const states = header.trim().split(/\s+/);
  test('the table has every state', () => {
    expect(new Set(states)).toEqual(new Set(Object.keys(STATES)));
    expect(rows.map((row) => row.trim().split(/\s+/)[0])).toEqual(Object.keys(SHOWN));
  });
  for (const row of rows) {
    const [name = '', ...cells] = row.trim().split(/\s+/);
    test(`sees it ${name}`, () => {
      const found = states.map((state) => wordsOf(see(STATES[state] ?? newLife(id), SHOWN[name] ?? null)));
      expect(found).toEqual(cells);
    });
  }
});

test('a start is told with the state that it is in: ready without a health check, else starting', () => {
  const told = (seenContainer: Container): EventBody | undefined => see(newLife(id), seenContainer).say?.body;
  expect(told(container())).toMatchObject({
    type: 'instance.started',
    data: { instance: { state: 'ready' } },
  });
  expect(told(container({ health: 'starting' }))).toMatchObject({
    type: 'instance.started',
    data: { instance: { state: 'starting' } },
  });
});

test('the end is told with its exit code, and with the lack of memory that caused it', () => {
  const ready = STATES['ready'] ?? newLife(id);
  const end = (life: Life, exitCode: number | null, nowMs = NOW_MS): unknown =>
    happen(life, { kind: 'die', exitCode }, nowMs).say;
  expect(end(ready, 137)).toMatchObject({
    cause: 'engine: die with exit code 137',
    observedAtMs: NOW_MS,
    body: { type: 'instance.stopped', data: { id: 'n1-000000000001', reason: 'exit code 137' } },
  });
  expect(end(ready, null)).toMatchObject({ body: { data: { reason: 'ended' } } });
  const starved = happen(ready, { kind: 'oom' }).life;
  expect(end(starved, 137)).toMatchObject({ body: { data: { reason: 'exit code 137, out of memory' } } });
  // That was another process of it, a minute ago.
  expect(end(starved, 0, NOW_MS + 60_000)).toMatchObject({ body: { data: { reason: 'exit code 0' } } });
});

test('a container that is found to have ended is told so, with what the engine calls it', () => {
  expect(see(STATES['ready'] ?? newLife(id), container({ status: 'exited' })).say?.body).toMatchObject({
    data: { reason: 'exited' },
  });
  expect(see(STATES['ready'] ?? newLife(id), null).say?.body).toMatchObject({ data: { reason: 'removed' } });
});

test('a container that still runs long after its stop signal is ready again', () => {
  const stopping = STATES['stopping'] ?? newLife(id);
  expect(see(stopping, container(), NOW_MS + STOPPING_LIMIT_MS - 1).say).toBeNull();
  const step = see(stopping, container(), NOW_MS + STOPPING_LIMIT_MS);
  expect(wordsOf(step)).toBe('ready');
  expect(wordsOf(happen(step.life, { kind: 'kill', signal: 15 }, NOW_MS + STOPPING_LIMIT_MS))).toBe(
    'stopping',
  );
});

test('a stop signal that came before the container was seen counts once it is', () => {
  const killed = happen(newLife(id), { kind: 'kill', signal: 15 }).life;
  expect(wordsOf(see(killed, container()))).toBe('stopping');
  expect(wordsOf(see(killed, container({ stopSignal: 3 })))).toBe('started');
  const reloaded = happen(newLife(id), { kind: 'kill', signal: 1 }).life;
  expect(wordsOf(see(reloaded, container()))).toBe('started');
});

test('a stop signal of the run before does not count for the next', () => {
  const killed = happen(forgetSeen(STATES['ready'] ?? newLife(id)), { kind: 'kill', signal: 15 }).life;
  const step = see(killed, container({ startedAtMs: NOW_MS + 300 }));
  expect(step.say?.body).toMatchObject({ type: 'instance.started', data: { instance: { state: 'ready' } } });
});

test('a stop signal is over with the run that it ended, also when the end and the next start were lost', () => {
  const stopping = STATES['stopping'] ?? newLife(id);
  const ended = see(stopping, container({ status: 'exited' })).life;
  expect(see(ended, container({ startedAtMs: NOW_MS + 300 })).say?.body).toMatchObject({
    type: 'instance.started',
    data: { instance: { state: 'ready' } },
  });
  expect(see(stopping, container({ startedAtMs: NOW_MS + 300 })).say?.body).toMatchObject({
    data: { instance: { state: 'ready' } },
  });
});

test('what was asked at the connect event is told as the start, at the time of the start', () => {
  const connect: Happening = { kind: 'connect', network: 'shop_default' };
  const asked = happen(newLife(id), connect, 900);
  expect(asked.look).toEqual({ cause: 'engine: start', observedAtMs: 900 });
  const cause = asked.look ?? CAUSE;
  expect(look(asked.life, container(), cause, NOW_MS, OPTIONS).say).toMatchObject({
    cause: 'engine: start',
    observedAtMs: START_MS,
  });
  expect(happen(STATES['ready'] ?? newLife(id), connect).look?.cause).toBe('engine: connect "shop_default"');
});

test('a start is looked at when what was seen is an earlier one', () => {
  const step = happen(STATES['ready'] ?? newLife(id), { kind: 'start' }, START_MS + 60_000);
  expect(wordsOf(step)).toBe('look');
});

test('new addresses at run time are told with the state that stays', () => {
  const moved = { networks: [{ name: 'shop_default', ipv4: '10.0.0.77', ipv6: null }] };
  const said = (state: string, overrides: Partial<Container>): string =>
    wordsOf(see(STATES[state] ?? newLife(id), container({ ...moved, ...overrides })));
  expect(said('ready', {})).toBe('ready');
  expect(said('starting', { health: 'starting' })).toBe('started');
  expect(said('unready', { health: 'unhealthy' })).toBe('unready');
  expect(said('stopping', {})).toBe('stopping');
});

test('a refusal is told once, and again when its reason is another', () => {
  const refused = STATES['refused'] ?? newLife(id);
  expect(see(refused, container({ networks: [] })).say).toBeNull();
  const several = ['a', 'b'].map((name) => ({ name, ipv4: '10.0.0.1', ipv6: null }));
  expect(wordsOf(see(refused, container({ networks: several })))).toBe('refused');
});

test('what was told stays when the engine gives no more than a short description of a running container', () => {
  const short = container({ startedAtMs: 0, ports: [], health: 'healthy' });
  expect(see(STATES['ready'] ?? newLife(id), short).say).toBeNull();
  expect(wordsOf(see(newLife(id), short))).toBe('started');
});

test('knows which events an answer shows', () => {
  const shown = (event: Happening, found: Container): boolean =>
    isShown({ ...event, containerId: id, atNs: 0n }, found);
  const on = container();
  expect(shown({ kind: 'start' }, on)).toBe(true);
  expect(shown({ kind: 'start' }, container({ status: 'created' }))).toBe(false);
  expect(shown({ kind: 'connect', network: 'shop_default' }, on)).toBe(true);
  expect(shown({ kind: 'connect', network: 'other' }, on)).toBe(false);
  expect(shown({ kind: 'connect', network: 'host' }, container({ hostNetwork: true }))).toBe(true);
  expect(shown({ kind: 'disconnect', network: 'other' }, on)).toBe(true);
  expect(shown({ kind: 'disconnect', network: 'shop_default' }, on)).toBe(false);
  expect(shown({ kind: 'rename' }, on)).toBe(false);
});
