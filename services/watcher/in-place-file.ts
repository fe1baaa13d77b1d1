/**
 * A hosts file that others write too and that must keep its inode: each local container's, made and now and then
 * rewritten by the engine. Called by container-hosts.ts, and by node-file.ts for a file that cannot be replaced.
 *
 * slots.ts says what to write; this is the writing, and the guard against the engine's own (which empties the file and
 * writes it again, or reads it, and writes back what it read): nothing is written before the file has stayed as it is
 * for a while with its `localhost` line and its last line ended, nor when it changed since, and the size is looked at
 * before every single write and after the last. What was lost all the same shows as a stamp that is not ours, and
 * is written again (L1). Between a look and its write lies about a microsecond, which the kernel gives no means to
 * close: what an engine's rewrite and ours make of a line in it is mended as soon as the file has settled. S8, S9.
 */
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { Slots, type Write } from './slots.ts';
import { isSameStamp, readStamp, stampFile, type Stamp } from './stamp.ts';
import { problemOf, RETRY_MS, type WriteProblem } from './write-problem.ts';

/** How long a file that somebody else has written must stay as it is: the engine's rewrites take a fraction of this. */
export const SETTLE_MS = 20;
/** The same for one that looks half written. A person may have left it so. */
const SETTLE_HALF_MS = 1_000;

