/**
 * From what is to be said to the log: gives each event its place (epoch, sequence), keeps many under way at a time, and
 * holds them while the log is out of reach. Made by index.ts, fed by observe.ts.
 *
 * The fold of a node's events does not depend on their order of arrival (S5), so each is sent again, with its id, until
 * the log has it, and others may overtake it. Memory is bounded (S13): when more events wait than may, they are dropped
 * for a snapshot, which says all that they said. A snapshot also follows every outage, as nobody knows what the log
 * kept of what was sent into it. Snapshots are put together when they are given their sequence, so they agree with
 * the events before and after them.
 */
import type { Log } from '@elastic-dns/event-log';
import {
  encodeEvent,
  formatEventId,
  InvalidInputError,
  UnavailableError,
  type EventBody,
  type EventType,
  type NodeSnapshot,
} from '@elastic-dns/model';
import { Backoff, type Clock, type Logger } from '@elastic-dns/runtime';
import type { Saying } from './life.ts';

/** Why a snapshot is published; a metric's label, so a closed set. */
export type SnapshotReason = 'start' | 'engine' | 'log' | 'overflow' | 'interval';

const CAUSES: Record<SnapshotReason, string> = {
  start: 'the agent has started',
  engine: 'the engine was out of sight',
  log: 'the log was out of reach',
  overflow: 'more events waited for the log than may',
  interval: 'regular snapshot',
};

/** Publications under way at a time; what the log takes per second is a multiple of it. */
const MAX_UNDER_WAY = 64;
const RETRY = { minMs: 50, maxMs: 5_000 };

export interface PublishObserver {
  published(type: EventType): void;
  /** `unavailable`: will be tried again. `refused`: the log will never take it, and it is dropped. */
  failed(why: 'unavailable' | 'refused'): void;
  snapshot(reason: SnapshotReason): void;
  buffered(count: number): void;
}

export interface PublisherOptions {
  log: Pick<Log, 'publish'>;
  node: string;
  epoch: number;
  /** All that is to be in a snapshot that is taken now. */
  compose: () => NodeSnapshot;
  /** Events that may wait; those under way (64 at most) not included. */
  bufferEvents: number;
  clock: Clock;
  logger: Logger;
  observer: PublishObserver;
}

