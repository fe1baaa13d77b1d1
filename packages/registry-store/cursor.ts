/**
 * What a store's cursor says about the store: whether it is behind what was applied already (S6). Pure; called by
 * `mirror.ts`.
 */
import { CURSOR_KEY, decodeRecord, type CursorRecord } from '@elastic-dns/model';

/** What was applied so far. */
export interface Applied {
  cursor: CursorRecord | null;
  revision: bigint;
}

/** Null when the value is not a cursor. */
export function decodeCursor(value: string): CursorRecord | null {
  const decoded = decodeRecord(CURSOR_KEY, value);
  return decoded.ok && decoded.value.kind === 'cursor' ? decoded.value : null;
}

/** Whether a change puts the very cursor that was applied. */
export function isCursor(
  cursor: CursorRecord | null,
  change: { key: string; value: string | null },
): boolean {
  const other = change.key === CURSOR_KEY && change.value !== null ? decodeCursor(change.value) : null;
  return cursor?.incarnation === other?.incarnation && cursor?.sequence === other?.sequence;
}

/**
 * Why a store with this cursor value (null: none) is behind what was applied; null when it is not. By S4 a store whose
 * cursor has reached ours has all that we have, even if its revisions are lower because it was built anew. `revision`
 * is the store's, where it was read as a whole: of two logs' cursors neither is before the other, so it decides.
 */
export function whyBehind(applied: Applied, value: string | null, revision?: bigint): string | null {
  const ours = applied.cursor;
  if (ours && value === null) return `it has no cursor, ours is ${ours.sequence}`;
  const theirs = value === null ? null : decodeCursor(value);
  if (ours && theirs?.incarnation === ours.incarnation) {
    return theirs.sequence < ours.sequence ? `its cursor is ${theirs.sequence}, ours ${ours.sequence}` : null;
  }
  if (revision === undefined || revision >= applied.revision) return null;
  return `its revision is ${revision}, ours ${applied.revision}`;
}
