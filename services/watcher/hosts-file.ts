/**
 * `<hostsDir>/<namespace>`: what a caller of that namespace sees, one file for each namespace that has instances; the file
 * goes with the last of them. For people, for programs that mount or read it, and for other resolvers. Run by watcher.ts.
 *
 * A file is replaced by rename, so a reader has a complete old or a complete new one (S9), and only when it says
 * something else. It is not forced to the disk: what a power cut takes is made again from the last good state. Files in
 * the folder that do not begin with our header are nobody's but their owner's.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { parseLabel } from '@elastic-dns/model';
import { makeFolder } from '@elastic-dns/runtime';
import type { WriteObserver } from './in-place-file.ts';
import type { Renderer, ServiceName } from './render.ts';
import { isSameStamp, readStamp, stampAt, type Stamp } from './stamp.ts';
import { problemOf, RefusedFile, RETRY_MS, type WriteProblem } from './write-problem.ts';

const HEADER = '# elastic-dns: hosts of namespace';
/** No name of a namespace begins with a dot, and programs that read whole folders leave such files out. */
const TEMPORARY = /^\.[a-z0-9_-]+\.elastic-dns$/;
/** Files are written in slices of about this much, and others get their turn in between. */
const SLICE_BYTES = 4 << 20;

interface Kept {
  /** As we left it; null: to be looked at. */
  stamp: Stamp | null;
  problem: WriteProblem | null;
}

export class NamespaceHosts {
  readonly #folder: string;
  readonly #sliceBytes: number;
  readonly #renderer: Renderer;
  readonly #observer: Pick<WriteObserver, 'wrote'>;
  readonly #kept = new Map<string, Kept>();
  /** In the order in which they are written. */
  #due = new Set<string>();
  #isFolderDue = true;
  #retryMs: number | null = null;
  #folderProblem: WriteProblem | null = null;

  constructor(
    folder: string,
    renderer: Renderer,
    observer: Pick<WriteObserver, 'wrote'>,
    sliceBytes = SLICE_BYTES,
  ) {
    this.#sliceBytes = sliceBytes;
    this.#folder = folder;
    this.#renderer = renderer;
    this.#observer = observer;
  }

  get size(): number {
    return this.#kept.size;
  }

  get problems(): WriteProblem[] {
    return [this.#folderProblem, ...[...this.#kept.values()].map(({ problem }) => problem)].filter(
      (problem) => problem !== null,
    );
  }

  /** The lines of these services have changed: every file has them, those of their own namespaces are written first. */
  touch(names: readonly ServiceName[]): void {
    if (names.length === 0) return;
    const first = names.map(({ namespace }) => namespace);
    this.#due = new Set([...first, ...this.#due, ...this.#renderer.namespaces, ...this.#kept.keys()]);
  }

  /** Looks for what others have done to the files; the next flush mends it. */
  look(): void {
    this.#isFolderDue = true;
    for (const namespace of this.#renderer.namespaces) {
      const kept = this.#kept.get(namespace);
      if (kept?.stamp && isStill(this.#pathOf(namespace), kept.stamp)) continue;
      if (kept) kept.stamp = null;
      this.#due.add(namespace);
    }
    const wanted = new Set(this.#renderer.namespaces);
    for (const namespace of this.#kept.keys()) if (!wanted.has(namespace)) this.#due.add(namespace);
  }

  /** Writes what is due, up to a slice; returns when to be called again, null: when something has changed. */
  flush(nowMs: number): number | null {
    if (this.#isFolderDue) this.#prepareFolder();
    if (this.#retryMs !== null && this.#retryMs <= nowMs) {
      this.#retryMs = null;
      for (const [namespace, { problem }] of this.#kept) if (problem) this.#due.add(namespace);
    }
    const wanted = new Set(this.#renderer.namespaces);
    let left = this.#sliceBytes;
    for (const namespace of this.#due) {
      if (left <= 0) return nowMs;
      this.#due.delete(namespace);
      const kept = this.#kept.get(namespace) ?? { stamp: null, problem: null };
      this.#kept.set(namespace, kept);
      try {
        if (wanted.has(namespace)) left -= this.#write(namespace, kept);
        else this.#remove(namespace);
        kept.problem = null;
        if (!wanted.has(namespace)) this.#kept.delete(namespace);
      } catch (error) {
        kept.problem = problemOf(this.#pathOf(namespace), error);
        this.#retryMs ??= nowMs + RETRY_MS;
      }
    }
    return this.#retryMs;
  }

  #pathOf(namespace: string): string {
    return path.join(this.#folder, namespace);
  }

  /** Makes the folder, and finds what earlier processes have left in it. */
  #prepareFolder(): void {
    this.#isFolderDue = false;
    try {
      makeFolder(this.#folder, 0o755);
      for (const name of ownFiles(this.#folder, this.#kept)) {
        if (TEMPORARY.test(name)) unlinkSync(this.#pathOf(name));
        else this.#due.add(name);
      }
      this.#folderProblem = null;
    } catch (error) {
      this.#folderProblem = problemOf(this.#folder, error);
    }
  }

  /** Returns how many bytes that was. */
  #write(namespace: string, kept: Kept): number {
    const file = this.#pathOf(namespace);
    const text = `${HEADER} ${namespace}; rewritten when they change\n${this.#renderer.textFor({ namespace })}`;
    const before = kept.stamp ? null : readOwn(file);
    if (before !== text) {
      const temporary = path.join(this.#folder, `.${namespace}.elastic-dns`);
      writeNew(temporary, text);
      renameSync(temporary, file);
      this.#observer.wrote();
    }
    kept.stamp = readStamp(file);
    return text.length;
  }

  #remove(namespace: string): void {
    if (readOwn(this.#pathOf(namespace)) === null) return;
    unlinkSync(this.#pathOf(namespace));
    this.#observer.wrote();
  }
}

/** Removes every file of ours from the folder; returns their paths. */
export function removeNamespaceHosts(folder: string): string[] {
  return ownFiles(folder).map((name) => {
    const file = path.join(folder, name);
    unlinkSync(file);
    return file;
  });
}

/** Names of the files in the folder that we have written, without the known ones; none when there is no folder. */
function ownFiles(folder: string, known: ReadonlyMap<string, unknown> = new Map()): string[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names.filter((name) => {
    if (known.has(name)) return false;
    if (TEMPORARY.test(name)) return true;
    const label = parseLabel(name);
    if (!label.ok || label.value !== name) return false;
    try {
      return readOwn(path.join(folder, name)) !== null;
    } catch {
      return false;
    }
  });
}

/** What a file of ours says; null: there is none. `RefusedFile` when somebody else's is in its place. */
function readOwn(file: string): string | null {
  if (stampAt(file) === null) return null;
  const text = readFileSync(file, 'latin1');
  if (text.startsWith(HEADER) || text === '') return text;
  throw new RefusedFile('is not a file of elastic-dns: move it away, and it will be written');
}

function isStill(file: string, stamp: Stamp): boolean {
  try {
    return isSameStamp(stampAt(file), stamp);
  } catch {
    return false;
  }
}

/** A file with this text, or none. */
function writeNew(file: string, text: string): void {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
  const descriptor = openSync(file, flags, 0o644);
  try {
    // Whatever the mask of this process says: these files are for others to read.
    fchmodSync(descriptor, 0o644);
    writeFileSync(descriptor, text);
  } catch (error) {
    unlinkSync(file);
    throw error;
  } finally {
    closeSync(descriptor);
  }
}