const LINE_END = 0x0a;
const LOCALHOST = /^[^#\n]*[ \t]localhost([ \t\r\n]|$)/m;

/** What a file is to hold: the lines of each service. */
export interface LineSource {
  /** Every service that has lines, by qualified name. */
  keys(): Iterable<string>;
  /** In order; empty when there are none. */
  linesOf(key: string): readonly string[];
}

export interface WriteObserver {
  /** A file has been changed. */
  wrote(): void;
  /** Somebody else was writing at the same time; it is tried again. */
  guarded(): void;
}

export class InPlaceFile {
  readonly path: string;
  readonly #source: LineSource;
  readonly #observer: WriteObserver;
  readonly #touched = new Set<string>();
  #touchedAll = true;
  #slots: Slots | null = null;
  /** The file as we left it. */
  #known: Stamp | null = null;
  /** The file as somebody else left it, and since when it has been so. */
  #foreign: { stamp: Stamp; sinceMs: number } | null = null;
  /** Something is to be written, or looked for. */
  #hasWork = true;
  /** Until when it is no use to try. */
  #blockedMs = 0;
  #problem: WriteProblem | null = null;

  constructor(path: string, source: LineSource, observer: WriteObserver) {
    this.path = path;
    this.#source = source;
    this.#observer = observer;
  }

  /** Why the file is not right; null when it is, or is about to be. */
  get problem(): WriteProblem | null {
    return this.#problem;
  }

  /** The lines of this service may have changed. */
  touch(key: string): void {
    this.#touched.add(key);
    this.#hasWork = true;
  }

  /** Whether the file is still as we left it, by its stamp. Otherwise the next `flush` reads it. */
  look(): void {
    try {
      if (isSameStamp(this.#known, readStamp(this.path))) return;
    } catch {
      // The next flush meets the same error, and says so.
    }
    this.#hasWork = true;
  }

  /** The next `flush` reads the file whatever its stamp says. */
  reread(): void {
    this.#forget();
  }

  /** Writes what is due. Returns when to call again; null: when something has changed. */
  flush(nowMs: number): number | null {
    const dueMs = this.#dueMs();
    if (dueMs === null || dueMs > nowMs) return dueMs;
    try {
      this.#write(nowMs);
    } catch (error) {
      this.#forget();
      this.#problem = problemOf(this.path, error);
      this.#blockedMs = nowMs + RETRY_MS;
    }
    return this.#dueMs();
  }

  #dueMs(): number | null {
    return this.#hasWork ? this.#blockedMs : (this.#slots?.dueMs ?? null);
  }

  #forget(): void {
    this.#slots = null;
    this.#known = null;
    this.#touchedAll = true;
    this.#hasWork = true;
  }

  #write(nowMs: number): void {
    // Nothing but the file itself: not what a link points to, and no waiting for the other end of a pipe.
    const flags = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const file = openSync(this.path, flags);
    try {
      const stamp = readStamp(file);
      if (!isSameStamp(stamp, this.#known)) this.#forget();
      const slots = (this.#slots ??= this.#learn(file, stamp, nowMs));
      if (!slots) return;
      const writes = slots.plan(this.#wanted(slots), nowMs);
      if (!isSameStamp(readStamp(file), stamp)) return this.#startOver(nowMs);
      if (writes.length === 0) {
        this.#known = stamp;
      } else {
        const isAlone = performAll(file, writes, Number(stamp.bytes));
        this.#observer.wrote();
        const stampAfter = stampFile(file);
        // Had somebody else written just before the stamp, the stamp would hide it.
        if (!isAlone || Number(stampAfter.bytes) !== slots.size) return this.#startOver(nowMs);
        this.#known = stampAfter;
      }
      this.#touched.clear();
      this.#touchedAll = false;
      this.#hasWork = false;
      this.#foreign = null;
      this.#problem = null;
    } finally {
      closeSync(file);
    }
  }

  /** Reads a file that somebody else has written, once it has settled; null before that. */
  #learn(file: number, stamp: Stamp, nowMs: number): Slots | null {
    if (!this.#foreign || !isSameStamp(this.#foreign.stamp, stamp)) this.#foreign = { stamp, sinceMs: nowMs };
    const { sinceMs } = this.#foreign;
    this.#blockedMs = sinceMs + SETTLE_MS;
    if (nowMs < this.#blockedMs) return null;
    const content = readWhole(file, Number(stamp.bytes));
    if (content.at(-1) !== LINE_END || !LOCALHOST.test(content.toString('latin1'))) {
      this.#blockedMs = sinceMs + SETTLE_HALF_MS;
      if (nowMs < this.#blockedMs) return null;
    }
    return new Slots(content, nowMs);
  }

  #startOver(nowMs: number): void {
    this.#observer.guarded();
    this.#forget();
    this.#blockedMs = nowMs + SETTLE_MS;
  }

  *#wanted(slots: Slots): Generator<[string, readonly string[]]> {
    const keys = this.#touchedAll ? new Set([...this.#source.keys(), ...slots.keys]) : this.#touched;
    for (const key of keys) yield [key, this.#source.linesOf(key)];
  }
}

/**
 * All of them, even if one fails: a line that is to go has to go (a wrong answer is worse than none) also when there is
 * no room for the one that is to come. Returns whether nobody else wrote meanwhile, as far as the size tells: an engine
 * that rewrites the file empties it first, and then the places of our lines are others.
 */
function performAll(file: number, writes: readonly Write[], bytesBefore: number): boolean {
  let bytesNow = bytesBefore;
  let failure: unknown = null;
  for (const { offset, bytes } of writes) {
    if (fstatSync(file).size !== bytesNow) return false;
    try {
      const written = offset === null ? append(file, bytes) : writeSync(file, bytes, 0, bytes.length, offset);
      if (offset === null) bytesNow += written;
      if (written < bytes.length) failure ??= new ShortWrite(`${written} of ${bytes.length} bytes written`);
    } catch (error) {
      failure ??= error;
    }
  }
  if (failure !== null) throw failure;
  return fstatSync(file).size === bytesNow;
}

/** What the kernel says before it says that the disk is full. */
class ShortWrite extends Error {
  readonly code = 'ENOSPC';
}

/** At the end wherever that is when the kernel writes, so that a line that the engine has just added stays. */
function append(file: number, bytes: Buffer): number {
  const end = openSync(`/proc/self/fd/${file}`, constants.O_WRONLY | constants.O_APPEND);
  try {
    return writeSync(end, bytes);
  } finally {
    closeSync(end);
  }
}

function readWhole(file: number, bytes: number): Buffer {
  const content = Buffer.allocUnsafe(bytes);
  let length = 0;
  for (let read = 1; read > 0 && length < bytes; length += read)
    read = readSync(file, content, length, bytes - length, length);
  return content.subarray(0, length);
}
