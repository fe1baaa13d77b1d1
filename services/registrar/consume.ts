/**
 * The leader's work: reads the log from the cursor, folds each entry, commits in batches (S3, S4, S12). Called by
 * index.ts with a won leadership. It ends by throwing: whatever the error, the registrar gives the leadership up
 * and starts over from what the store then holds.
 */
import type { Log, LogInfo } from '@elastic-dns/event-log';
import {
  ConfigError,
  CURSOR_KEY,
  emptyChange,
  fold,
  keyOf,
  mergeChange,
  REDUCER_VERSION,
  type Change,
  type CursorRecord,
  type LogEntry,
  type Outcome,
  type Registry,
} from '@elastic-dns/model';
import type { Logger } from '@elastic-dns/runtime';
import type { Committer } from './commit.ts';

export interface ConsumeOptions {
  log: Log;
  /** The working copy, aligned with the log. */
  registry: Registry;
  committer: Committer;
  /** Told of every entry once its commit is in the store. */
  onFolded: (outcome: Outcome) => void;
  /** Told of the cursor after every commit. */
  onCommitted: (cursor: CursorRecord) => void;
  signal: AbortSignal;
}

/**
 * Makes the cursor fit the log before reading. A log that was lost, made anew or restored from an older copy is read
 * from its beginning: the registry stays as it is meanwhile, as only a node's newer events and snapshots change
 * its records (S5, S6). `ConfigError` when a newer program wrote the registry.
 */
export function alignCursor(registry: Registry, log: LogInfo, logger: Logger): CursorRecord {
  const { cursor } = registry;
  if (cursor && cursor.reducer > REDUCER_VERSION) {
    throw new ConfigError(
      `the registry was written by a newer program (reducer ${cursor.reducer}; this one has ${REDUCER_VERSION}): run that version or a newer one`,
    );
  }
  if (cursor?.incarnation === log.incarnation && cursor.sequence <= log.last) {
    if (cursor.sequence + 1 < log.first) {
      logger.warn(
        { cursor: cursor.sequence, first: log.first },
        'the log dropped events before they were folded; the nodes’ next snapshots make up for them',
      );
    }
    return cursor;
  }
  if (cursor)
    logger.warn({ cursor, log }, 'this is not the log that the registry was made from: reading all of it');
  const start: CursorRecord = {
    kind: 'cursor',
    incarnation: log.incarnation,
    sequence: 0,
    reducer: REDUCER_VERSION,
  };
  registry.apply({ puts: new Map([[keyOf(start), start]]), deletes: new Set() });
  return start;
}

/**
 * Follows the log until `signal` aborts. `UnavailableError`: the log is out of reach; `ConflictError`: the log was
 * replaced or somebody else committed; `FencedError`, `LeaseLostError`: the leadership is gone.
 */
export async function consume(options: ConsumeOptions): Promise<void> {
  const { log, registry, signal } = options;
  const { cursor } = registry;
  if (!cursor) throw new Error('alignCursor has to come first');
  const from = cursor.sequence + 1;
  for await (const entries of log.read({ from, incarnation: cursor.incarnation, signal })) {
    await commitEntries(entries, options);
  }
}

/** Folds a batch into as few commits as hold it. */
async function commitEntries(entries: LogEntry[], options: ConsumeOptions): Promise<void> {
  const { registry, committer, onFolded, onCommitted } = options;
  let pending = emptyChange();
  let outcomes: Outcome[] = [];
  const flush = async (): Promise<void> => {
    const { cursor } = registry;
    if (!cursor || outcomes.length === 0) return;
    pending.puts.delete(CURSOR_KEY);
    await committer.commit(pending, cursor);
    for (const outcome of outcomes) onFolded(outcome);
    onCommitted(cursor);
    pending = emptyChange();
    outcomes = [];
  };
  for (const entry of entries) {
    const { change, outcome } = fold(registry, entry);
    if (sizeOf(pending) + sizeOf(change) > committer.room) await flush();
    registry.apply(change);
    mergeChange(pending, change);
    outcomes.push(outcome);
  }
  await flush();
}

function sizeOf(change: Change): number {
  return change.puts.size + change.deletes.size;
}
