/**
 * Follows the engine: subscribes, lists, and keeps a life per container from then on. Made by index.ts, which supervises
 * its loop; says what it finds to publish.ts.
 *
 * Subscribe first, list second, so that nothing is missed. A container's events are taken in the engine's order; one
 * look at a container is under way at a time, and its answer counts only if nothing has happened since that makes it
 * old. Containers do not wait for each other. An engine that is out of sight changes nothing (S2, S7).
 */
import pLimit from 'p-limit';
import { UnavailableError, type Container, type NodeSnapshot } from '@elastic-dns/model';
import type { Engine, EngineEvent } from '@elastic-dns/engine';
import { Backoff, type Clock } from '@elastic-dns/runtime';
import {
  forgetSeen,
  isShown,
  live,
  look,
  newLife,
  STOPPING_LIMIT_MS,
  type Cause,
  type Life,
  type LifeOptions,
  type Saying,
  type Step,
} from './life.ts';
import type { SnapshotReason } from './publish.ts';
import type { Translated } from './translate.ts';

/**
 * Inspects under way at a time. The engine holds those of containers that it is starting back, so there have to be more
 * than it starts at a time.
 */
const MAX_LOOKS = 128;
const LOOK_RETRY = { minMs: 50, maxMs: 2_000 };
/** Part of the interval by which a regular snapshot comes early or late, so that nodes do not all come at once. */
const JITTER = 0.2;

export interface ObserverOptions extends LifeOptions {
  engine: Engine;
  snapshotIntervalMs: number;
  clock: Clock;
  /** Ends all waiting. */
  signal: AbortSignal;
  say: (saying: Saying) => void;
  /** All that runs is known now: time for a snapshot. */
  snapshot: (reason: SnapshotReason) => void;
  /** What the log is told of a container has changed. */
  changed: (before: Translated, after: Translated) => void;
}

/** A question to the engine that is under way. */
interface Look {
  cause: Cause;
  /** What has happened since it was asked, which its answer may or may not show: the last event of each kind (S13). */
  since: Map<string, { event: EngineEvent; cause: Cause }>;
}

interface Entry {
  life: Life;
  look: Look | null;
  /** When its last event came, and when its last end, by the count of all events. */
  touched: number;
  ended: number;
  /** Ends the wait for it to end after its stop signal. */
  stopWait: AbortController | null;
}

/** From one subscription to the loss of it. */
interface Session {
  signal: AbortSignal;
  fail: (error: unknown) => void;
  hasListed: boolean;
}

export class Observer {
  readonly #options: ObserverOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #limit = pLimit(MAX_LOOKS);
  /** Events so far. */
  #count = 0;
  /** Containers that were removed since the list began that is under way. */
  #removed: Set<string> | null = null;
  #session: Session | null = null;
  #hasEverListed = false;

