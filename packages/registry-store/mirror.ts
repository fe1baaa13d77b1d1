/**
 * The mirror: a live copy of the registry that follows the store. The one way in which watcher, resolver, console and
 * cli read it.
 *
 * Reads everything at one revision, watches from the next, and reads again when that is compacted, taking over only
 * the difference. S6: what was applied never goes back; a store that was put back to an older state or emptied is not
 * followed (`frozen`). S7: what is there stays while the store is out of reach (`stale`). S12: a value that cannot be
 * decoded leaves the last good record of its key in place. Costs follow what changes, except for whole reads.
 */
import {
  CompactedError,
  CURSOR_KEY,
  ElasticDnsError,
  emptyChange,
  isRegistryKey,
  Registry,
  REGISTRY_RANGE,
  touchedServices,
  UnavailableError,
  type Change,
} from '@elastic-dns/model';
import { Backoff, systemClock, type Clock, type Logger } from '@elastic-dns/runtime';
import { decodeCursor, isCursor, whyBehind } from './cursor.ts';
import { RecordReader } from './record-reader.ts';
import type { Store, WatchBatch } from './store.ts';

/**
 * `empty`: has nothing yet. `live`: follows the store. `stale`: the store is out of reach, or this is the last good state
 * from disk. `frozen`: the store is behind what was applied already.
 */
export type MirrorState = 'empty' | 'live' | 'stale' | 'frozen';

/** Why following ended. `failed`: with an error that trying again does not mend. */
export type MirrorEnd = { kind: 'aborted' } | { kind: 'failed'; error: ElasticDnsError };

/** Called after a change was applied, with the services whose instances it touches. */
export type MirrorListener = (
  change: Change,
  revision: bigint,
  touched: { namespace: string; service: string }[],
) => void;

export interface MirrorOptions {
  store: Pick<Store, 'read' | 'watch' | 'get'>;
  logger?: Logger;
  clock?: Clock;
}

/** A registry as it was kept on disk. */
export interface LastGoodState {
  revision: bigint;
  /** When it was the store's, in milliseconds since 1970. */
  atMs: number;
  /** As `encodeRecord` gives them. */
  entries: Iterable<{ key: string; value: string }>;
}

type Cursor = { value: string; revision: bigint } | null;

/** Where a watch goes on. */
interface Start {
  /** Revision of our cursor, to be seen again; null after a whole read, or when there is no cursor yet. */
  resumesAt: bigint | null;
  /** From this revision on the registry is the store's. */
  liveFrom: bigint;
}

const RETRY = { minMs: 100, maxMs: 5_000 };

export class Mirror {
  readonly registry = new Registry();
  readonly #store: MirrorOptions['store'];
  readonly #logger: Logger | undefined;
  readonly #clock: Clock;
  readonly #listeners = new Set<MirrorListener>();
  readonly #reader: RecordReader;
  #revision = 0n;
  /** Revision at which the store's cursor was written as it is in the registry; null until that was read. */
  #cursorRevision: bigint | null = null;
  /** Whether `revision` is one of the store's that a watch may go on from; false: everything has to be read. */
  #isRead = false;
  #accepted = false;
  #state: MirrorState = 'empty';
  #sinceMs: number;

