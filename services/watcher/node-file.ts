/**
 * The node's own hosts file, in which the node's view is kept as a marked block. Off unless asked for. Run by watcher.ts.
 *
 * The file is somebody else's, so more is at stake than our lines: the new text is forced to the disk beside the old
 * file, gets its owner and mode, and takes its place by rename (S9), through links to where the file really is. Before
 * that the file is looked at once more, so that what a person saved meanwhile is not lost; between that look and the rename
 * a few microseconds remain, which the kernel gives no means to close. Extended attributes are not kept. A file that
 * cannot be replaced (mounted by itself, or with several names) is written in place, line by line.
 */
import { constants } from 'node:fs';
import { lstat, open, readFile, realpath, rename, unlink, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { qualify } from '@elastic-dns/model';
import { findBlock, replaceBlock } from './block.ts';
import { InPlaceFile, type WriteObserver } from './in-place-file.ts';
import { markLines } from './marked-line.ts';
import type { Renderer, ServiceName } from './render.ts';
import { isSameStamp, readStamp, stampAt, type Stamp } from './stamp.ts';
import { problemOf, RefusedFile, RETRY_MS, type WriteProblem } from './write-problem.ts';

/** Who asks is the node itself. */
const NODE = { namespace: null };
/** How long a file that somebody else has written must stay as it is: longer than an editor takes between two writes. */
const SETTLE_MS = 200;

export class NodeFile {
  readonly #path: string;
  readonly #renderer: Renderer;
  readonly #observer: WriteObserver;
  #inPlace: InPlaceFile | null = null;
  /** The file as we left it. */
  #known: Stamp | null = null;
  /** The file as somebody else left it (null: it is missing), and since when. */
  #foreign: { stamp: Stamp | null; sinceMs: number } | null = null;
  #dueMs: number | null = 0;
  #problem: WriteProblem | null = null;

  constructor(path: string, renderer: Renderer, observer: WriteObserver) {
    this.#path = path;
    this.#renderer = renderer;
    this.#observer = observer;
  }

  get problems(): WriteProblem[] {
    const problem = this.#inPlace ? this.#inPlace.problem : this.#problem;
    return problem ? [problem] : [];
  }

  /** The lines of these services have changed. */
  touch(names: readonly ServiceName[]): void {
    for (const { service, namespace } of names) this.#inPlace?.touch(qualify(service, namespace));
    if (names.length > 0) this.#dueMs ??= 0;
  }

  /** Looks for what others have done to the file; the next flush mends it. */
  look(): void {
    this.#inPlace?.look();
    this.#dueMs ??= 0;
  }

  /** Writes what is due; resolves to when to be called again, null: when something has changed. */
  async flush(nowMs: number): Promise<number | null> {
    if (this.#inPlace) return this.#inPlace.flush(nowMs);
    if (this.#dueMs === null || this.#dueMs > nowMs) return this.#dueMs;
    this.#dueMs = null;
    try {
      const dueMs = await this.#write(nowMs);
      if (dueMs !== null) this.#dueMs = dueMs;
    } catch (error) {
      this.#problem = problemOf(this.#path, error);
      this.#dueMs = nowMs + RETRY_MS;
    }
    return this.#dueMs;
  }

  async #write(nowMs: number): Promise<number | null> {
    const file = await realPathOf(this.#path);
    const stamp = stampAt(file);
    if (!stamp || !isSameStamp(stamp, this.#known)) {
      const isNews =
        !this.#foreign || !(stamp ? isSameStamp(this.#foreign.stamp, stamp) : this.#foreign.stamp === null);
      if (isNews) this.#foreign = { stamp, sinceMs: nowMs };
      const settledMs = (this.#foreign?.sinceMs ?? nowMs) + SETTLE_MS;
      if (nowMs < settledMs) return settledMs;
    }
    const before = stamp ? await readFile(file, 'latin1') : '';
    const place = findBlock(before);
    if (!place.ok) throw new RefusedFile(place.reason);
    // Marked one by one: an engine copies this file into containers of the host network, where they are ours as well.
    const after = replaceBlock(before, place, markLines(this.#renderer.textFor(NODE)));
    if (after === before && stamp) {
      this.#settle(stamp);
      return null;
    }
    const outcome = await replaceFile(file, stamp, after);
    switch (outcome) {
      case 'replaced':
        this.#observer.wrote();
        this.#settle(readStamp(file));
        return null;
      case 'changed':
        this.#observer.guarded();
        return nowMs + SETTLE_MS;
      case 'fixed':
        if (place.to > place.from)
          throw new RefusedFile('cannot be replaced and has a block: take it out by hand');
        this.#inPlace = new InPlaceFile(file, this.#renderer.sourceFor(NODE), this.#observer);
        return this.#inPlace.flush(nowMs);
    }
  }

  #settle(stamp: Stamp): void {
    this.#known = stamp;
    this.#foreign = null;
    this.#problem = null;
  }
}

/**
 * Puts a new file in the place of the one with this stamp (null: of none). `changed`: somebody else has written it
 * meanwhile. `fixed`: it has to keep its inode. Nothing is done then.
 */
export async function replaceFile(
  file: string,
  stamp: Stamp | null,
  text: string,
): Promise<'replaced' | 'changed' | 'fixed'> {
  const stats = stamp ? await lstat(file) : null;
  if (stats && stats.nlink > 1) return 'fixed';
  const temporary = path.join(path.dirname(file), `.${path.basename(file)}.elastic-dns`);
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
  let isReplaced = false;
  try {
    const handle: FileHandle = await open(temporary, flags, 0o600);
    try {
      if (stats) await handle.chown(stats.uid, stats.gid);
      await handle.chmod(stats ? stats.mode & 0o7777 : 0o644);
      await handle.writeFile(text, 'latin1');
      await handle.sync();
    } finally {
      await handle.close();
    }
    const now = stampAt(file);
    if (stamp ? !isSameStamp(now, stamp) : now !== null) return 'changed';
    await rename(temporary, file);
    isReplaced = true;
    return 'replaced';
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return 'fixed';
    throw error;
  } finally {
    if (!isReplaced) await unlink(temporary).catch(() => undefined);
  }
}

/** The file's own path where links lead to it, also when it is missing. */
export async function realPathOf(file: string): Promise<string> {
  try {
    return await realpath(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return file;
    throw error;
  }
}
