/**
 * Where our lines stand in a hosts file that is changed in place (a container's, which is one bind-mounted inode: a
 * rename over it is invisible inside), and in which order bytes are written so that a reader at any moment sees each
 * line whole, old or new, and never misses a name that stays (S8, S9). Pure: it plans, in-place-file.ts writes.
 *
 * What the kernel gives: one byte is written at once; more are not, even inside one page (a single pwrite of a line
 * was read half old and half new 20 times in a million on ext4 and on tmpfs), and a reader may stop between any two
 * reads. So nothing here relies on more than that a reader goes forward:
 * - A line comes into a slot of room (a comment): all of it but the first byte, then the first byte.
 * - A line goes by its first byte becoming `#`. The slot rests until every reader that had begun with the line has long
 *   finished, and only then is room again. Without the rest, the same measurement found torn lines by the thousand.
 * - New lines come before old ones go. Order counts (the first address is the one that most callers take), so a line
 *   that cannot stand between its neighbours takes those behind it along to later slots. Where new lines stand before
 *   old ones, the old ones stay a moment longer, for a reader that is past the new ones already.
 * - The file only grows, in steps, at its end; never a truncation. No slot lies across a multiple of 512, so whatever
 *   part of a step gets in (a kill, a full disk), or one read brings, ends with a whole line.
 * It does not shrink: the engine makes the file anew whenever the container starts.
 */
import { keyOfLine } from './hosts-text.ts';
import {
  formatMarked,
  MARK_BYTES,
  readMarked,
  SHORTEST_BYTES,
  slotBytesOf,
  splitLines,
} from './marked-line.ts';

/** How long a slot that lost its line rests: longer than a reader can be held up inside one read. */
export const REST_MS = 1_000;
/** How long old lines stay when the new ones stand before them: longer than reading a hosts file takes. */
export const LEAVE_MS = 20;

/** Divides pages, and the buffers of every resolver that reads a piece at a time. */
const BLOCK_BYTES = 512;
/**
 * The last room before a foreign line or the end of the file is never used. Should an engine drop lines before ours in
 * the very moment between look and write, what is written lands that much further behind: on slots of ours, which are
 * mended, and not on what is somebody else's (S8).
 */
const GUARD_BYTES = BLOCK_BYTES;
/** Room that a step of growth brings beyond what is needed at once: at least this many slots, or this share. */
const SPARE_SLOTS = 8;
const SPARE_SHARE = 1 / 8;
/** Slots of this size are the spare ones: most lines fit. */
const SPARE_BYTES = slotBytesOf('');

/** `offset` null: at the end of the file, wherever that is by then. */
export interface Write {
  offset: number | null;
  bytes: Buffer;
}

interface Slot {
  offset: number;
  length: number;
}

interface LineSlot extends Slot {
  line: string;
  sinceMs: number;
}

/** How a service's lines come to stand in their order: from slots that have them, in room, at the end of the file. */
interface Arrangement {
  stay: Set<LineSlot>;
  come: LineSlot[];
  append: string[];
}

interface Waiting extends Slot {
  untilMs: number;
}

export class Slots {
  /** Lines by service, in the order of the file. */
  readonly #lines = new Map<string, LineSlot[]>();
  /** Offsets of room by length, ascending. */
  readonly #room = new Map<number, number[]>();
  /** Lines that have copies elsewhere and go soon; earliest first. */
  #leaving: Waiting[] = [];
  /** Slots without a line that are no room yet; earliest first. */
  #resting: Waiting[] = [];
  #size = 0;
  #ended = true;

  /** Learns from the file itself what stands where; whoever wrote it may have been killed while writing. */
  constructor(content: Buffer, nowMs: number) {
    let roomSinceForeign: Slot[] = [];
    const endRun = (end: number): void => {
      const usable = roomSinceForeign.filter(({ offset, length }) => offset + length <= end - GUARD_BYTES);
      this.#resting.push(...usable.map((slot) => ({ ...slot, untilMs: nowMs + REST_MS })));
      roomSinceForeign = [];
    };
    for (const { offset, length, text, ended } of splitLines(content)) {
      const reading = readMarked(text);
      if (reading.kind === 'foreign') endRun(offset);
      else if (reading.kind === 'room' && ended) roomSinceForeign.push({ offset, length });
      else if (reading.kind === 'answer' && ended) {
        // Nobody has changed the file for long enough, or it would not be read.
        this.#stand({ offset, length, line: reading.line, sinceMs: -Infinity });
      } else this.#leaving.push({ offset, length, untilMs: nowMs });
      this.#ended = ended;
    }
    endRun(content.length);
    this.#size = content.length;
  }