  constructor({ store, logger, clock = systemClock }: MirrorOptions) {
    this.#store = store;
    this.#logger = logger;
    this.#clock = clock;
    this.#sinceMs = clock.now();
    this.#reader = new RecordReader((key, reason) => {
      logger?.warn({ key, reason }, 'mirror: a value that cannot be decoded; the last good one stays');
    });
  }

  /** The store's revision that the registry is of; 0n while there is none. */
  get revision(): bigint {
    return this.#revision;
  }

  get state(): MirrorState {
    return this.#state;
  }

  /** When `state` began, in milliseconds since 1970; of a state from disk: when it was the store's. */
  get sinceMs(): number {
    return this.#sinceMs;
  }

  /** Keys whose present value in the store cannot be decoded, with the reason; at most 1,000. */
  get rejected(): ReadonlyMap<string, string> {
    return this.#reader.rejected;
  }

  /** How many values could not be decoded so far. */
  get rejections(): number {
    return this.#reader.rejections;
  }

  /** Registers a listener; returns how to remove it. */
  onChange(listener: MirrorListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Starts from a state of disk, before `start`; the store's is then taken over as a difference. */
  seed({ revision, atMs, entries }: LastGoodState): void {
    const change = emptyChange();
    for (const { key, value } of entries) {
      const record = this.#reader.decode(key, value);
      if (record) change.puts.set(key, record);
    }
    this.#apply(change, revision);
    this.#enter('stale', 'started from the last good state', atMs);
  }

  /** Leaves `frozen`: the store's present state is taken over, whatever it removes. For operators. */
  accept(): void {
    this.#accepted = this.#state === 'frozen';
  }

  /** Follows the store until the signal aborts; retries on its own. Call once. */
  async start(signal: AbortSignal): Promise<MirrorEnd> {
    const backoff = new Backoff(RETRY);
    while (!signal.aborted) {
      try {
        const start = await this.#catchUp();
        if (start !== null) await this.#follow(start, signal, () => backoff.reset());
      } catch (error) {
        if (signal.aborted) break;
        if (error instanceof CompactedError) {
          this.#isRead = false;
        } else if (error instanceof UnavailableError) {
          if (this.#state === 'live') this.#enter('stale', error.message);
        } else if (error instanceof ElasticDnsError) {
          return { kind: 'failed', error };
        } else {
          throw error;
        }
      }
      await this.#clock.sleep(backoff.nextMs(), signal);
    }
    return { kind: 'aborted' };
  }

  /** Gets to where a watch can go on from; null while the store is behind. */
  async #catchUp(): Promise<Start | null> {
    const cursor = await this.#store.get(CURSOR_KEY);
    const behind = this.#behind(cursor);
    if (behind !== null) return this.#freeze(behind);
    const resumesAt = this.#cursorRevision;
    // An older cursor than ours is of another history, whatever it says.
    if (this.#isRead && (cursor?.revision ?? 0n) >= (resumesAt ?? 0n)) {
      return { resumesAt, liveFrom: cursor?.revision ?? 0n };
    }
    return (await this.#readAll(cursor)) ? { resumesAt: null, liveFrom: this.#revision } : null;
  }

  /** Takes everything over as one change. `before` is the store's cursor as it was just before. */
  async #readAll(before: Cursor): Promise<boolean> {
    const change = emptyChange();
    const seen = new Set<string>();
    let revision = 0n;
    let cursor: Cursor = null;
    for await (const page of this.#store.read(REGISTRY_RANGE)) {
      revision = page.revision;
      // Not after the whole read: a frozen mirror comes here again and again.
      if (this.#behind(before, revision) !== null) break;
      for (const entry of page.entries) {
        const { key, value } = entry;
        if (!isRegistryKey(key)) continue;
        seen.add(key);
        if (key === CURSOR_KEY) cursor = entry;
        const record = this.#reader.decodeDiffering(key, value, this.registry.records.get(key));
        if (record) change.puts.set(key, record);
      }
    }
    const behind = this.#behind(before, revision) ?? this.#behind(cursor, revision);
    if (behind !== null) {
      this.#freeze(behind);
      return false;
    }
    for (const key of this.registry.records.keys()) if (!seen.has(key)) change.deletes.add(key);
    for (const key of this.rejected.keys()) if (!seen.has(key)) this.#reader.forget(key);
    this.#apply(change, revision);
    this.#cursorRevision = cursor && decodeCursor(cursor.value) ? cursor.revision : null;
    this.#isRead = true;
    this.#accepted = false;
    return true;
  }

  /**
   * Watches from where the registry is. After an outage that is from the commit of our cursor on, which the store has
   * to give once more: if it does not, it was put back and has grown again since (S6).
   */
  async #follow({ resumesAt, liveFrom }: Start, signal: AbortSignal, settled: () => void): Promise<void> {
    const after = resumesAt === null ? this.#revision : resumesAt - 1n;
    let isContinuous = resumesAt === null;
    const enterLive = (): void => {
      if (isContinuous && this.#revision >= liveFrom) this.#enter('live', 'follows the store');
    };
    enterLive();
    for await (const batch of this.#store.watch(REGISTRY_RANGE, after, signal)) {
      settled();
      isContinuous ||= batch.changes.some(
        (change) => change.revision === resumesAt && isCursor(this.registry.cursor, change),
      );
      if (!isContinuous) throw new CompactedError('the history of the store is not the one that was read');
      const behind = this.#takeOver(batch);
      if (behind !== null) {
        this.#freeze(behind);
        return;
      }
      enterLive();
    }
  }

  /** Applies what is new in a batch, as one change; returns why not, where the store goes back in it. */
  #takeOver({ changes, revision }: WatchBatch): string | null {
    if (revision <= this.#revision) return null;
    const change = emptyChange();
    let cursorRevision = this.#cursorRevision;
    for (const entry of changes) {
      const { key, value } = entry;
      if (entry.revision <= this.#revision || !isRegistryKey(key)) continue;
      const record = value === null ? null : this.#reader.decode(key, value);
      if (key === CURSOR_KEY) {
        const behind = this.#behind(value === null ? null : { value });
        if (behind !== null) return behind;
        if (record) cursorRevision = entry.revision;
      }
      if (record) {
        change.deletes.delete(key);
        change.puts.set(key, record);
      } else if (value === null) {
        change.puts.delete(key);
        change.deletes.add(key);
        this.#reader.forget(key);
      }
    }
    this.#cursorRevision = cursorRevision;
    this.#apply(change, revision);
    return null;
  }

  #apply(change: Change, revision: bigint): void {
    this.#revision = revision;
    if (change.puts.size + change.deletes.size === 0) return;
    const touched = this.#listeners.size === 0 ? [] : touchedServices(this.registry, change);
    this.registry.apply(change);
    for (const listener of this.#listeners) listener(change, revision, touched);
  }

  #behind(cursor: { value: string } | null, revision?: bigint): string | null {
    if (this.#accepted) return null;
    const applied = { cursor: this.registry.cursor, revision: this.#revision };
    return whyBehind(applied, cursor?.value ?? null, revision);
  }

  #freeze(why: string): null {
    this.#isRead = false;
    this.#enter('frozen', `the store was emptied or put back: ${why}`);
    return null;
  }

  #enter(state: MirrorState, why: string, sinceMs = this.#clock.now()): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#sinceMs = sinceMs;
    const details = { state, revision: this.#revision.toString(), why };
    if (state === 'live') this.#logger?.info(details, 'mirror: live');
    else this.#logger?.warn(details, `mirror: ${state}`);
  }
}
