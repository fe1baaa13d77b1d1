/**
 * What every engine adapter keeps. An adapter's test gives a way to make containers live, and calls `engineContract`.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Container } from '@elastic-dns/model';
import type { Engine, EngineEvent } from './engine.ts';

export interface EngineHarness {
  engine: Engine;
  /**
   * Creates and starts a container: name `web-<number>`, label `tier=front`, port 80/tcp exposed, stop signal 15, one
   * network, and a health check that soon passes. Gives its id.
   */
  run(number: number): Promise<string>;
  /**
   * What the command line does with it: `reload` sends SIGHUP, which it ignores; `break` and `mend` change what its
   * health check finds; `stop` lets it end with exit code 0; `crash` sends SIGKILL.
   */
  act(containerId: string, action: Action): Promise<void>;
  close(): Promise<void>;
}

export type Action =
  'reload' | 'break' | 'mend' | 'pause' | 'unpause' | 'rename' | 'stop' | 'crash' | 'start' | 'remove';

const WAIT = { timeout: 15_000, interval: 10 };

/** Reads a subscription in the background; `ended` says how it came to its end. */
export interface Followed {
  events: EngineEvent[];
  ended: Promise<unknown>;
  /** Kinds of one container's events so far, with what is in them. */
  words(containerId: string): string[];
  stop(): void;
}

/** Subscribes and keeps what comes. */
export async function follow(engine: Engine): Promise<Followed> {
  const abort = new AbortController();
  const events: EngineEvent[] = [];
  const stream = await engine.subscribe(abort.signal);
  const ended = (async (): Promise<unknown> => {
    try {
      for await (const event of stream) events.push(event);
      return 'quietly';
    } catch (error) {
      return error;
    }
  })();
  return {
    events,
    ended,
    words: (containerId) => events.filter((event) => event.containerId === containerId).map(wordOf),
    stop: () => abort.abort(),
  };
}

function wordOf(event: EngineEvent): string {
  if (event.kind === 'kill') return `kill ${event.signal}`;
  if (event.kind === 'die') return `die ${event.exitCode}`;
  return event.kind === 'health' ? event.health : event.kind;
}

let containers = 0;

