/**
 * The log in one SQLite file, for one server: `up` publishes and reads in one process, and other processes may read the
 * same file meanwhile. Made by composition roots only.
 *
 * An event is acknowledged when the disk has it. Events that wait at the same time share one commit, so that a burst
 * costs few of them.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { ConflictError, UnavailableError, type LogEntry } from '@elastic-dns/model';
import { openFile, translateFileError } from './embedded-file.ts';
import { DEFAULT_LIMIT } from './log.ts';
import type { Log, LogInfo, Publication, ReadOptions, Receipt } from './log.ts';
import { checkNode, encodePublication } from './publication.ts';
import { DUPLICATE_WINDOW_MS, resolveRetention, type RetentionOptions } from './retention.ts';

export interface EmbeddedLogOptions extends RetentionOptions {
  /** Folder of the file; made if it is not there. */
  folder: string;
}

/** As large as what NATS takes by default. */
const MAX_EVENT_BYTES = 1024 ** 2;
/** Events per commit: about 5 ms during which the process does nothing else. */
const MAX_COMMIT = 1_000;
/** Events that one commit takes out at most: more than it puts in, so that it keeps up. */
const MAX_TRIM = 2 * MAX_COMMIT;
/** Most bytes of one batch, so that many large events do not come at once (S13). */
const MAX_BATCH_BYTES = 16 * 1024 ** 2;
/** Sequences searched at a time for one node's events. */
const SEARCH = 10_000;
/** How often a reader that waits looks for what another process has written. */
const POLL_MS = 250;

interface Waiting {
  publication: Publication;
  bytes: number;
  resolve: (receipt: Receipt) => void;
  reject: (error: Error) => void;
}

interface LogRow {
  incarnation: string;
  first: number;
  last: number;
  bytes: number;
}

interface EventRow {
  sequence: number;
  node: string;
  at_ms: number;
  data: string;
}

interface SizedRow {
  sequence: number;
  at_ms: number;
  bytes: number;
}

const BYTES = 'octet_length(data) + octet_length(id) + octet_length(node) + octet_length(type)';

export class EmbeddedLog implements Log {
  readonly #database: DatabaseSync;
  readonly #retention: Required<RetentionOptions>;
  readonly #statements: Record<
    'row' | 'update' | 'insert' | 'find' | 'oldest' | 'blank' | 'forget' | 'all' | 'ofNode' | 'version',
    StatementSync
  >;
  readonly #closed = new AbortController();
  #queue: Waiting[] = [];
  #turn: NodeJS.Immediate | undefined;
  /** Readers that wait for more. */
  readonly #readers = new Set<() => void>();
  #poll: NodeJS.Timeout | undefined;
  #version: unknown;