interface Publication {
  sequence: number;
  type: EventType;
  id: string;
  data: string;
}

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #backoff = new Backoff(RETRY);
  readonly #stopped = new AbortController();
  readonly #failed = Promise.withResolvers<never>();
  readonly #drained = Promise.withResolvers<void>();
  #isDraining = false;
  /** By sequence. */
  #waiting: Publication[] = [];
  #underWay = 0;
  #sequence = 0;
  /** What waited was dropped; the snapshot that makes up for it is put together when it can be sent. */
  #hasOverflowed = false;
  #isReachable = true;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#failed.promise.catch(() => undefined);
  }

  /** Sequence of the newest event; 0 before the first. */
  get lastSequence(): number {
    return this.#sequence;
  }

  /** Events that the log does not have yet, as far as is known. */
  get buffered(): number {
    return this.#waiting.length + this.#underWay;
  }

  /** Whether the log is in reach, as far as publishing has shown. */
  get isReachable(): boolean {
    return this.#isReachable;
  }

  /** Rejects when the log refuses this publisher altogether (`ConfigError`). Never resolves. */
  get failed(): Promise<never> {
    return this.#failed.promise;
  }

  /** Says one thing. Before the first snapshot nothing needs to be said, as that will say it all. */
  say({ body, cause, observedAtMs }: Saying): void {
    if (this.#sequence === 0 || this.#hasOverflowed) return;
    if (this.#waiting.length >= this.#options.bufferEvents) this.#overflow();
    else this.#waiting.push(this.#number(body, cause, observedAtMs));
    this.#pump();
  }

  /** Says all. While the log is out of reach it is left out, as one follows every outage. */
  snapshot(reason: SnapshotReason): void {
    if (this.#hasOverflowed || !this.#isReachable) return;
    this.#waiting.push(this.#takeSnapshot(reason));
    this.#pump();
  }

  /** Resolves when the log has everything, is out of reach, or `deadlineMs` have passed; then nothing is sent any more. */
  async drain(deadlineMs: number): Promise<void> {
    this.#isDraining = true;
    this.#noteChange();
    const deadline = new AbortController();
    await Promise.race([this.#drained.promise, this.#options.clock.sleep(deadlineMs, deadline.signal)]);
    deadline.abort();
    this.#stopped.abort();
  }

  #pump(): void {
    while (this.#isReachable && this.#underWay < MAX_UNDER_WAY && !this.#stopped.signal.aborted) {
      const publication = this.#next();
      if (!publication) break;
      this.#send(publication).catch((error: unknown) => this.#failed.reject(error));
    }
    this.#noteChange();
  }

  #next(): Publication | undefined {
    if (!this.#hasOverflowed) return this.#waiting.shift();
    this.#hasOverflowed = false;
    return this.#takeSnapshot('overflow');
  }

  async #send(publication: Publication): Promise<void> {
    if (await this.#attempt(publication)) return this.#pump();
    this.#putBack(publication);
    if (this.#isReachable) await this.#recover();
  }

  /** Tries one publication at a time until one gets through, then lets all go on. */
  async #recover(): Promise<void> {
    this.#isReachable = false;
    const { clock, logger } = this.#options;
    for (;;) {
      this.#noteChange();
      await clock.sleep(this.#backoff.nextMs(), this.#stopped.signal);
      if (this.#stopped.signal.aborted) return;
      const publication = this.#next();
      if (!publication || (await this.#attempt(publication))) break;
      this.#putBack(publication);
    }
    this.#backoff.reset();
    this.#isReachable = true;
    logger.info({ waiting: this.#waiting.length }, 'the log is in reach again');
    this.snapshot('log');
  }

  /** True when it is settled: the log has it, or will never take it. False when it has to be tried again. */
  async #attempt(publication: Publication): Promise<boolean> {
    const { log, node, logger, observer } = this.#options;
    const { type, id, data } = publication;
    this.#underWay += 1;
    try {
      await log.publish({ node, type, id, data });
      observer.published(type);
      return true;
    } catch (error) {
      if (error instanceof UnavailableError) {
        observer.failed('unavailable');
        if (this.#isReachable) logger.warn({ error: error.message }, 'the log is out of reach; events wait');
        return false;
      }
      observer.failed('refused');
      logger.error({ err: error, id, type, bytes: data.length }, `the log refuses this ${type} event`);
      if (!(error instanceof InvalidInputError)) this.#failed.reject(error);
      return true;
    } finally {
      this.#underWay -= 1;
    }
  }

  #putBack(publication: Publication): void {
    if (this.#hasOverflowed) return;
    if (this.#waiting.length >= this.#options.bufferEvents) return this.#overflow();
    const place = this.#waiting.findIndex(({ sequence }) => sequence > publication.sequence);
    this.#waiting.splice(place === -1 ? this.#waiting.length : place, 0, publication);
  }

  #overflow(): void {
    const { logger } = this.#options;
    logger.warn(
      { dropped: this.#waiting.length + 1 },
      'too many events wait for the log; a snapshot replaces them',
    );
    this.#waiting = [];
    this.#hasOverflowed = true;
  }

  #takeSnapshot(reason: SnapshotReason): Publication {
    const { compose, clock, observer } = this.#options;
    observer.snapshot(reason);
    return this.#number({ type: 'node.snapshot', data: compose() }, CAUSES[reason], clock.now());
  }

  #number(body: EventBody, cause: string, observedAtMs: number): Publication {
    const { node, epoch } = this.#options;
    this.#sequence += 1;
    const id = { node, epoch, sequence: this.#sequence };
    const data = encodeEvent({ ...body, id, cause, observedAtMs });
    return { sequence: this.#sequence, type: body.type, id: formatEventId(id), data };
  }

  #noteChange(): void {
    this.#options.observer.buffered(this.buffered);
    const isIdle = (this.buffered === 0 && !this.#hasOverflowed) || !this.#isReachable;
    if (this.#isDraining && isIdle) this.#drained.resolve();
  }
}
