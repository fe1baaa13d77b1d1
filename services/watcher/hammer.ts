/**
 * For the tests of kind `server`: readers that hammer a hosts file from threads of their own, with what each read must
 * show; and a writer in a process of its own, to be killed in the middle of its work.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData, type MessagePort } from 'node:worker_threads';
import { InPlaceFile, SETTLE_MS } from './in-place-file.ts';
import { readMarked } from './marked-line.ts';
import { LEAVE_MS } from './slots.ts';

export interface HammerOptions {
  path: string;
  /** Bytes that one read call asks for: resolvers differ. */
  chunkBytes: number;
  /** Lines that stand there all the time. */
  stays: string[];
  /** A service that always has an answer, though its lines change. */
  answers: string | null;
  /** An engine rewrites the file now and then. */
  withEngine: boolean;
}

/** What a reader has seen. */
export interface Findings {
  reads: number;
  /** Reads that differed from the one before: how much of the writing was seen. */
  changes: number;
  /** Reads into which somebody else's rewriting fell: the file was empty, or shorter at their end than before. */
  cut: number;
  /** With an engine: reads that were held up for so long that its rewriting and ours may both have fallen into them. */
  held: number;
  /** Of all others: reads without a line that stands there all the time, or without any answer for the service. */
  missed: number;
  /** Lines that never stood there, at most a few. */
  broken: string[];
}

const NOTHING: Findings = { reads: 0, changes: 0, cut: 0, held: 0, missed: 0, broken: [] };

/** Readers that have started; `end` stops them and adds up what they saw. */
export interface Hammering {
  end(): Promise<Findings>;
}

export async function hammer(each: readonly HammerOptions[]): Promise<Hammering> {
  const workers = each.map((options) => new Worker(new URL(import.meta.url), { workerData: options }));
  const results = workers.map((worker) => {
    const { promise, resolve, reject } = Promise.withResolvers<Findings>();
    worker.on('error', reject);
    worker.on('message', (message: 'started' | Findings) => message !== 'started' && resolve(message));
    promise.catch(() => undefined);
    return promise;
  });
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
  return {
    end: async () => {
      for (const worker of workers) send(worker, 'end');
      const findings = await Promise.all(results);
      await Promise.all(workers.map((worker) => worker.terminate()));
      return findings.reduce((sum, one) => ({
        reads: sum.reads + one.reads,
        changes: sum.changes + one.changes,
        cut: sum.cut + one.cut,
        held: sum.held + one.held,
        missed: sum.missed + one.missed,
        broken: [...sum.broken, ...one.broken].slice(0, 5),
      }));
    },
  };
}

/** Once through the file as a resolver goes: from the first byte to the last, a piece at a time. */
function readThrough(
  path: string,
  buffer: Buffer,
  chunkBytes: number,
): { content: Buffer; becameShorter: boolean } {
  const file = openSync(path, 'r');
  let length = 0;
  try {
    const bytesBefore = fstatSync(file).size;
    for (let read = 1; read > 0; length += read)
      read = readSync(file, buffer, length, Math.min(chunkBytes, buffer.length - length), null);
    return { content: buffer.subarray(0, length), becameShorter: fstatSync(file).size < bytesBefore };
  } finally {
    closeSync(file);
  }
}

function check(content: Buffer, isQuick: boolean, options: HammerOptions, findings: Findings): void {
  const standing = new Set<string>();
  const broken: string[] = [];
  for (const text of content.toString('latin1').split('\n')) {
    const reading = readMarked(text);
    if (reading.kind === 'answer') standing.add(reading.line);
    const isForeign = reading.kind === 'foreign' && (text === '' || /^[0-9a-f:.]+\t\S/.test(text));
    if (reading.kind === 'broken' || (reading.kind === 'foreign' && !isForeign)) broken.push(text);
  }
  if (findings.broken.length < 5) findings.broken.push(...broken);
  const hasAnswer =
    options.answers === null || [...standing].some((line) => line.endsWith(` ${String(options.answers)}`));
  // A reader that was held up for longer than that may come too late for old lines, and too early for new ones.
  if (!options.stays.every((line) => standing.has(line)) || (isQuick && !hasAnswer)) findings.missed++;
}

function hammerOn(options: HammerOptions): void {
  const findings: Findings = { ...NOTHING, broken: [] };
  const buffer = Buffer.alloc(4 << 20);
  let before = Buffer.alloc(0);
  let fullBytes = 0;
  const turn = (): void => {
    for (let count = 0; count < 20; count++) {
      const beganMs = performance.now();
      const { content, becameShorter } = readThrough(options.path, buffer, options.chunkBytes);
      const tookMs = performance.now() - beganMs;
      findings.reads++;
      if (content.equals(before)) continue;
      findings.changes++;
      // An engine's own lines come and go at the edges.
      if (content.length > fullBytes) fullBytes = content.length - 200;
      // The file never becomes shorter by our hand, so this was somebody else, and is not judged.
      if (becameShorter || content.length < fullBytes) findings.cut++;
      else if (options.withEngine && tookMs > SETTLE_MS / 2) findings.held++;
      else check(content, tookMs < LEAVE_MS / 2, options, findings);
      before = Buffer.from(content);
    }
    next = setImmediate(turn);
  };
  let next = setImmediate(turn);
  parentPort?.on('message', () => {
    clearImmediate(next);
    send(parentPort, findings);
  });
  send(parentPort, 'started');
}

function send(to: Worker | MessagePort | null, message: 'started' | 'end' | Findings): void {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  to?.postMessage(message);
}

/** The lines of the round: `calm.shop` is the same in each, `busy.shop` has other addresses, others come and go. */
export function linesOfRound(round: number): Map<string, string[]> {
  const busy = Array.from(
    { length: 1 + (round % 4) },
    (_, index) => `10.1.${(round >> 2) % 250}.${index + 1}`,
  );
  const lines = new Map([
    ['calm.shop', ['10.0.0.1 calm.shop', '10.0.0.2 calm.shop']],
    ['busy.shop', busy.map((address) => `${address} busy busy.shop`)],
  ]);
  // More than a page of the file.
  for (let index = 0; index < 80; index++)
    lines.set(`steady${index}.shop`, [`10.2.0.${index} steady${index}.shop`]);
  if (round % 3 === 0) lines.set('sometimes.shop', [`10.3.0.1 sometimes.shop`]);
  return lines;
}

/** A file that holds the lines of whichever round is asked for. */
export function openRounds(path: string): {
  file: InPlaceFile;
  show: (round: number, nowMs: number) => number | null;
} {
  let lines = linesOfRound(0);
  const observer = { wrote: () => undefined, guarded: () => undefined };
  const source = { keys: () => lines.keys(), linesOf: (key: string) => lines.get(key) ?? [] };
  const file = new InPlaceFile(path, source, observer);
  return {
    file,
    show: (round, nowMs) => {
      lines = linesOfRound(round);
      for (const key of ['busy.shop', 'sometimes.shop']) file.touch(key);
      return file.flush(nowMs);
    },
  };
}

if (!isMainThread && workerData !== null && typeof workerData === 'object' && 'chunkBytes' in workerData) {
  hammerOn(workerData as HammerOptions);
} else if (import.meta.main) {
  // A writer that never rests: `node hammer.ts <path> <first round>`.
  const { show } = openRounds(process.argv[2] ?? '');
  process.stdout.write('writes\n');
  for (let round = Number(process.argv[3]); ; round++) show(round, Date.now());
}
