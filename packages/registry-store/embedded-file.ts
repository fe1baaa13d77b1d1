/**
 * The SQLite file under the embedded store: its schema, its transactions and the notice of each commit. Called by
 * `embedded.ts`; stores of one process that open the same file share one of these, and so see each other's commits.
 *
 * A commit is on the disk when it returns (WAL with synchronous=full).
 */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import {
  CompactedError,
  ConfigError,
  ConflictError,
  FencedError,
  UnavailableError,
} from '@elastic-dns/model';
import type { Commit, KeyRange, KeyValue, Page, WatchBatch } from './store.ts';

/** "EDNS": says whose file this is. */
const APPLICATION_ID = 0x45_44_4e_53;
const SCHEMA_VERSION = 1;
/** Keys are compared by their UTF-8 bytes, as in etcd. */
const SCHEMA = `
  CREATE TABLE keys (
    key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL, created INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE changes (
    revision INTEGER NOT NULL, key TEXT NOT NULL, value TEXT, PRIMARY KEY (revision, key)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE state (revision INTEGER NOT NULL, compacted INTEGER NOT NULL) STRICT;
  INSERT INTO state VALUES (1, 0);
  PRAGMA application_id = ${APPLICATION_ID};
  PRAGMA user_version = ${SCHEMA_VERSION};
`;
/** Another process is reading or writing the file; commits take milliseconds. */
const BUSY_TIMEOUT_MS = 1_000;
const PAGE_KEYS = 10_000;
/** Most commits in one batch of a watch that catches up (S13). */
const BATCH_COMMITS = 1_000n;

const open = new Map<string, EmbeddedFile>();

export class EmbeddedFile {
  readonly #path: string;
  readonly #keptCommits: bigint;
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #waiting = new Set<() => void>();
  /** Tokens of the leaderships that this process holds. */
  readonly #held = new Set<bigint>();
  #users = 1;

  private constructor(file: string, keptCommits: number) {
    this.#path = file;
    this.#keptCommits = BigInt(keptCommits);
    this.#database = openDatabase(file);
  }

  /** The file of this folder, made where it is missing. `ConfigError` when it is not ours, or cannot be used. */
  static open(folder: string, keptCommits: number): EmbeddedFile {
    const file = path.resolve(folder, 'registry.sqlite');
    const shared = open.get(file);
    if (shared) {
      shared.#users++;
      return shared;
    }
    const opened = new EmbeddedFile(file, keptCommits);
    open.set(file, opened);
    return opened;
  }

  /** To be called once by each who opened it. */
  close(): void {
    if (--this.#users > 0) return;
    open.delete(this.#path);
    this.#database.close();
  }

  get(key: string): KeyValue | null {
    return translating(() => {
      const row = this.#prepare('SELECT key, value, revision FROM keys WHERE key = ?').get(key);
      return (row as unknown as KeyValue | undefined) ?? null;
    });
  }

  commit({ leadership, expect, puts, deletes }: Commit): bigint {
    return this.#transact((revision) => {
      // Fenced in the transaction that writes (S3).
      if (leadership && this.#createdAt(leadership.key) !== leadership.token) {
        throw new FencedError(`the leadership of revision ${leadership.token} is over`);
      }
      if (expect && (this.get(expect.key)?.revision ?? 0n) !== expect.revision) {
        throw new ConflictError(`${expect.key} is not as of revision ${expect.revision}`);
      }
      for (const { key, value } of puts) this.#put(key, value, revision);
      const deleted = deletes.filter((key) => this.#delete(key, revision));
      return puts.length + deleted.length > 0;
    });
  }

  /**
   * Takes the leader's key and returns its token; null when a leadership of this process has it. One that an earlier
   * process left behind is nobody's: the file belongs to one process.
   */
  lead(key: string, candidate: string): bigint | null {
    if (this.#held.has(this.#createdAt(key))) return null;
    const token = this.#transact((revision) => {
      this.#prepare('DELETE FROM keys WHERE key = ?').run(key);
      this.#put(key, candidate, revision);
      return true;
    });
    this.#held.add(token);
    return token;
  }

  resign(key: string, token: bigint): void {
    this.#held.delete(token);
    this.#transact((revision) => this.#createdAt(key) === token && this.#delete(key, revision));
  }