  constructor(options: ObserverOptions) {
    this.#options = options;
    options.signal.addEventListener('abort', () => {
      for (const { stopWait } of this.#entries.values()) stopWait?.abort();
    });
  }

  /** Whether the engine is in sight: subscribed, and listed since. */
  get isConnected(): boolean {
    return this.#session?.hasListed ?? false;
  }

  /** All that the log is to know, as of now. */
  compose(): NodeSnapshot {
    const { zone, ipv4, ipv6 } = this.#options.node;
    const snapshot: NodeSnapshot = { zone, ipv4, ipv6, instances: [], refused: [] };
    for (const { life } of this.#entries.values()) {
      if (life.told?.kind === 'instance') snapshot.instances.push(life.told.instance);
      if (life.told?.kind === 'refused') snapshot.refused.push(life.told.refusal);
    }
    return snapshot;
  }

  /**
   * Follows the engine until `signal` aborts; calls `settled` whenever everything is known. `UnavailableError` when
   * the engine goes out of sight: call again.
   */
  async run(signal: AbortSignal, settled: () => void): Promise<void> {
    const ending = new AbortController();
    const failure = Promise.withResolvers<never>();
    const session: Session = {
      signal: AbortSignal.any([signal, ending.signal]),
      fail: failure.reject,
      hasListed: false,
    };
    for (const entry of this.#entries.values()) {
      entry.life = forgetSeen(entry.life);
      entry.look = null;
    }
    try {
      const events = await this.#options.engine.subscribe(session.signal);
      this.#session = session;
      await Promise.race([failure.promise, this.#follow(events, session), this.#list(session, settled)]);
    } finally {
      this.#session = null;
      ending.abort();
    }
    if (!signal.aborted) throw new UnavailableError("the engine's event stream has ended");
  }

  async #follow(events: AsyncIterable<EngineEvent>, session: Session): Promise<void> {
    for await (const event of events) {
      if (session.signal.aborted) return;
      this.#take(event, session);
    }
  }

  /** Lists at once and then at every interval, each time followed by a snapshot. */
  async #list(session: Session, settled: () => void): Promise<void> {
    const { engine, clock, snapshot, snapshotIntervalMs } = this.#options;
    let reason: SnapshotReason = this.#hasEverListed ? 'engine' : 'start';
    while (!session.signal.aborted) {
      const began = this.#count;
      this.#removed = new Set();
      const containers = await engine.list();
      if (session.signal.aborted) return;
      this.#reconcile(containers, began);
      this.#removed = null;
      this.#hasEverListed = true;
      session.hasListed = true;
      snapshot(reason);
      settled();
      reason = 'interval';
      await clock.sleep(snapshotIntervalMs * (1 - JITTER + 2 * JITTER * Math.random()), session.signal);
    }
  }

  #take(event: EngineEvent, session: Session): void {
    const { clock } = this.#options;
    const entry = this.#entry(event.containerId);
    this.#count += 1;
    entry.touched = this.#count;
    const step = live(entry.life, event, clock.now(), this.#options);
    this.#apply(entry, step);
    if (event.kind === 'die' || event.kind === 'destroy') {
      // What is under way was asked about the run that is over now.
      entry.look = null;
      entry.ended = this.#count;
    }
    if (event.kind === 'destroy') {
      this.#entries.delete(event.containerId);
      this.#removed?.add(event.containerId);
    } else if (step.look) {
      if (entry.look) entry.look.since.set(kindOf(event), { event, cause: step.look });
      else this.#look(entry, step.look, session);
    } else if (entry.look && isOverruling(event)) {
      this.#look(entry, entry.look.cause, session);
    }
  }

  /** Takes over what a list shows that was begun at event `began`; events that came since know better. */
  #reconcile(containers: Container[], began: number): void {
    const nowMs = this.#options.clock.now();
    const cause: Cause = { cause: 'listed by the agent', observedAtMs: nowMs };
    const listed = new Set(containers.map(({ id }) => id));
    for (const container of containers) {
      if (this.#removed?.has(container.id)) continue;
      const entry = this.#entry(container.id);
      if (entry.ended > began) continue;
      if (entry.touched > began && entry.life.seen) continue;
      this.#apply(entry, look(entry.life, container, cause, nowMs, this.#options));
    }
    for (const [id, entry] of this.#entries) {
      if (listed.has(id) || entry.touched > began) continue;
      this.#apply(entry, look(entry.life, null, cause, nowMs, this.#options));
      this.#entries.delete(id);
    }
  }

  /** Asks the engine about one container; an answer to an earlier question does not count any more. */
  #look(entry: Entry, cause: Cause, session: Session): void {
    const asked: Look = { cause, since: new Map() };
    entry.look = asked;
    this.#limit(() => this.#answer(entry, asked, session)).catch(session.fail);
  }

  async #answer(entry: Entry, asked: Look, session: Session): Promise<void> {
    const { engine, clock } = this.#options;
    const { containerId } = entry.life;
    const isWanted = (): boolean => entry.look === asked && !session.signal.aborted;
    const backoff = new Backoff(LOOK_RETRY);
    while (isWanted()) {
      let container: Container | null;
      try {
        container = await engine.inspect(containerId);
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        await clock.sleep(backoff.nextMs(), session.signal);
        continue;
      }
      if (!isWanted()) return;
      entry.look = null;
      this.#apply(entry, look(entry.life, container, asked.cause, clock.now(), this.#options));
      if (!container) {
        this.#entries.delete(containerId);
        return;
      }
      const unseen = [...asked.since.values()].find(({ event }) => !isShown(event, container));
      if (unseen) this.#look(entry, unseen.cause, session);
      return;
    }
  }

  #apply(entry: Entry, step: Step): void {
    const before = entry.life.told;
    const after = step.life.told;
    entry.life = step.life;
    if (before !== after) this.#options.changed(before, after);
    this.#watchStop(entry, after?.kind === 'instance' && after.instance.state === 'stopping');
    if (step.say) this.#options.say(step.say);
  }

  /** A container that got its stop signal is looked at again when it should have ended long ago. */
  #watchStop(entry: Entry, isStopping: boolean): void {
    if (isStopping === (entry.stopWait !== null)) return;
    entry.stopWait?.abort();
    entry.stopWait = isStopping ? new AbortController() : null;
    if (!entry.stopWait) return;
    void this.#lookAfterStop(entry, entry.stopWait.signal);
  }

  async #lookAfterStop(entry: Entry, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    await clock.sleep(STOPPING_LIMIT_MS, signal);
    if (signal.aborted || !this.#session || entry.look) return;
    const cause = `still runs ${STOPPING_LIMIT_MS / 1_000} s after its stop signal`;
    this.#look(entry, { cause, observedAtMs: clock.now() }, this.#session);
  }

  #entry(containerId: string): Entry {
    let entry = this.#entries.get(containerId);
    if (!entry) {
      entry = { life: newLife(containerId), look: null, touched: 0, ended: 0, stopWait: null };
      this.#entries.set(containerId, entry);
    }
    return entry;
  }
}

function kindOf(event: EngineEvent): string {
  return 'network' in event ? `${event.kind} ${event.network}` : event.kind;
}

/** It changes what is known by itself, so an answer that is under way may be older. */
function isOverruling({ kind }: EngineEvent): boolean {
  return kind === 'health' || kind === 'pause' || kind === 'unpause';
}
