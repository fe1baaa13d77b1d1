/**
 * Events to publish and ways to read them back, for tests only. Called by `contract.ts` and the adapters' tests.
 */
import type { LogEntry } from '@elastic-dns/model';
import type { Log, Publication, ReadOptions } from './log.ts';

/** The event with this number of that node. */
export function makePublication(number: number, node = 'n1', data = `{"number":${number}}`): Publication {
  return { node, type: 'instance.started', id: `${node}/1/${number}`, data };
}

/** Publishes events `from` to `to`, all at once. */
export function publishRange(log: Log, from: number, to: number, node = 'n1'): Promise<unknown> {
  const numbers = Array.from({ length: to - from + 1 }, (_, index) => from + index);
  return Promise.all(numbers.map((number) => log.publish(makePublication(number, node))));
}

/** Everything that is there, in batches. */
export async function readBatches(log: Log, options: Partial<ReadOptions> = {}): Promise<LogEntry[][]> {
  const batches: LogEntry[][] = [];
  for await (const batch of log.read({ from: 1, follow: false, ...options })) batches.push(batch);
  return batches;
}

export async function readAll(log: Log, options: Partial<ReadOptions> = {}): Promise<LogEntry[]> {
  return (await readBatches(log, options)).flat();
}

/** Reads on in the background until it is stopped; `ended` tells how that went. */
export function follow(log: Log, options: Partial<ReadOptions> = {}) {
  const abort = new AbortController();
  const entries: LogEntry[] = [];
  const ended = (async () => {
    for await (const batch of log.read({ from: 1, signal: abort.signal, ...options })) entries.push(...batch);
  })();
  // Looked at by those who care how it ended.
  ended.catch(() => {});
  return {
    entries,
    ended,
    sequences: () => entries.map(({ sequence }) => sequence),
    stop: () => {
      abort.abort();
      return ended;
    },
  };
}
