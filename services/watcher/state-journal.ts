/**
 * The last good state of the registry on disk, from which the watcher starts while the store is out of reach (S7). Written
 * and read by watcher.ts.
 *
 * One file, a journal: lines of puts and deletes, and lines that say which revision all before them add up to. What comes
 * after the last such line was cut off by a kill or a full disk, and does not count. So saving costs as much as what
 * changed; now and then the journal is written anew with what is there still.
 */
import { readFileSync } from 'node:fs';
import { mkdir, open, rename, unlink, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { emptyChange, encodeRecord, mergeChange, type Change, type Registry } from '@elastic-dns/model';
import type { LastGoodState } from '@elastic-dns/registry-store/mirror';

const FORMAT = 'elastic-dns registry 1';
/** Records of a line: the writing of a large registry lets others have their turn between two lines. */
const LINE_RECORDS = 1_000;
/** A journal is written anew when it has grown by this and to twice what it was. */
const GROWTH_BYTES = 1 << 20;

type Line = { put: [key: string, value: string][]; delete: string[] } | { revision: string; atMs: number };

/** What a state is of, and when it was the store's. */
export type Mark = Pick<LastGoodState, 'revision' | 'atMs'>;

export class StateJournal {
  readonly #path: string;
  readonly #registry: Registry;
  #pending: Change = emptyChange();
  #file: FileHandle | null = null;
  #bytes = 0;
  /** Size after it was last written anew; null: the file is not to be added to. */
  #baseBytes: number | null = null;

  constructor(folder: string, registry: Registry) {
    this.#path = path.join(folder, 'registry.journal');
    this.#registry = registry;
  }

  /** What was saved last; null when there is nothing that can be used. */
  load(): LastGoodState | null {
    let text: string;
    try {
      text = readFileSync(this.#path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
    const [format, ...lines] = text.split('\n');
    if (format !== FORMAT) return null;
    const entries = new Map<string, string>();
    let open: Extract<Line, { put: unknown }>[] = [];
    let state: Mark | null = null;
    for (const line of lines) {
      const parsed = parseLine(line);
      if (!parsed) break;
      if ('put' in parsed) {
        open.push(parsed);
        continue;
      }
      for (const change of open) {
        for (const [key, value] of change.put) entries.set(key, value);
        for (const key of change.delete) entries.delete(key);
      }
      open = [];
      state = { revision: BigInt(parsed.revision), atMs: parsed.atMs };
    }
    return state && { ...state, entries: entriesOf(entries) };
  }

  /** To be saved with the next `save`. */
  note(change: Change): void {
    mergeChange(this.#pending, change);
  }

  /**
   * Saves what was noted since; `mark` tells what the registry is at when it is asked. Rejects when it cannot be written:
   * the next one is written from the registry then, so nothing that was noted is lost.
   */
  async save(mark: () => Mark): Promise<void> {
    const base = this.#baseBytes;
    if (base === null || this.#bytes > Math.max(2 * base, base + GROWTH_BYTES)) await this.#writeAnew(mark);
    else await this.#add(mark);
  }

  async close(): Promise<void> {
    this.#baseBytes = null;
    const file = this.#file;
    this.#file = null;
    await file?.close();
  }

  async #add(mark: () => Mark): Promise<void> {
    const { lines, last } = this.#takePending(mark);
    try {
      for (const line of lines) await this.#append(line);
      await this.#append(last);
      await this.#file?.datasync();
    } catch (error) {
      // Whether a part of it is in the file is not known: the next one is written anew, from the registry.
      await this.close();
      throw error;
    }
  }

  async #writeAnew(mark: () => Mark): Promise<void> {
    await this.close();
    await mkdir(path.dirname(this.#path), { recursive: true, mode: 0o700 });
    const temporary = `${this.#path}.new`;
    this.#pending = emptyChange();
    this.#file = await open(temporary, 'w', 0o600);
    this.#bytes = 0;
    try {
      await this.#write(`${FORMAT}\n`);
      // The registry may change meanwhile. What does is noted, and added before the line that makes it count.
      let put: [string, string][] = [];
      for (const record of this.#registry.records.values()) {
        const { key, value } = encodeRecord(record);
        put.push([key, value]);
        if (put.length < LINE_RECORDS) continue;
        await this.#append({ put, delete: [] });
        put = [];
      }
      await this.#append({ put, delete: [] });
      const { lines, last } = this.#takePending(mark);
      for (const line of lines) await this.#append(line);
      await this.#append(last);
      await this.#file.sync();
      await rename(temporary, this.#path);
      this.#baseBytes = this.#bytes;
    } catch (error) {
      await this.close();
      await unlink(temporary).catch(() => undefined);
      throw error;
    }
  }

  /** What was noted, and the line that makes it count, as of one moment. */
  #takePending(mark: () => Mark): { lines: Iterable<Line>; last: Line } {
    const lines = linesOf(this.#pending);
    this.#pending = emptyChange();
    const { revision, atMs } = mark();
    return { lines, last: { revision: String(revision), atMs } };
  }

  async #append(line: Line): Promise<void> {
    await this.#write(`${JSON.stringify(line)}\n`);
  }

  async #write(text: string): Promise<void> {
    await this.#file?.writeFile(text);
    this.#bytes += Buffer.byteLength(text);
  }
}

function* linesOf(change: Change): Generator<Line> {
  const puts = [...change.puts.values()];
  const deletes = [...change.deletes];
  for (let at = 0; at < Math.max(puts.length, deletes.length); at += LINE_RECORDS) {
    const put = puts.slice(at, at + LINE_RECORDS).map((record): [string, string] => {
      const { key, value } = encodeRecord(record);
      return [key, value];
    });
    yield { put, delete: deletes.slice(at, at + LINE_RECORDS) };
  }
}

function parseLine(text: string): Line | null {
  try {
    const line = JSON.parse(text) as Partial<Record<'put' | 'delete' | 'revision' | 'atMs', unknown>>;
    if (Array.isArray(line.put) && Array.isArray(line.delete)) return line as Line;
    return typeof line.revision === 'string' && typeof line.atMs === 'number' ? (line as Line) : null;
  } catch {
    return null;
  }
}

function* entriesOf(entries: ReadonlyMap<string, string>): Generator<{ key: string; value: string }> {
  for (const [key, value] of entries) yield { key, value };
}
