/**
 * The store on etcd (3.4 or newer), for a fleet. Made by composition roots only.
 *
 * Keeps S3: a commit compares the leader's key in the same transaction that writes. A watch loses and repeats
 * nothing, whatever happens to its connection: it resumes from what was handed over, never from what the server
 * says it has sent.
 */
import { CompactedError, ConflictError, FencedError, UnavailableError } from '@elastic-dns/model';
import { Backoff, systemClock } from '@elastic-dns/runtime';
import { checkCommit } from './commit.ts';
import { EtcdConnection, type EtcdOptions, type ICompare, type IKeyValue } from './etcd-connection.ts';
import { EtcdLease } from './etcd-lease.ts';
import {
  errorOfCancel,
  isCreatedAt,
  isWrittenAt,
  toBatch,
  toDelete,
  toKeyValue,
  toPut,
  toRange,
} from './etcd-messages.ts';
import type {
  CampaignOptions,
  Commit,
  KeyRange,
  KeyValue,
  Leadership,
  Page,
  Store,
  WatchBatch,
} from './store.ts';

export type { EtcdOptions } from './etcd-connection.ts';

/** Pages of 1,000 take four times as long to read 100,000 keys. */
const PAGE_KEYS = 10_000;
/** etcd's --max-txn-ops. */
const MAX_OPERATIONS = 128;
/** Below etcd's --max-request-bytes (1.5 MiB), with room for what a request says around keys and values. */
const MAX_BYTES = 1_500_000;
/** How long a watch tries to connect again on its own: a restart of etcd, not an outage that readers should hear of. */
const BRIDGE_MS = 3_000;
const RETRY = { minMs: 100, maxMs: 1_000 };

export class EtcdStore implements Store {
  readonly maxOperations = MAX_OPERATIONS;
  readonly maxBytes = MAX_BYTES;
  readonly #connection: EtcdConnection;
  readonly #closed = new AbortController();
  readonly #leases = new Set<EtcdLease>();

  /** `ConfigError` when the options cannot work; nothing is connected yet. */
  constructor(options: EtcdOptions) {
    this.#connection = new EtcdConnection(options);
  }