  /** Bytes of the file once all that was planned is written. */
  get size(): number {
    return this.#size;
  }

  /** The services that have lines. */
  get keys(): Iterable<string> {
    return this.#lines.keys();
  }

  /** When `plan` has to be called again even if nothing changes; null: it need not. */
  get dueMs(): number | null {
    return this.#leaving[0]?.untilMs ?? null;
  }

  /**
   * What to write, in this order, so that each given service has exactly these lines. Once it is all written, `this`
   * says what stands in the file; when writing fails, learn anew from the file.
   */
  plan(wanted: Iterable<readonly [key: string, lines: readonly string[]]>, nowMs: number): Write[] {
    this.#endRests(nowMs);
    const writes: Write[] = [];
    const appended: string[] = [];
    const gone: Slot[] = takeDue(this.#leaving, nowMs);
    for (const [key, lines] of wanted) {
      const before = this.#lines.get(key) ?? [];
      if (isSame(before, lines)) continue;
      const { stay, come, append, anew } = this.#arrange(before, lines, nowMs);
      for (const slot of come) writes.push(...this.#fill(slot));
      appended.push(...append);
      const go = before.filter((slot) => !stay.has(slot));
      const standing = [...stay, ...come].sort((a, b) => a.offset - b.offset);
      if (lines.length > 0) this.#lines.set(key, standing);
      else this.#lines.delete(key);
      const lastGone = go.at(-1)?.offset ?? 0;
      const isSeen = ({ offset, sinceMs }: LineSlot): boolean =>
        offset > lastGone || sinceMs + LEAVE_MS <= nowMs;
      // Whoever reads now and has not come to the old lines yet has to find the name in a line that stays.
      if (lines.length === 0 || (!anew && (append.length > 0 || standing.some(isSeen)))) gone.push(...go);
      else this.#leaving.push(...go.map((slot) => ({ ...slot, untilMs: nowMs + LEAVE_MS })));
    }
    if (appended.length > 0) writes.push(this.#grow(appended, nowMs));
    for (const { offset, length } of gone) {
      writes.push({ offset, bytes: Buffer.from('#') });
      this.#resting.push({ offset, length, untilMs: nowMs + REST_MS });
    }
    return writes;
  }

  /** First with as many lines staying as possible; if the room behind them does not do, all `anew` from the front. */
  #arrange(
    before: readonly LineSlot[],
    lines: readonly string[],
    nowMs: number,
  ): Arrangement & { anew: boolean } {
    const arranged = this.#arrangeFrom(matchInOrder(before, lines), lines, nowMs);
    if (arranged.append.length > 0 && before.length > 0) {
      const anew = this.#arrangeFrom([], lines, nowMs);
      if (anew.append.length === 0) return { ...anew, anew: true };
    }
    return { ...arranged, anew: false };
  }

  #arrangeFrom(
    matches: readonly (LineSlot | undefined)[],
    lines: readonly string[],
    nowMs: number,
  ): Arrangement {
    const stay = new Set<LineSlot>();
    const come: LineSlot[] = [];
    const append: string[] = [];
    let last = -1;
    for (const [index, line] of lines.entries()) {
      const match = matches[index];
      if (match && match.offset > last) {
        stay.add(match);
        last = match.offset;
        continue;
      }
      const length = slotBytesOf(line);
      const offset = firstAbove(this.#room.get(length) ?? [], last);
      if (offset === undefined) append.push(line);
      else come.push({ offset, length, line, sinceMs: nowMs });
      last = offset ?? Infinity;
    }
    return { stay, come, append };
  }

  #fill({ offset, length, line }: LineSlot): Write[] {
    const room = this.#room.get(length) ?? [];
    room.splice(indexAbove(room, offset) - 1, 1);
    const bytes = Buffer.from(formatMarked(line, length));
    return [
      { offset: offset + 1, bytes: bytes.subarray(1, -MARK_BYTES) },
      { offset, bytes: bytes.subarray(0, 1) },
    ];
  }

  /** One write at the end of the file: a line that brings the end to a whole block, the new lines, and room. */
  #grow(appended: readonly string[], nowMs: number): Write {
    const parts: string[] = [];
    const add = (text: string): void => {
      parts.push(text);
      this.#size += text.length;
    };
    const addRoom = (): void => {
      addTo(this.#room, SPARE_BYTES, this.#size);
      add(formatMarked(null, SPARE_BYTES));
    };
    if (!this.#ended) add('\n');
    const missing = -this.#size & (BLOCK_BYTES - 1);
    if (missing > 0) add(formatMarked(null, missing < SHORTEST_BYTES ? missing + BLOCK_BYTES : missing));
    for (const line of appended) {
      const length = slotBytesOf(line);
      while (liesAcross(this.#size, length)) addRoom();
      this.#stand({ offset: this.#size, length, line, sinceMs: nowMs });
      add(formatMarked(line, length));
    }
    const spare = Math.max(SPARE_SLOTS, Math.ceil(appended.length * SPARE_SHARE));
    const end = this.#size + spare * SPARE_BYTES;
    while (this.#size < end || this.#size % BLOCK_BYTES !== 0) addRoom();
    for (let guard = 0; guard < GUARD_BYTES; guard += SPARE_BYTES) add(formatMarked(null, SPARE_BYTES));
    this.#ended = true;
    return { offset: null, bytes: Buffer.from(parts.join('')) };
  }

  /** Behind all other lines of its service. */
  #stand(slot: LineSlot): void {
    const key = keyOfLine(slot.line);
    const lines = this.#lines.get(key);
    if (lines) lines.push(slot);
    else this.#lines.set(key, [slot]);
  }

  #endRests(nowMs: number): void {
    for (const { offset, length } of takeDue(this.#resting, nowMs)) {
      // The engine shifts lines when it drops one of its own before them: such a slot is not used again.
      if (!liesAcross(offset, length)) addTo(this.#room, length, offset);
    }
  }
}

function isSame(slots: readonly LineSlot[], lines: readonly string[]): boolean {
  return slots.length === lines.length && slots.every(({ line }, index) => line === lines[index]);
}

/** For each line the slot that has it already, as far as their order allows. */
function matchInOrder(slots: readonly LineSlot[], lines: readonly string[]): (LineSlot | undefined)[] {
  const known = new Set(slots.map(({ line }) => line));
  let next = 0;
  return lines.map((line) => {
    if (!known.has(line)) return undefined;
    for (let index = next; index < slots.length; index++) {
      if (slots[index]?.line !== line) continue;
      next = index + 1;
      return slots[index];
    }
    return undefined;
  });
}

function liesAcross(offset: number, length: number): boolean {
  return (offset % BLOCK_BYTES) + length > BLOCK_BYTES;
}

/** Takes what is due off the front of a list that is in the order of its times. */
function takeDue(waiting: Waiting[], nowMs: number): Waiting[] {
  const later = waiting.findIndex(({ untilMs }) => untilMs > nowMs);
  return waiting.splice(0, later === -1 ? waiting.length : later);
}

function addTo(room: Map<number, number[]>, length: number, offset: number): void {
  const offsets = room.get(length);
  if (!offsets) room.set(length, [offset]);
  else offsets.splice(indexAbove(offsets, offset), 0, offset);
}

function firstAbove(ascending: readonly number[], bound: number): number | undefined {
  return ascending[indexAbove(ascending, bound)];
}

/** Index of the first that is larger; the length when none is. */
function indexAbove(ascending: readonly number[], bound: number): number {
  let low = 0;
  for (let high = ascending.length; low < high;) {
    const middle = (low + high) >>> 1;
    if ((ascending[middle] ?? Infinity) > bound) high = middle;
    else low = middle + 1;
  }
  return low;
}