  /** The changes of up to 1,000 commits after a revision. `CompactedError` when they are no longer kept. */
  changesAfter(range: KeyRange, after: bigint): WatchBatch {
    return translating(() => {
      const { revision, compacted } = this.#state();
      if (after < compacted) throw new CompactedError(`revision ${after} is compacted, up to ${compacted}`);
      if (after > revision) throw new CompactedError(`the store is at revision ${revision}, before ${after}`);
      const until = after + BATCH_COMMITS < revision ? after + BATCH_COMMITS : revision;
      const changes = this.#prepare(
        `SELECT key, value, revision FROM changes
         WHERE revision > ? AND revision <= ? AND key >= ? AND key < ? ORDER BY revision, key`,
      ).all(after, until, range.from, range.to);
      return { revision: until, changes: changes as unknown as WatchBatch['changes'] };
    });
  }

  /** Resolves after the next commit of this process, or when the signal aborts. */
  async committed(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const finish = (): void => {
        this.#waiting.delete(finish);
        signal.removeEventListener('abort', finish);
        resolve();
      };
      this.#waiting.add(finish);
      signal.addEventListener('abort', finish);
    });
  }

  /** All pages of a range, from a snapshot of their own that later commits do not touch. */
  *read(range: KeyRange): Generator<Page, void, undefined> {
    const snapshot = translating(() => new DatabaseSync(this.#path, { readOnly: true }));
    try {
      // The first SELECT takes the snapshot, and the transaction keeps it.
      snapshot.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; BEGIN`);
      const revision = prepare(snapshot, 'SELECT revision FROM state').get()?.['revision'] as bigint;
      const select = prepare(
        snapshot,
        `SELECT key, value, revision FROM keys WHERE key >= ? AND key < ? ORDER BY key LIMIT ${PAGE_KEYS}`,
      );
      let { from } = range;
      for (;;) {
        const entries = translating(() => select.all(from, range.to)) as unknown as KeyValue[];
        yield { revision, entries };
        const last = entries.at(-1);
        if (last === undefined || entries.length < PAGE_KEYS) return;
        from = `${last.key}\0`;
      }
    } finally {
      snapshot.close();
    }
  }

  /** Runs `write` with the next revision, which is used only if it says that it changed something. */
  #transact(write: (revision: bigint) => boolean): bigint {
    return translating(() => {
      this.#database.exec('BEGIN IMMEDIATE');
      try {
        const { revision: current } = this.#state();
        const revision = current + 1n;
        if (!write(revision)) {
          this.#database.exec('ROLLBACK');
          return current;
        }
        const oldest = revision - this.#keptCommits;
        const compacted = oldest > 0n ? oldest : 0n;
        this.#prepare('DELETE FROM changes WHERE revision <= ?').run(compacted);
        this.#prepare('UPDATE state SET revision = ?, compacted = ?').run(revision, compacted);
        this.#database.exec('COMMIT');
        for (const notice of this.#waiting) notice();
        return revision;
      } catch (error) {
        if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
        throw error;
      }
    });
  }

  #put(key: string, value: string, revision: bigint): void {
    this.#prepare(
      `INSERT INTO keys VALUES (?1, ?2, ?3, ?3)
       ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision`,
    ).run(key, value, revision);
    this.#prepare('INSERT INTO changes VALUES (?, ?, ?)').run(revision, key, value);
  }

  #delete(key: string, revision: bigint): boolean {
    if (this.#prepare('DELETE FROM keys WHERE key = ?').run(key).changes === 0n) return false;
    this.#prepare('INSERT INTO changes VALUES (?, ?, NULL)').run(revision, key);
    return true;
  }

  /** Revision at which the key was created; 0n when it does not exist. */
  #createdAt(key: string): bigint {
    const row = translating(() => this.#prepare('SELECT created FROM keys WHERE key = ?').get(key));
    return (row?.['created'] as bigint | undefined) ?? 0n;
  }

  #state(): { revision: bigint; compacted: bigint } {
    const row = this.#prepare('SELECT revision, compacted FROM state').get();
    return row as unknown as { revision: bigint; compacted: bigint };
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) this.#statements.set(sql, (statement = prepare(this.#database, sql)));
    return statement;
  }
}

function openDatabase(file: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    database = new DatabaseSync(file);
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    checkSchema(database, file);
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
    return database;
  } catch (error) {
    database?.close();
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`${file} cannot be used: ${(error as Error).message}`, { cause: error });
  }
}

function checkSchema(database: DatabaseSync, file: string): void {
  database.exec('BEGIN IMMEDIATE');
  const tables = database.prepare('SELECT count(*) AS count FROM sqlite_schema').get()?.['count'];
  if (tables === 0) database.exec(SCHEMA);
  const owner = database.prepare('PRAGMA application_id').get()?.['application_id'];
  const version = database.prepare('PRAGMA user_version').get()?.['user_version'];
  database.exec('COMMIT');
  if (owner !== APPLICATION_ID)
    throw new ConfigError(`${file} is a database, but not a registry of Elastic DNS`);
  if (version !== SCHEMA_VERSION) {
    throw new ConfigError(
      `${file} has schema ${String(version)}, this program knows schema ${SCHEMA_VERSION}: use the newer program that wrote it`,
    );
  }
}

function prepare(database: DatabaseSync, sql: string): StatementSync {
  const statement = database.prepare(sql);
  statement.setReadBigInts(true);
  return statement;
}

/** The one place where what SQLite throws becomes an error of ours. */
function translating<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!isSqliteError(error)) throw error;
    throw new UnavailableError(`registry file: ${error.message}`, { cause: error });
  }
}

function isSqliteError(error: unknown): error is Error & { errcode: number } {
  return error instanceof Error && 'code' in error && error.code === 'ERR_SQLITE_ERROR';
}
