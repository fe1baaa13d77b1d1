/**
 * The engine port without an engine: containers that live as they were recorded. `up` plays the recorded trace
 * (demo-trace.ts) where it finds no engine, one virtual node for each recorded one; tests make an engine's events
 * happen one by one.
 */
import { Readable } from 'node:stream';
import type { Container } from '@elastic-dns/model';
import { systemClock, type Clock } from '@elastic-dns/runtime';
import type { Engine, EngineEvent } from './engine.ts';

type WithoutOrigin<E> = E extends unknown ? Omit<E, 'containerId' | 'atNs'> : never;

/** One event of one engine and what it changed. */
export interface TraceStep {
  /** Since the recording began. */
  atMs: number;
  node: string;
  /** First 12 digits of the container's id. */
  container: string;
  event: WithoutOrigin<EngineEvent>;
  /**
   * The fields of the container that are different after it, all of them at its `create`; start times are left out, as
   * they are those of the playing. Null: it is gone.
   */
  set?: Partial<Container> | null;
}

export interface TraceNode {
  name: string;
  ipv4: string | null;
  zone: string | null;
  engine: { name: string; version: string };
}

export interface Trace {
  nodes: TraceNode[];
  /** In the order of their times. */
  steps: TraceStep[];
}

/** An engine whose containers do what it is told that they have done. */
export class PlayedEngine implements Engine {
  readonly #info: { name: string; version: string };
  readonly #containers = new Map<string, Container>();
  readonly #readers = new Set<Readable>();

  constructor(info: { name: string; version: string }) {
    this.#info = info;
  }

  /** What has happened, and the container after it (null: removed; undefined: as before). */
  play(event: EngineEvent, container?: Container | null): void {
    if (container === null) this.#containers.delete(event.containerId);
    if (container) this.#containers.set(event.containerId, container);
    for (const reader of this.#readers) reader.push(event);
  }

  async subscribe(signal: AbortSignal): Promise<AsyncIterable<EngineEvent>> {
    const reader = new Readable({ objectMode: true, read: () => undefined });
    const end = (): void => {
      if (this.#readers.delete(reader)) reader.push(null);
    };
    this.#readers.add(reader);
    signal.addEventListener('abort', end, { once: true });
    reader.once('close', () => {
      this.#readers.delete(reader);
      signal.removeEventListener('abort', end);
    });
    if (signal.aborted) end();
    return reader;
  }

  async list(): Promise<Container[]> {
    return [...this.#containers.values()];
  }

  async inspect(containerId: string): Promise<Container | null> {
    return this.#containers.get(containerId) ?? null;
  }

  async peek(containerId: string): Promise<Container | null> {
    return this.inspect(containerId);
  }

  async info(): Promise<{ name: string; version: string }> {
    return this.#info;
  }

  async close(): Promise<void> {
    for (const reader of this.#readers) reader.push(null);
    this.#readers.clear();
  }
}

export interface TracePlayerOptions {
  /** How long the whole trace takes, however long it took. Default 15 s. */
  durationMs?: number;
  clock?: Clock;
}

/** Pauses of the recording beyond this are cut, as nothing is to be seen in them. */
const MAX_GAP_MS = 1_500;

/** Plays a trace on one engine per node, each event on time; what has been played is what they list. */
export class TracePlayer {
  readonly trace: Trace;
  readonly #clock: Clock;
  readonly #durationMs: number;
  readonly #engines: ReadonlyMap<string, PlayedEngine>;
  readonly #containers = new Map<string, Container>();
  #next = 0;
  #lastNs = 0n;

  constructor(trace: Trace, options: TracePlayerOptions = {}) {
    this.trace = trace;
    this.#clock = options.clock ?? systemClock;
    this.#durationMs = options.durationMs ?? 15_000;
    this.#engines = new Map(trace.nodes.map((node) => [node.name, new PlayedEngine(node.engine)]));
  }

  /** The engine of each node, by the node's name. */
  get engines(): ReadonlyMap<string, Engine> {
    return this.#engines;
  }

  /** Plays the next event at once, and says which it was; null when all have been played. */
  step(): TraceStep | null {
    const step = this.trace.steps[this.#next];
    if (!step) return null;
    this.#next += 1;
    const nowMs = this.#clock.now();
    const container = this.#changed(step, nowMs);
    const nowNs = BigInt(Math.floor(nowMs)) * 1_000_000n;
    this.#lastNs = nowNs > this.#lastNs ? nowNs : this.#lastNs + 1n;
    const event = { ...step.event, containerId: container.id, atNs: this.#lastNs };
    this.#engines.get(step.node)?.play(event, step.set === null ? null : container);
    return step;
  }

  /** Plays what is left, in time. Resolves true when all has been played, false when `signal` aborted before. */
  async run(signal: AbortSignal, onStep: (step: TraceStep) => void = () => undefined): Promise<boolean> {
    const { steps } = this.trace;
    const pauseMs = (index: number): number =>
      Math.min((steps[index]?.atMs ?? 0) - (steps[index - 1]?.atMs ?? 0), MAX_GAP_MS);
    const totalMs = steps.reduce((sum, _, index) => sum + pauseMs(index), 0);
    for (;;) {
      const waitMs = (pauseMs(this.#next) * this.#durationMs) / Math.max(totalMs, 1);
      if (this.#next < steps.length) await this.#clock.sleep(waitMs, signal);
      if (signal.aborted) return false;
      const step = this.step();
      if (!step) return true;
      onStep(step);
    }
  }

  #changed(step: TraceStep, nowMs: number): Container {
    const before = this.#containers.get(step.container);
    const startedAtMs = step.event.kind === 'start' ? Math.floor(nowMs) : (before?.startedAtMs ?? 0);
    const container = { hostsPath: null, ...before, ...step.set, startedAtMs } as Container;
    if (container.id === undefined) throw new Error(`the trace has no create of ${step.container}`);
    if (step.set === null) this.#containers.delete(step.container);
    else this.#containers.set(step.container, container);
    return container;
  }
}