export function engineContract(name: string, start: () => Promise<EngineHarness>): void {
  describe(`${name} as an engine`, () => {
    let harness: EngineHarness;
    let engine: Engine;
    let followed: Followed;
    beforeEach(async () => {
      harness = await start();
      engine = harness.engine;
      followed = await follow(engine);
    });
    afterEach(async () => {
      followed.stop();
      await harness.close();
    });

    const run = (): Promise<string> => harness.run(++containers);
    const sees = async (id: string, words: string[]): Promise<void> => {
      await vi.waitFor(() => expect(followed.words(id)).toEqual(words), WAIT);
    };

    test('tells its name and version', async () => {
      const info = await engine.info();
      expect(info.name).toMatch(/\S/);
      expect(info.version).toMatch(/^[0-9]/);
    });

    test('tells of a start in the order create, connect, start, and shows the container as it runs', async () => {
      const beforeMs = Date.now();
      const id = await run();
      await sees(id, ['create', 'connect', 'start', 'healthy']);
      const container = await engine.inspect(id);
      expect(container).toMatchObject({
        id,
        name: `web-${containers}`,
        labels: expect.objectContaining({ tier: 'front' }),
        status: 'running',
        health: 'healthy',
        hostNetwork: false,
        ports: [{ port: 80, protocol: 'tcp', published: null }],
        stopSignal: 15,
      });
      expect(container?.networks).toHaveLength(1);
      expect(container?.networks[0]?.ipv4).toMatch(/^10\./);
      expect(container?.startedAtMs).toBeGreaterThanOrEqual(beforeMs);
      expect((await engine.list()).find((listed) => listed.id === id)).toEqual(container);
      const { labels, hostsPath, status } = container ?? {};
      expect(await engine.peek(id)).toMatchObject({
        id,
        name: `web-${containers}`,
        labels,
        hostsPath,
        status,
      });
      const times = followed.events.map(({ atNs }) => atNs);
      expect(times).toEqual(times.toSorted((a, b) => (a < b ? -1 : 1)));
    });

    test('knows at the connect event who the container is, and inspects there what is true at the start event', async () => {
      const abort = new AbortController();
      const stream = await engine.subscribe(abort.signal);
      const starting = run();
      let early: Container | null = null;
      let peeked: Container | null = null;
      for await (const event of stream) {
        if (event.kind !== 'connect') continue;
        peeked = await engine.peek(event.containerId);
        early = await engine.inspect(event.containerId);
        break;
      }
      abort.abort();
      const id = await starting;
      const { startedAtMs, labels, hostsPath } = (await engine.inspect(id)) ?? {};
      expect(peeked).toMatchObject({ id, labels, hostsPath });
      expect(early).toMatchObject({ id, status: 'running', startedAtMs });
    });

    test('tells health, pause, rename and signals as they happen', async () => {
      const id = await run();
      await sees(id, ['create', 'connect', 'start', 'healthy']);
      const words = [...followed.words(id)];
      const steps: [Action, string, object][] = [
        ['break', 'unhealthy', { status: 'running', health: 'unhealthy' }],
        ['mend', 'healthy', { status: 'running', health: 'healthy' }],
        ['pause', 'pause', { status: 'paused' }],
        ['unpause', 'unpause', { status: 'running' }],
        ['rename', 'rename', { name: `renamed-${containers}` }],
        ['reload', 'kill 1', { status: 'running' }],
      ];
      for (const [action, word, shown] of steps) {
        await harness.act(id, action);
        await sees(id, [...words, word]);
        words.push(word);
        expect(await engine.inspect(id)).toMatchObject(shown);
      }
    });

    test('tells of a stop by its signal, then of the end with its exit code, then of the next start', async () => {
      const id = await run();
      await sees(id, ['create', 'connect', 'start', 'healthy']);
      await harness.act(id, 'stop');
      const stopped = ['create', 'connect', 'start', 'healthy', 'kill 15', 'die 0', 'disconnect'];
      await sees(id, stopped);
      expect(await engine.inspect(id)).toMatchObject({ status: 'exited' });
      expect((await engine.inspect(id))?.networks.map(({ ipv4 }) => ipv4)).toEqual([null]);
      await harness.act(id, 'start');
      await sees(id, [...stopped, 'connect', 'start', 'healthy']);
      expect(await engine.inspect(id)).toMatchObject({ status: 'running', health: 'healthy' });
    });

    test('tells the exit code of a crash, and forgets a container that is removed', async () => {
      const id = await run();
      await sees(id, ['create', 'connect', 'start', 'healthy']);
      await harness.act(id, 'crash');
      const crashed = ['create', 'connect', 'start', 'healthy', 'kill 9', 'die 137', 'disconnect'];
      await sees(id, crashed);
      await harness.act(id, 'remove');
      await sees(id, [...crashed, 'destroy']);
      expect(await engine.inspect(id)).toBeNull();
      expect(await engine.peek(id)).toBeNull();
      expect((await engine.list()).map((listed) => listed.id)).not.toContain(id);
    });

    test('knows nothing of a container that never was', async () => {
      expect(await engine.inspect('f'.repeat(64))).toBeNull();
      expect(await engine.peek('f'.repeat(64))).toBeNull();
    });

    test('tells a subscriber only what happens after it has subscribed', async () => {
      const early = await run();
      await sees(early, ['create', 'connect', 'start', 'healthy']);
      const late = await follow(engine);
      const id = await run();
      await vi.waitFor(() => expect(late.words(id)).toContain('healthy'), WAIT);
      expect(late.words(early)).toEqual([]);
      late.stop();
    });

    test('ends a subscription quietly when it is told to, and leaves the others alone', async () => {
      const other = await follow(engine);
      other.stop();
      expect(await other.ended).toBe('quietly');
      const id = await run();
      await sees(id, ['create', 'connect', 'start', 'healthy']);
    });

    test('ends every subscription quietly when it is closed', async () => {
      await engine.close();
      expect(await followed.ended).toBe('quietly');
      await engine.close();
    });
  });
}