  async *read(range: KeyRange): AsyncGenerator<Page, void, undefined> {
    const to = Buffer.from(range.to);
    let following = this.#readPage(Buffer.from(range.from), to);
    for (;;) {
      const page = await following;
      const entries = page.kvs.map(toKeyValue);
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) return yield { revision: page.revision, entries };
      // The key as bytes: one that is not UTF-8 has no faithful text. The next page is on its way while this one is used.
      following = this.#readPage(Buffer.concat([last.key, Buffer.of(0)]), to, page.revision);
      following.catch(() => {});
      yield { revision: page.revision, entries };
    }
  }

  async get(key: string): Promise<KeyValue | null> {
    const { kv } = await this.#readKey(key);
    return kv === undefined ? null : toKeyValue(kv);
  }

  async *watch(
    range: KeyRange,
    after: bigint,
    signal: AbortSignal,
  ): AsyncGenerator<WatchBatch, void, undefined> {
    const ended = AbortSignal.any([signal, this.#closed.signal]);
    const backoff = new Backoff(RETRY);
    let handedOver = after;
    let brokenAtMs: number | undefined;
    while (!ended.aborted) {
      try {
        for await (const batch of this.#watchOnce(range, handedOver, ended)) {
          brokenAtMs = undefined;
          backoff.reset();
          if (batch === 'connected' || batch.revision <= handedOver) continue;
          handedOver = batch.revision;
          yield batch;
        }
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        brokenAtMs ??= performance.now();
        if (performance.now() - brokenAtMs > BRIDGE_MS) throw error;
        await systemClock.sleep(backoff.nextMs(), ended);
      }
    }
  }

  async commit(commit: Commit): Promise<bigint> {
    checkCommit(commit, this);
    this.#checkOpen();
    const { leadership, expect } = commit;
    const compare: ICompare[] = [];
    if (leadership) compare.push(isCreatedAt(leadership.key, leadership.token));
    if (expect) compare.push(isWrittenAt(expect.key, expect.revision));
    const { succeeded, header, responses } = await this.#connection.call((client) =>
      client.kv.txn({
        compare,
        success: [...commit.puts.map((put) => toPut(put)), ...commit.deletes.map(toDelete)],
        // Read in the same transaction, so that the answer tells which of the two compares failed.
        failure: leadership ? [toRange(leadership.key)] : [],
      }),
    );
    if (succeeded) return BigInt(header.revision);
    if (leadership) {
      const holder = responses[0]?.response_range.kvs[0];
      if (BigInt(holder?.create_revision ?? 0) !== leadership.token) {
        throw new FencedError(`the leadership of revision ${leadership.token} is over`);
      }
    }
    throw new ConflictError(`${expect?.key} is not as of revision ${expect?.revision}`);
  }

  async campaign(options: CampaignOptions): Promise<Leadership> {
    const ended = AbortSignal.any([options.signal, this.#closed.signal]);
    const backoff = new Backoff(RETRY);
    while (!ended.aborted) {
      try {
        await this.#waitForVacancy(options.key, ended);
        const leadership = ended.aborted ? null : await this.#tryToLead(options, ended);
        if (leadership && !ended.aborted) return leadership;
        await leadership?.resign();
      } catch (error) {
        if (!(error instanceof UnavailableError || error instanceof CompactedError)) throw error;
        await systemClock.sleep(backoff.nextMs(), ended);
      }
    }
    options.signal.throwIfAborted();
    throw closedError();
  }

  /** Leaderships that are still held are given up first, so that a spare need not wait. */
  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    await Promise.all([...this.#leases].map((lease) => lease.release()));
    this.#connection.close();
  }

  #checkOpen(): void {
    if (this.#closed.signal.aborted) throw closedError();
  }

  async #readPage(
    from: Buffer,
    to: Buffer,
    revision?: bigint,
  ): Promise<{ revision: bigint; kvs: IKeyValue[]; more: boolean }> {
    this.#checkOpen();
    const { header, kvs, more } = await this.#connection.call((client) =>
      client.kv.range({
        key: from,
        range_end: to,
        limit: PAGE_KEYS,
        ...(revision === undefined ? {} : { revision: revision.toString() }),
      }),
    );
    return { revision: revision ?? BigInt(header.revision), kvs, more };
  }

  async #readKey(key: string): Promise<{ kv: IKeyValue | undefined; revision: bigint }> {
    this.#checkOpen();
    const { kvs, header } = await this.#connection.call((client) =>
      client.kv.range({ key: Buffer.from(key) }),
    );
    return { kv: kvs[0], revision: BigInt(header.revision) };
  }

  /** Everything after a revision over one connection, until that breaks. */
  async *#watchOnce(
    range: KeyRange,
    after: bigint,
    ended: AbortSignal,
  ): AsyncGenerator<WatchBatch | 'connected', void, undefined> {
    const responses = this.#connection.watch(
      {
        key: Buffer.from(range.from),
        range_end: Buffer.from(range.to),
        start_revision: (after + 1n).toString(),
        // Told in order with the events; an answer to a progress *request* may overtake them (before 3.4.25 and 3.5.8).
        progress_notify: true,
      },
      ended,
    );
    for await (const response of responses) {
      if (response.canceled) throw errorOfCancel(response, after);
      if (response.created) {
        await this.#checkNotPutBack(range.from, after, BigInt(response.header.revision));
        yield 'connected';
        continue;
      }
      yield toBatch(response);
    }
  }

  /** A watch from a revision that is still to come would be silent until then: the store was put back (S6). */
  async #checkNotPutBack(key: string, after: bigint, told: bigint): Promise<void> {
    if (told >= after) return;
    // A member that lags behind says the same; a read through the leader does not.
    const { revision } = await this.#readKey(key);
    if (revision < after) throw new CompactedError(`the store is at revision ${revision}, before ${after}`);
  }

  async #waitForVacancy(key: string, ended: AbortSignal): Promise<void> {
    const { kv, revision } = await this.#readKey(key);
    if (kv === undefined) return;
    for await (const { changes } of this.watch({ from: key, to: `${key}\0` }, revision, ended)) {
      if (changes.at(-1)?.value === null) return;
    }
  }

  async #tryToLead(
    { key, candidate, ttlMs }: CampaignOptions,
    ended: AbortSignal,
  ): Promise<Leadership | null> {
    const lease = await EtcdLease.grant(this.#connection, ttlMs);
    this.#leases.add(lease);
    lease.lost.addEventListener('abort', () => this.#leases.delete(lease));
    let token: bigint | null = null;
    try {
      token = await this.#takeKey(key, candidate, lease, ended);
    } finally {
      if (token === null) await lease.release();
    }
    return token === null ? null : { key, token, lost: lease.lost, resign: () => lease.release() };
  }

  /** Creates the key on the lease; resolves to its create revision, null when somebody else was faster. */
  async #takeKey(key: string, value: string, lease: EtcdLease, ended: AbortSignal): Promise<bigint | null> {
    const backoff = new Backoff(RETRY);
    while (!ended.aborted && !lease.lost.aborted) {
      try {
        const { succeeded, header, responses } = await this.#connection.call((client) =>
          client.kv.txn({
            compare: [isCreatedAt(key, 0n)],
            success: [toPut({ key, value }, lease.id)],
            failure: [toRange(key)],
          }),
        );
        if (succeeded) return BigInt(header.revision);
        const holder = responses[0]?.response_range.kvs[0];
        // Ours after all: the first try went in, its reply was lost.
        return holder?.lease === lease.id ? BigInt(holder.create_revision) : null;
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        await systemClock.sleep(backoff.nextMs(), ended);
      }
    }
    return null;
  }
}

function closedError(): UnavailableError {
  return new UnavailableError('the store is closed');
}
