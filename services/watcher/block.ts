/**
 * The marked block in a hosts file of the node: where it stands, how it is put in and taken out. Pure. Every byte outside
 * of it stays (S8): taking out what was put in gives the text that was there before, whatever that was.
 */

const BEGIN = '# BEGIN elastic-dns';
const END = '# END elastic-dns';
const NOTE = ' (kept by elastic-dns: changes in this block are overwritten)';

/** Where the block stands, its last line end included; `from` = `to`: where it would be put. */
export type Place = { ok: true; from: number; to: number } | { ok: false; reason: string };

export function findBlock(text: string): Place {
  const begins = [...text.matchAll(/^# BEGIN elastic-dns\b.*(?:\n|$)/gm)];
  const ends = [...text.matchAll(/^# END elastic-dns\b.*(?:\n|$)/gm)];
  const [begin] = begins;
  const [end] = ends;
  if (!begin && !end) {
    // A last line that nothing ends stays the last one.
    const at = text === '' || text.endsWith('\n') ? text.length : 0;
    return { ok: true, from: at, to: at };
  }
  if (begins.length > 1 || ends.length > 1 || !begin || !end || end.index < begin.index) {
    return {
      ok: false,
      reason: `has ${begins.length} lines "${BEGIN}" and ${ends.length} lines "${END}"; there has to be one of each, in this order: mend or remove them by hand`,
    };
  }
  return { ok: true, from: begin.index, to: end.index + end[0].length };
}

/** The text with these lines as its block; null: with none. */
export function replaceBlock(
  text: string,
  place: { from: number; to: number },
  lines: string | null,
): string {
  const block = lines === null ? '' : `${BEGIN}${NOTE}\n${lines}${END}\n`;
  return text.slice(0, place.from) + block + text.slice(place.to);
}
