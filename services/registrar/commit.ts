/**
 * Writes a change to the store in fenced commits (S3), cursor included, and finds out what became of a commit whose
 * answer was lost. Called by consume.ts alone.
 *
 * What is too large for one commit goes in several: first what is put, then what is deleted, and last, together, the
 * nodes' progress and the cursor. So a reader never sees less than before or after, and a leader that dies in
 * between leaves a registry on which the next one folds the same entries again (S4).
 */
import {
  ConflictError,
  CURSOR_KEY,
  encodeRecord,
  UnavailableError,
  type Change,
  type CursorRecord,
  type StoreRecord,
} from '@elastic-dns/model';
import type { Commit, Leadership, Store } from '@elastic-dns/registry-store';
import type { Backoff, Clock } from '@elastic-dns/runtime';

type Part = Pick<Commit, 'puts' | 'deletes'>;

/** What counts the commits; set by the caller's metrics. */
export interface CommitObserver {
  committed(operations: number, seconds: number): void;
  retried(error: UnavailableError): void;
}

export interface CommitterOptions {
  store: Store;
  leadership: Leadership;
  /** Revision of the cursor's last write; 0n when there is none yet. */
  cursorRevision: bigint;
  clock: Clock;
  backoff: Backoff;
  observer: CommitObserver;
}

export class Committer {
  readonly #options: CommitterOptions;
  #cursorRevision: bigint;

  constructor(options: CommitterOptions) {
    this.#options = options;
    this.#cursorRevision = options.cursorRevision;
  }

  /** Operations that one commit has room for beside its cursor. */
  get room(): number {
    return this.#options.store.maxOperations - 1;
  }

  /**
   * Returns when all of the change and the cursor are in the store. Goes on trying while the store is out of reach,
   * until the leadership is lost (throws its `LeaseLostError`). `FencedError`, `ConflictError`: somebody else leads;
   * load the registry anew before anything else.
   */
  async commit(change: Change, cursor: CursorRecord): Promise<void> {
    const parts = split(change, cursor, this.room + 1, this.#options.store.maxBytes);
    for (const [index, part] of parts.entries()) {
      const isLast = index === parts.length - 1;
      const revision = await this.#commitPart(part, isLast ? cursor : null);
      if (isLast) this.#cursorRevision = revision;
    }
  }

  async #commitPart(part: Part, cursor: CursorRecord | null): Promise<bigint> {
    const { store, leadership, clock, backoff, observer } = this.#options;
    let isOutcomeUnknown = false;
    let wasConflict = false;
    for (;;) {
      leadership.lost.throwIfAborted();
      const startedMs = clock.now();
      try {
        if (isOutcomeUnknown && cursor) {
          const written = await this.#findCursor(cursor);
          if (written !== null) return written;
        }
        const expect = { key: CURSOR_KEY, revision: this.#cursorRevision };
        const revision = await store.commit({ leadership, expect, ...part });
        backoff.reset();
        observer.committed(part.puts.length + part.deletes.length, (clock.now() - startedMs) / 1_000);
        return revision;
      } catch (error) {
        // A commit whose answer was lost may still land between the look at the cursor and the next try: look again.
        if (error instanceof ConflictError && isOutcomeUnknown && !wasConflict) {
          wasConflict = true;
          continue;
        }
        if (!(error instanceof UnavailableError)) throw error;
        isOutcomeUnknown = true;
        observer.retried(error);
      }
      await clock.sleep(backoff.nextMs(), leadership.lost);
    }
  }

  /** The revision at which this very cursor was written; only we write it while we lead. Null: it is not there. */
  async #findCursor(cursor: CursorRecord): Promise<bigint | null> {
    const found = await this.#options.store.get(CURSOR_KEY);
    return found?.value === encodeRecord(cursor).value ? found.revision : null;
  }
}

/** The change in parts of at most `operations` operations and `bytes` bytes, in the order in which they may be seen. */
function split(change: Change, cursor: CursorRecord, operations: number, bytes: number): Part[] {
  const isProgress = (record: StoreRecord): boolean => record.kind === 'node' || record.kind === 'cursor';
  const records = [...change.puts.values()];
  const progress = [...records.filter((record) => record.kind === 'node'), cursor].map(encodeRecord);
  const puts = records.filter((record) => !isProgress(record)).map(encodeRecord);
  const deletes = [...change.deletes];
  if (
    puts.length + deletes.length + progress.length <= operations &&
    sizeOf([...puts, ...progress]) <= bytes
  ) {
    return [{ puts: [...puts, ...progress], deletes }];
  }
  const parts: Part[] = [];
  let part: Part = { puts: [], deletes: [] };
  let partBytes = 0;
  for (const put of puts) {
    const putBytes = sizeOf([put]);
    if (part.puts.length === operations || partBytes + putBytes > bytes) {
      parts.push(part);
      part = { puts: [], deletes: [] };
      partBytes = 0;
    }
    part.puts.push(put);
    partBytes += putBytes;
  }
  parts.push(part);
  for (let start = 0; start < deletes.length; start += operations) {
    parts.push({ puts: [], deletes: deletes.slice(start, start + operations) });
  }
  return [
    ...parts.filter((each) => each.puts.length + each.deletes.length > 0),
    { puts: progress, deletes: [] },
  ];
}

function sizeOf(puts: { key: string; value: string }[]): number {
  return puts.reduce((sum, { key, value }) => sum + Buffer.byteLength(key) + Buffer.byteLength(value), 0);
}
