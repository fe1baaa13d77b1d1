/**
 * The file of the embedded log: its shape, and whether a file is one of ours. Called by `embedded.ts`.
 */
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { ConfigError, ElasticDnsError, UnavailableError } from '@elastic-dns/model';

const FILE = 'event-log.db';
/** "EDNS": tells SQLite files of ours from others. */
const APPLICATION_ID = 0x45444e53;
/** Raised by every change of the shape below. */
const SCHEMA_VERSION = 1;
/** How long one process waits for another one's commit. */
const BUSY_TIMEOUT_MS = 2_000;

/**
 * `log` has one row. Events before its `first` are no longer kept: of them only the ids are there, and only for as long
 * as ids have to be remembered. `bytes` counts the kept ones.
 */
const SCHEMA = `
  CREATE TABLE log (
    incarnation TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    bytes INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE events (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    node TEXT NOT NULL,
    type TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    data TEXT NOT NULL
  ) STRICT;
`;

/** SQLite's primary result codes for what no retry heals. */
const PERMISSION = 3;
const READONLY = 8;
const CORRUPT = 11;
const CANNOT_OPEN = 14;
const NOT_A_DATABASE = 26;
const UNUSABLE = new Set([PERMISSION, READONLY, CORRUPT, CANNOT_OPEN, NOT_A_DATABASE]);

/** Opens the file in `folder`, made if it is not there; `ConfigError` when it is not, or not yet, one of ours. */
export function openFile(folder: string): DatabaseSync {
  const path = join(folder, FILE);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new ConfigError(`${folder} cannot hold the log: ${(cause as Error).message}`, { cause });
  }
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
    if (isEmpty(database)) createSchema(database);
    checkSchema(database, path);
    // Every commit is on the disk before it is acknowledged.
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
    return database;
  } catch (error) {
    database?.close();
    throw translateFileError(error, `open ${path}`);
  }
}

function createSchema(database: DatabaseSync): void {
  database.exec('BEGIN IMMEDIATE');
  // Another process may have been faster.
  if (isEmpty(database)) {
    database.exec(
      `${SCHEMA} PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${SCHEMA_VERSION}`,
    );
    database.prepare('INSERT INTO log VALUES (?, 1, 0, 0)').run(randomUUID());
  }
  database.exec('COMMIT');
}

function isEmpty(database: DatabaseSync): boolean {
  return database.prepare('SELECT count(*) AS tables FROM sqlite_schema').get()?.['tables'] === 0;
}

function checkSchema(database: DatabaseSync, path: string): void {
  const application = database.prepare('PRAGMA application_id').get()?.['application_id'];
  const version = database.prepare('PRAGMA user_version').get()?.['user_version'];
  if (application !== APPLICATION_ID) throw new ConfigError(`${path} is not an event log; move it away`);
  if (version !== SCHEMA_VERSION) {
    throw new ConfigError(
      `${path} has schema ${String(version)}; this program knows ${SCHEMA_VERSION}: use a newer one`,
    );
  }
}

/** The one place where SQLite's errors become ours. `doing` completes "cannot ...". */
export function translateFileError(error: unknown, doing: string): ElasticDnsError {
  if (error instanceof ElasticDnsError) return error;
  const { errcode, message } = error as { errcode?: number; message: string };
  const text = `cannot ${doing}: ${message}`;
  const unusable = errcode !== undefined && UNUSABLE.has(errcode & 0xff);
  return unusable ? new ConfigError(text, { cause: error }) : new UnavailableError(text, { cause: error });
}
