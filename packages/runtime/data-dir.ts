/**
 * The data folder: everything that a process keeps between two starts lies in it, and one process at a time may write
 * there. Opened by the composition roots before anything else; readers (`elastic-dns list` ...) need no lock.
 */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { ConfigError } from '@elastic-dns/model';
import { makeFolder } from './folder.ts';

export interface DataDir {
  /** Absolute. */
  path: string;
  /** Lets the next process in. Safe to call twice. */
  release(): void;
}

/** Never opened but here: closing it again, anywhere in the process, would drop the lock that the process has on it. */
const LOCK_FILE = 'lock.db';

/** Keeps every lock that was taken from the garbage collector, which would let go of it. */
const held = new Set<DatabaseSync>();

/** SQLite's code for "another connection holds the lock". */
const SQLITE_BUSY = 5;

/**
 * Makes the folder (0700) where it is missing and takes it for this process. `ConfigError` when it cannot be
 * used, or when another process has it: the message names that process.
 */
export function openDataDir(path: string): DataDir {
  const folder = resolve(path);
  const holderPath = join(folder, 'lock.pid');
  let lock: DatabaseSync;
  try {
    makeFolder(folder, 0o700);
    lock = new DatabaseSync(join(folder, LOCK_FILE));
  } catch (cause) {
    throw unusable(folder, cause);
  }
  try {
    // SQLite's lock is the kernel's lock on the file: it goes with its process however that ends, so there is no stale
    // lock to judge, no process number to trust, and no moment between look and take.
    lock.exec('PRAGMA busy_timeout = 0; BEGIN EXCLUSIVE');
    // For people only.
    writeFileSync(holderPath, `${process.pid}\n`, { mode: 0o600 });
  } catch (cause) {
    lock.close();
    if ((cause as { errcode?: number }).errcode !== SQLITE_BUSY) throw unusable(folder, cause);
    throw new ConfigError(
      `${folder} is in use by ${readHolder(holderPath)}: stop it first, or give this one another dataDir`,
      { cause },
    );
  }
  held.add(lock);
  return {
    path: folder,
    release: () => {
      if (held.delete(lock)) lock.close();
    },
  };
}

/** Whether a process has ever opened it, for those who only look. `ConfigError` when this user may not look. */
export function isDataDir(path: string): boolean {
  try {
    return statSync(join(path, LOCK_FILE), { throwIfNoEntry: false }) !== undefined;
  } catch (cause) {
    throw unusable(path, cause);
  }
}

function unusable(folder: string, cause: unknown): ConfigError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new ConfigError(`${folder} cannot be used as dataDir: ${why}`, { cause });
}

function readHolder(path: string): string {
  try {
    const pid = Number(readFileSync(path, 'utf8'));
    if (Number.isSafeInteger(pid) && pid > 0) return `process ${pid}`;
  } catch {
    // It has the lock but has not said yet who it is.
  }
  return 'another process';
}

let temporaryFiles = 0;

/**
 * Replaces a file so that a reader, and a machine that loses its power, has the old or the new one, whole (S9). For
 * files that only this process writes: a temporary file that a kill leaves behind is used again after the restart.
 */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  options: { mode?: number } = {},
): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.${basename(path)}.${temporaryFiles++}.tmp`);
  try {
    const file = await open(temporary, 'w', options.mode ?? 0o600);
    try {
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  // The rename is a change of the folder, which the disk has to have as well.
  const opened = await open(folder, 'r');
  try {
    await opened.sync();
  } finally {
    await opened.close();
  }
}