  /** `ConfigError` when the folder, the file in it or the options cannot be used. */
  constructor(options: EmbeddedLogOptions) {
    this.#retention = resolveRetention(options);
    const database = openFile(options.folder);
    this.#database = database;
    const select = `SELECT sequence, node, at_ms, data FROM log CROSS JOIN events
      WHERE sequence >= max(?, first) AND sequence <= ?`;
    this.#statements = {
      row: database.prepare('SELECT * FROM log'),
      update: database.prepare('UPDATE log SET first = ?, last = ?, bytes = ?'),
      insert: database.prepare('INSERT INTO events VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING'),
      find: database.prepare('SELECT sequence FROM events WHERE id = ?'),
      oldest: database.prepare(
        `SELECT sequence, at_ms, ${BYTES} AS bytes FROM events WHERE sequence >= ? ORDER BY sequence LIMIT ${MAX_TRIM}`,
      ),
      blank: database.prepare(`UPDATE events SET data = '' WHERE sequence >= ? AND sequence < ?`),
      // One bound, so that it looks at nothing but what it deletes.
      forget: database.prepare(
        `DELETE FROM events WHERE sequence <
          min(?1, ifnull((SELECT sequence FROM events WHERE at_ms >= ?2 ORDER BY sequence LIMIT 1), ?1))`,
      ),
      all: database.prepare(`${select} ORDER BY sequence LIMIT ?`),
      ofNode: database.prepare(`${select} AND node = ? ORDER BY sequence LIMIT ?`),
      version: database.prepare('PRAGMA data_version'),
    };
  }

  async publish(publication: Publication): Promise<Receipt> {
    this.#checkOpen();
    const bytes = encodePublication(publication, MAX_EVENT_BYTES).length;
    return new Promise((resolve, reject) => {
      this.#queue.push({ publication, bytes, resolve, reject });
      this.#schedule();
    });
  }

  async *read(options: ReadOptions): AsyncGenerator<LogEntry[], void, undefined> {
    const { from, node, limit = DEFAULT_LIMIT, follow = true } = options;
    if (node !== undefined) checkNode(node);
    const ended = AbortSignal.any([this.#closed.signal, ...(options.signal ? [options.signal] : [])]);
    this.#checkOpen();
    const { incarnation, last } = this.#row();
    if (options.incarnation !== undefined) {
      if (incarnation !== options.incarnation) {
        throw new ConflictError(`the log is ${incarnation}, not ${options.incarnation}`);
      }
      if (last < from - 1) {
        throw new ConflictError(`the log ends at ${last}, but ${from - 1} was read of it: it went back`);
      }
    }
    let next = Math.max(from, 1);
    const end = follow ? Infinity : last;
    while (!ended.aborted && next <= end) {
      const until = Math.min(this.#row().last, end);
      const searched = node === undefined ? until : Math.min(until, next + SEARCH - 1);
      const batch = this.#select(incarnation, next, searched, node, limit);
      const newest = batch.at(-1);
      if (newest) {
        next = newest.sequence + 1;
        yield batch;
      } else if (searched < until) {
        next = searched + 1;
        await nextTurn();
      } else {
        next = Math.max(next, searched + 1);
        if (follow) await this.#grown(ended);
      }
    }
  }

  async info(): Promise<LogInfo> {
    this.#checkOpen();
    const { incarnation, first, last } = this.#row();
    return { incarnation, first, last, maxBytes: MAX_EVENT_BYTES };
  }

  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return;
    while (this.#queue.length > 0) this.#commit();
    clearImmediate(this.#turn);
    this.#closed.abort();
    this.#database.close();
  }

  #checkOpen(): void {
    if (this.#closed.signal.aborted) throw new UnavailableError('the log is closed');
  }

  #row(): LogRow {
    try {
      return this.#statements.row.get() as unknown as LogRow;
    } catch (error) {
      throw translateFileError(error, 'read the log');
    }
  }

  #select(
    incarnation: string,
    from: number,
    until: number,
    node: string | undefined,
    limit: number,
  ): LogEntry[] {
    const { all, ofNode } = this.#statements;
    const batch: LogEntry[] = [];
    let bytes = 0;
    try {
      const rows =
        node === undefined ? all.iterate(from, until, limit) : ofNode.iterate(from, until, node, limit);
      for (const row of rows) {
        const { sequence, node: publisher, at_ms: atMs, data } = row as unknown as EventRow;
        batch.push({ sequence, incarnation, node: publisher, data, atMs });
        bytes += data.length;
        if (bytes >= MAX_BATCH_BYTES) break;
      }
    } catch (error) {
      throw translateFileError(error, 'read the log');
    }
    return batch;
  }

  /** Resolves when there may be more, or at the end. */
  #grown(ended: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        ended.removeEventListener('abort', wake);
        this.#readers.delete(wake);
        if (this.#readers.size === 0) {
          clearInterval(this.#poll);
          this.#poll = undefined;
        }
        resolve();
      };
      ended.addEventListener('abort', wake);
      this.#readers.add(wake);
      this.#poll ??= setInterval(() => this.#lookForOthers(), POLL_MS);
    });
  }

  #lookForOthers(): void {
    const version = this.#statements.version.get()?.['data_version'];
    if (version === this.#version) return;
    this.#version = version;
    this.#wakeReaders();
  }

  #wakeReaders(): void {
    for (const wake of this.#readers) wake();
  }

  #schedule(): void {
    this.#turn ??= setImmediate(() => {
      this.#turn = undefined;
      this.#commit();
    });
  }

  /** Everything that waits by now, up to a bound, in one transaction: all of it or nothing. */
  #commit(): void {
    const batch = this.#queue.splice(0, MAX_COMMIT);
    if (this.#queue.length > 0) this.#schedule();
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      const row = this.#row();
      const receipts = batch.map(({ publication, bytes }) => this.#append(row, publication, bytes));
      this.#trim(row);
      this.#statements.update.run(row.first, row.last, row.bytes);
      this.#database.exec('COMMIT');
      for (const [index, { resolve }] of batch.entries()) resolve(receipts[index] as Receipt);
      this.#wakeReaders();
    } catch (cause) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      const error = translateFileError(cause, 'write to the log');
      for (const { reject } of batch) reject(error);
    }
  }

  #append(row: LogRow, { node, type, id, data }: Publication, dataBytes: number): Receipt {
    const { insert, find } = this.#statements;
    const sequence = row.last + 1;
    if (insert.run(sequence, id, node, type, Date.now(), data).changes === 0) {
      return { sequence: Number(find.get(id)?.['sequence']), duplicate: true };
    }
    row.last = sequence;
    row.bytes += dataBytes + id.length + node.length + type.length;
    return { sequence, duplicate: false };
  }

  /** Takes out what is too old or too much; the ids stay for as long as they have to be remembered. */
  #trim(row: LogRow): void {
    const { oldest, blank, forget } = this.#statements;
    const nowMs = Date.now();
    const { first } = row;
    for (const event of oldest.iterate(first)) {
      const { sequence, at_ms: atMs, bytes } = event as unknown as SizedRow;
      if (atMs >= nowMs - this.#retention.maxAgeMs && row.bytes <= this.#retention.maxBytes) break;
      row.bytes -= bytes;
      row.first = sequence + 1;
    }
    if (row.first > first) blank.run(first, row.first);
    if (row.first > 1) forget.run(row.first, nowMs - DUPLICATE_WINDOW_MS);
  }
}
