/** What the agent's tests share: containers, a log in memory that can fail, and an engine that can go out of sight. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Log, Publication } from '@elastic-dns/event-log';
import { PlayedEngine, type TraceStep } from '@elastic-dns/engine/trace';
import type { EngineEvent } from '@elastic-dns/engine';
import {
  decodeEvent,
  fold,
  InvalidInputError,
  Registry,
  UnavailableError,
  type Container,
  type Event,
} from '@elastic-dns/model';
import type { NodeFacts } from './translate.ts';

export const NODE: NodeFacts = { name: 'n1', ipv4: '192.168.0.1', ipv6: null, zone: null };

/** A container id: 64 hex digits that start with the given number. */
export function containerId(number: number): string {
  return number.toString(16).padStart(12, '0').padEnd(64, 'f');
}

/** Container `number`: `api` of `shop`, running at 10.0.0.<number> since second <number>, without a health check. */
export function sampleContainer(number: number, overrides: Partial<Container> = {}): Container {
  return {
    id: containerId(number),
    name: `shop-api-${number}`,
    labels: { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'api' },
    status: 'running',
    health: 'none',
    startedAtMs: 1_000 * number,
    hostNetwork: false,
    networks: [{ name: 'shop_default', ipv4: `10.0.0.${number}`, ipv6: null }],
    ports: [{ port: 3000, protocol: 'tcp', published: null }],
    stopSignal: 15,
    hostsPath: null,
    ...overrides,
  };
}

export type Happening = TraceStep['event'];

/** The loss pattern that loses all. */
export const ALL_EVENTS = 0xffff;

/** A log in memory. What it took is in `events`, whatever it answered. */
export class MemoryLog implements Pick<Log, 'publish'> {
  readonly entries: Publication[] = [];
  /** `down`: takes nothing. `deaf`: takes it, and the answer is lost. */
  mode: 'up' | 'down' | 'deaf' = 'up';
  maxBytes = 1_000_000;
  /** Publications that were tried. */
  tries = 0;

  async publish(publication: Publication): Promise<{ sequence: number; duplicate: boolean }> {
    this.tries += 1;
    if (this.mode === 'down') throw new UnavailableError('the log is down');
    if (publication.data.length > this.maxBytes) throw new InvalidInputError('too large');
    const known = this.entries.findIndex(({ id }) => id === publication.id);
    if (known === -1) this.entries.push(publication);
    if (this.mode === 'deaf') throw new UnavailableError('no answer');
    return { sequence: known === -1 ? this.entries.length : known + 1, duplicate: known !== -1 };
  }

  get events(): Event[] {
    return this.entries.map((entry) => {
      const decoded = decodeEvent(entry);
      if (!decoded.ok) throw new Error(`the log holds what no registrar would take: ${decoded.reason}`);
      return decoded.event;
    });
  }

  /** Each event in two words: its type without prefix, and the state it tells of. */
  get words(): string[] {
    return this.events.map((event) => {
      const word = event.type.replace('instance.', '').replace('node.', '');
      if (event.type === 'node.snapshot') return `${word} ${event.data.instances.length}`;
      return 'instance' in event.data ? `${word} ${event.data.instance.state}` : word;
    });
  }

  /** What a registrar makes of it. */
  get registry(): Registry {
    const registry = new Registry();
    for (const [index, { node, data }] of this.entries.entries()) {
      registry.apply(fold(registry, { node, data, sequence: index + 1, incarnation: 'log', atMs: 0 }).change);
    }
    return registry;
  }
}

/** A played engine that can lose events, hold answers back, go out of sight and come back. */
export class TestEngine extends PlayedEngine {
  #isAway = false;
  readonly #subscriptions = new Set<AbortController>();
  readonly #held = new Map<string, { what: 'question' | 'answer'; until: Promise<void> }>();
  readonly #lost = new WeakSet<EngineEvent>();
  #lastNs = 0n;
  /** Which of the events that happen from now on are lost on the way: those whose bit is set, over and over. */
  lossPattern = 0;
  #count = 0;
  inspects = 0;
  /** Happens while the next list is under way, which shows what was before it. */
  duringList: (() => void) | null = null;

  constructor() {
    super({ name: 'test', version: '1' });
  }

  /** Something happens at `atMs`; the container is as given after it, or as before. */
  happen(id: string, happening: Happening, container?: Container | null, atMs = 0): void {
    const atNs = BigInt(atMs) * 1_000_000n;
    this.#lastNs = atNs > this.#lastNs ? atNs : this.#lastNs + 1n;
    const event = { ...happening, containerId: id, atNs: this.#lastNs };
    if ((this.lossPattern >> (this.#count++ % 16)) & 1) this.#lost.add(event);
    this.play(event, container);
  }

  /** Creates, connects and starts a container, as `docker run` does. */
  start(container: Container): void {
    const network = container.networks[0]?.name ?? 'host';
    this.happen(container.id, { kind: 'create' }, { ...container, status: 'created', startedAtMs: 0 });
    this.happen(container.id, { kind: 'connect', network }, container, container.startedAtMs);
    this.happen(container.id, { kind: 'start' }, container, container.startedAtMs);
  }

  /** Ends and removes it, as `docker rm --force` does. */
  remove(container: Container): void {
    this.happen(container.id, { kind: 'kill', signal: 9 });
    this.happen(container.id, { kind: 'die', exitCode: 137 }, { ...container, status: 'exited' });
    this.happen(container.id, { kind: 'destroy' }, null);
  }

  goAway(): void {
    this.#isAway = true;
    for (const subscription of this.#subscriptions) subscription.abort();
    this.#subscriptions.clear();
  }

  comeBack(): void {
    this.#isAway = false;
  }

  /**
   * Holds back what is asked about a container: the `question`, so that the answer shows what is true in the end, or the
   * `answer`, so that it shows what was true in the beginning. Gives the function that lets it go on.
   */
  hold(id: string, what: 'question' | 'answer'): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#held.set(id, { what, until: promise });
    return () => {
      this.#held.delete(id);
      resolve();
    };
  }

  override async subscribe(signal: AbortSignal): Promise<AsyncIterable<EngineEvent>> {
    this.#checkSight();
    const lost = new AbortController();
    this.#subscriptions.add(lost);
    const events = await super.subscribe(AbortSignal.any([signal, lost.signal]));
    return this.#deliver(events, lost.signal);
  }

  async *#deliver(events: AsyncIterable<EngineEvent>, lost: AbortSignal): AsyncIterable<EngineEvent> {
    for await (const event of events) {
      if (!this.#lost.has(event)) yield event;
    }
    if (lost.aborted) throw new UnavailableError('the engine went away');
  }

  override async list(): Promise<Container[]> {
    this.#checkSight();
    const containers = await super.list();
    const happening = this.duringList;
    this.duringList = null;
    happening?.();
    // What happens now is told before the list has come to its end.
    for (let turn = 0; happening && turn < 5; turn++) await nextTurn();
    return containers;
  }

  /** What there is, whoever can see it. */
  truth(): Promise<Container[]> {
    return super.list();
  }

  override async inspect(id: string): Promise<Container | null> {
    this.inspects += 1;
    const held = this.#held.get(id);
    const early = await super.inspect(id);
    await held?.until;
    this.#checkSight();
    return held?.what === 'answer' ? early : super.inspect(id);
  }

  #checkSight(): void {
    if (this.#isAway) throw new UnavailableError('the engine is away');
  }
}
