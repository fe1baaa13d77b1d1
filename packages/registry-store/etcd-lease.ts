/**
 * A lease of etcd, kept alive and watched by our own monotonic clock. Called by `etcd.ts` for a leader's key.
 *
 * The lease counts from when the last renewal that was answered was *sent*, so it is over here no later than on the
 * server, whatever the network does and however the wall clock jumps (S3 holds even if it is not: commits are fenced).
 */
import { LeaseLostError } from '@elastic-dns/model';
import { systemClock } from '@elastic-dns/runtime';
import type { EtcdConnection } from './etcd-connection.ts';

/** Between a failed renewal and the next try. */
const RETRY_MS = 200;
/** A renewal that is not answered by then is tried again on another connection. */
const MAX_RENEWAL_MS = 2_000;

export class EtcdLease {
  readonly id: string;
  readonly #connection: EtcdConnection;
  readonly #ttlMs: number;
  readonly #lost = new AbortController();
  #expiry: NodeJS.Timeout;

  private constructor(connection: EtcdConnection, id: string, ttlMs: number, sentAtMs: number) {
    this.#connection = connection;
    this.id = id;
    this.#ttlMs = ttlMs;
    this.#expiry = this.#expireAfter(sentAtMs);
    void this.#keepAlive();
  }

  /** `UnavailableError` when no lease was given. */
  static async grant(connection: EtcdConnection, ttlMs: number): Promise<EtcdLease> {
    const sentAtMs = performance.now();
    const { ID } = await connection.call((client) =>
      client.leaseClient.leaseGrant({ TTL: Math.ceil(ttlMs / 1000) }),
    );
    return new EtcdLease(connection, ID, ttlMs, sentAtMs);
  }

  /** Aborts with a `LeaseLostError` when the lease has run out, or was given up. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Gives the lease up and, if the server can be reached, what hangs on it with it. Never throws. */
  async release(): Promise<void> {
    this.#end('the lease was given up');
    try {
      await this.#connection.call((client) => client.leaseClient.leaseRevoke({ ID: this.id }));
    } catch {
      // Out of reach, or gone already: the server ends it by itself.
    }
  }

  async #keepAlive(): Promise<void> {
    const intervalMs = this.#ttlMs / 3;
    let waitMs = intervalMs;
    for (;;) {
      await systemClock.sleep(waitMs, this.lost);
      if (this.lost.aborted) return;
      const sentAtMs = performance.now();
      try {
        const left = await this.#connection.keepAlive(this.id, Math.min(intervalMs, MAX_RENEWAL_MS));
        if (left <= 0) return this.#end('the store let the lease run out');
        if (this.lost.aborted) return;
        clearTimeout(this.#expiry);
        this.#expiry = this.#expireAfter(sentAtMs);
        waitMs = intervalMs;
      } catch {
        waitMs = Math.min(RETRY_MS, intervalMs);
      }
    }
  }

  #expireAfter(sentAtMs: number): NodeJS.Timeout {
    const leftMs = sentAtMs + this.#ttlMs - performance.now();
    return setTimeout(() => this.#end(`no renewal was answered for ${this.#ttlMs} ms`), leftMs);
  }

  #end(reason: string): void {
    clearTimeout(this.#expiry);
    if (!this.lost.aborted) this.#lost.abort(new LeaseLostError(reason));
  }
}
