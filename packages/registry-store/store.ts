/**
 * The store port: a revisioned map from key to text with fenced commits, a watch and a leader's lease.
 * Two adapters keep it, `etcd.ts` (a fleet) and `embedded.ts` (one server); `contract.ts` is the suite that
 * both pass. `mirror.ts` is how everything that reads the registry reads it.
 *
 * Glossary. Revision: the store's version, one step per commit, a bigint. Fencing token: the revision at which
 * the leader's key was created; compared inside every commit (S3).
 */

/** A half-open range of keys: `from` <= key < `to`. */
export interface KeyRange {
  from: string;
  to: string;
}

export interface KeyValue {
  key: string;
  value: string;
  /** Revision of the key's last write. */
  revision: bigint;
}

/** One page of a read; all pages of a read are of the same revision. */
export interface Page {
  revision: bigint;
  entries: KeyValue[];
}

/** All changes of one or more whole commits; a commit is never split over two batches. */
export interface WatchBatch {
  /** The store's revision after this batch; a batch without changes only brings the revision forward. */
  revision: bigint;
  changes: { key: string; value: string | null; revision: bigint }[];
}

/** A key that must be as it was read: its last write's revision, or 0n for "does not exist". */
export interface Expectation {
  key: string;
  revision: bigint;
}

export interface Commit {
  /** The leadership under which this is written; without it the write is not fenced (operators' tools in tests only). */
  leadership?: Leadership;
  expect?: Expectation;
  /** At most one mention of a key in puts and deletes together. */
  puts: { key: string; value: string }[];
  deletes: string[];
}

/** What a won campaign gives. */
export interface Leadership {
  /** The leader key and its create revision: the fencing token. */
  key: string;
  token: bigint;
  /**
   * Aborts, with a `LeaseLostError` as its reason, when the lease can no longer be trusted (by our own clock), and
   * when it was resigned.
   */
  lost: AbortSignal;
  /** Gives the leadership up at once, so that a spare takes over without waiting. Never throws. */
  resign(): Promise<void>;
}

export interface CampaignOptions {
  /** Key to hold; its value is `candidate`. */
  key: string;
  candidate: string;
  /** How long a silent leader keeps others waiting. */
  ttlMs: number;
  signal: AbortSignal;
}

/** Any method may also end with `ConfigError`: the store refuses our credentials, or what they may touch. */
export interface Store {
  /** Most puts and deletes together that one commit takes. */
  readonly maxOperations: number;
  /** Largest commit in bytes (keys and values together). */
  readonly maxBytes: number;
  /**
   * All keys of the range in key order at one revision, in pages of up to 10,000; an empty range gives one empty
   * page. `UnavailableError`; `CompactedError` when the revision went away between two pages (read again).
   */
  read(range: KeyRange): AsyncIterable<Page>;
  /**
   * Every change of the range after revision `after`, in order, none lost and none twice, until `signal` ends it
   * quietly. Also brings the revision forward from time to time when nothing of the range changes.
   * `CompactedError` when `after` is no longer kept, or is ahead of the store (it was put back to an older state);
   * `UnavailableError` when the store is out of reach for longer than the adapter's own reconnects bridge (watch
   * again from the last batch's revision).
   */
  watch(range: KeyRange, after: bigint, signal: AbortSignal): AsyncIterable<WatchBatch>;
  /**
   * All or nothing, in one transaction: holds only if the leadership's key is still the one that was won
   * (else `FencedError`) and the expected key is as expected (else `ConflictError`). Resolves to the new revision,
   * or to the present one when it changes nothing (only deletes of absent keys).
   * `UnavailableError`: the outcome is unknown; read the expected key before trying again. Never retries.
   * `InvalidInputError` when it is over the limits or mentions a key twice: it can never be taken.
   */
  commit(commit: Commit): Promise<bigint>;
  /** Waits, campaigning, until this candidate leads. Rejects with the signal's reason when it aborts; retries on its own while out of reach. */
  campaign(options: CampaignOptions): Promise<Leadership>;
  /** One key, read at the store's newest state (linearizable); null when absent. `UnavailableError`. */
  get(key: string): Promise<KeyValue | null>;
  /**
   * Lets go of all resources: watches end quietly, everything else under way or begun later ends with
   * `UnavailableError`, leaderships still held are resigned. Safe to call twice.
   */
  close(): Promise<void>;
}
