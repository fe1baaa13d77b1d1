/**
 * Takes every line of ours out of a hosts file that is written in place, leaving the foreign ones byte for byte (S8).
 * Pure: it plans the writes, clean.ts does them. In the same manner as slots.ts: whoever reads meanwhile, and whatever
 * a kill leaves, finds foreign lines whole.
 */
import { readMarked, splitLines } from './marked-line.ts';
import type { Write } from './slots.ts';

export interface Withdrawal {
  /** In this order. */
  writes: Write[];
  /** Then the file is cut to this length. */
  bytes: number;
}

/** Null: nothing of ours is in it. */
export function planWithdrawal(content: Buffer): Withdrawal | null {
  const lines = [...splitLines(content)].map((line) => ({ ...line, reading: readMarked(line.text) }));
  if (lines.every(({ reading }) => reading.kind === 'foreign')) return null;
  const writes: Write[] = lines
    .filter(({ reading }) => reading.kind === 'answer' || reading.kind === 'broken')
    .map(({ offset }) => ({ offset, bytes: COMMENT }));
  // Everything between `end` and the next foreign line is comments now, and foreign lines move up over them.
  let end = 0;
  for (const { offset, length, ended, reading } of lines) {
    if (reading.kind !== 'foreign') continue;
    const line = content.subarray(offset, offset + length);
    if (offset > end) writes.push(...moveUp(ended ? line : Buffer.concat([line, LINE_END]), offset, end));
    end += length;
  }
  return { writes, bytes: end };
}

const COMMENT = Buffer.from('#');
const LINE_END = Buffer.from('\n');

/** The copy first, then the line's old place becomes a comment, so that the line is always there. */
function moveUp(line: Buffer, from: number, to: number): Write[] {
  const after = to + line.length;
  // What is left of the comments behind the copy has to begin as one.
  const rest = { offset: after, bytes: COMMENT };
  // Moved by less than its own length it overwrites itself, which cannot be done in steps.
  if (after > from) return [{ offset: to, bytes: Buffer.concat([line, COMMENT]) }];
  return [
    ...(after + 1 < from ? [rest] : []),
    { offset: to + 1, bytes: line.subarray(1) },
    { offset: to, bytes: line.subarray(0, 1) },
    // A blank line says nothing where it was, and has no byte to spare.
    ...(line.length > 1 ? [{ offset: from, bytes: COMMENT }] : []),
    // Nothing is left but the end of a line.
    ...(after + 1 === from ? [rest] : []),
  ];
}
