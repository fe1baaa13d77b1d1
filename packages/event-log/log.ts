/**
 * The log port: where agents publish events and the registrar reads them. Two adapters keep it,
 * `nats.ts` (a fleet) and `embedded.ts` (one server); `contract.ts` is the suite that both pass.
 *
 * Glossary. Sequence: an event's place in the log, from 1, growing, possibly with gaps. Incarnation: the
 * identity of the log itself; a log that was deleted and made again has another one, so that a sequence
 * of the old one is never mistaken for one of the new (S6).
 */
import type { LogEntry } from '@elastic-dns/model';

/** What goes into the log. */
export interface Publication {
  /** The publisher's identity: the third token of the subject, held by the broker's permissions (S11). */
  node: string;
  /** Event type such as `instance.started`; ends the subject. */
  type: string;
  /** `<node>/<epoch>/<sequence>`: of several with the same id from the same client, the log keeps only the first. */
  id: string;
  /** The envelope as JSON text. */
  data: string;
}

/** Where the log put a publication; `duplicate`: it was there already, with that sequence. */
export interface Receipt {
  sequence: number;
  duplicate: boolean;
}

export interface LogInfo {
  incarnation: string;
  /** First sequence still kept; `last + 1` when the log is empty. */
  first: number;
  /** Last sequence given out; 0 when nothing was ever published. */
  last: number;
  /** Most bytes of `data` that the log takes in one publication. */
  maxBytes: number;
}

export interface ReadOptions {
  /** First sequence wanted. When it is no longer kept, reading starts at the first that is. */
  from: number;
  /**
   * The incarnation that `from` belongs to; the log's being another one is a `ConflictError`. So is a `from` beyond
   * `last + 1`: what was read before it is no longer there (an older backup, a lost tail).
   */
  incarnation?: string;
  /** Only events of this publisher. Default: all. */
  node?: string;
  /** Most entries in one batch. Default 1000. */
  limit?: number;
  /** False: end after the last entry that is there at the start. Default true: wait for more. */
  follow?: boolean;
  /** Ends the iteration quietly. */
  signal?: AbortSignal;
}

export interface Log {
  /**
   * Appends one event; resolves when the log has it, with its sequence. Publishing the same id again, through this
   * same object and within the log's memory (two minutes at least), appends nothing and answers `duplicate: true`.
   * Never retries: after `UnavailableError` the outcome is unknown and the same id may be published again.
   * `InvalidInputError` when the log will never take it (too large, not a subject); `ConfigError` when the broker
   * does not let this client publish as that node. Safe to call many at a time: as long as
   * none fails, the order of the calls is the order in the log.
   */
  publish(publication: Publication): Promise<Receipt>;
  /**
   * Entries in order, in non-empty batches as soon as any is there, never more than one batch ahead of the
   * reader. Bridges a short loss of the connection, losing and repeating nothing. Throws `UnavailableError` when
   * the log stays out of reach (read again from the last sequence + 1), `ConflictError` when the log was replaced by
   * another incarnation or went back behind what was read, also while it is being read, and `ConfigError` when the
   * broker does not let this client read.
   */
  read(options: ReadOptions): AsyncIterable<LogEntry[]>;
  /** `UnavailableError` when out of reach. */
  info(): Promise<LogInfo>;
  /** Ends every iteration quietly and lets go of all resources. Safe to call twice. */
  close(): Promise<void>;
}

/** Entries per batch unless the reader says otherwise: 1000 was as fast as larger ones. */
export const DEFAULT_LIMIT = 1000;
