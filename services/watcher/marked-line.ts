/**
 * One line of ours in a file that others write too: `10.0.0.2 api api.shop        # elastic-dns`. The mark makes it
 * ours wherever it stands (S8). It ends the line at the same place whatever the line says, so that a reader that comes
 * upon a line half written still knows whose it is. A line of ours that gives no name begins with `#`
 * itself: to a resolver it is a comment, to us it is room. Used by slots.ts and withdrawal.ts.
 */

const MARK = '# elastic-dns';

/** The mark and the end of the line. */
export const MARK_BYTES = MARK.length + 1;

/** Shortest line of ours: a comment with the mark. */
export const SHORTEST_BYTES = MARK_BYTES + 1;

/** Slots come in multiples of this. Most lines need one; some two. */
const SLOT_BYTES = 64;

const OURS = /# elastic-dns\r?$/;
const ANSWERS = /^[0-9A-Fa-f.:]+(?: [a-z0-9._-]+)+(?= +# elastic-dns\r?$)/;

/** Bytes of the slot that a line needs. */
export function slotBytesOf(line: string): number {
  return Math.ceil((line.length + 1 + MARK_BYTES) / SLOT_BYTES) * SLOT_BYTES;
}

/** A line of exactly that many bytes, its end included; without an answer, it is room for one. */
export function formatMarked(line: string | null, bytes: number): string {
  return `${(line ?? '#').padEnd(bytes - MARK_BYTES)}${MARK}\n`;
}

/** Every line with its mark, as long as it happens to be: for a file that is replaced as a whole. */
export function markLines(lines: string): string {
  return lines.replaceAll('\n', ` ${MARK}\n`);
}

/** `foreign`: not ours. `room`: ours, a comment. `broken`: ours, but neither; resolvers may see anything in it. */
export type Reading = { kind: 'foreign' | 'room' | 'broken' } | { kind: 'answer'; line: string };

/** Reads a line without its end. */
export function readMarked(text: string): Reading {
  if (!OURS.test(text)) return { kind: 'foreign' };
  if (text.startsWith('#')) return { kind: 'room' };
  const [line] = ANSWERS.exec(text) ?? [];
  return line === undefined ? { kind: 'broken' } : { kind: 'answer', line };
}

export interface PlacedLine {
  offset: number;
  /** Its end included. */
  length: number;
  /** Without its end. */
  text: string;
  /** False only for a last line that nothing ends. */
  ended: boolean;
}

/** The lines of a file. Bytes are read as Latin-1, so that a length is a count of bytes whatever others have written. */
export function* splitLines(content: Buffer): Generator<PlacedLine> {
  for (let offset = 0; offset < content.length;) {
    const end = content.indexOf(0x0a, offset);
    const length = (end === -1 ? content.length : end + 1) - offset;
    const text = content.toString('latin1', offset, end === -1 ? content.length : end);
    yield { offset, length, text, ended: end !== -1 };
    offset += length;
  }
}
