/** The outcome of reading something that may be wrong; used wherever a refusal is an answer, not an exception. */
export type Result<T> = { ok: true; value: T } | { ok: false; reason: string };

export function accept<T>(value: T): Result<T> {
  return { ok: true, value };
}

export function refuse(reason: string): { ok: false; reason: string } {
  return { ok: false, reason };
}

/** Longest piece of foreign text that is repeated in a message. */
const MAX_QUOTED_LENGTH = 80;

/**
 * Foreign text made safe to show: quoted, cut to 80 characters, everything but printable ASCII escaped, so
 * that a hostile label can neither forge a log line nor reorder a terminal.
 */
export function quote(text: string): string {
  const cut = text.length > MAX_QUOTED_LENGTH ? `${text.slice(0, MAX_QUOTED_LENGTH)}...` : text;
  return JSON.stringify(cut).replace(
    /[^\x20-\x7e]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
