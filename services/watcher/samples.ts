/**
 * Samples for the watcher's tests: records and registries without a log; files in memory with drawn changes, and what may
 * be seen in them.
 */
import fc from 'fast-check';
import { emptyChange, keyOf, Registry, type Instance, type StoreRecord } from '@elastic-dns/model';
import { sampleInstance } from '@elastic-dns/model/samples';
import { expect } from 'vitest';
import { readMarked, splitLines } from './marked-line.ts';
import { LEAVE_MS, REST_MS, type Write } from './slots.ts';

type InstanceRecord = Extract<StoreRecord, { kind: 'instance' }>;

/** Instance `number` of node-a as the registry keeps it. */
export function instanceRecord(number: number, overrides: Partial<Instance> = {}): InstanceRecord {
  return {
    kind: 'instance',
    instance: sampleInstance('node-a', number, overrides),
    event: `node-a/1/${number}`,
    logSequence: number,
  };
}

export function registryOf(records: readonly StoreRecord[]): Registry {
  const registry = new Registry();
  const change = emptyChange();
  for (const record of records) change.puts.set(keyOf(record), record);
  registry.apply(change);
  return registry;
}

export const ENGINE_LINES =
  '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\n172.17.0.2\t0c1f2a3b4c5d\n';

export type Wanted = Map<string, string[]>;

/** A file in memory; `upTo`: how many of the bytes of the write get in. */
export function apply(content: Buffer, write: Write, upTo = write.bytes.length): Buffer {
  const bytes = write.bytes.subarray(0, upTo);
  if (write.offset === null) return Buffer.concat([content, bytes]);
  expect(write.offset + write.bytes.length).toBeLessThanOrEqual(content.length);
  const after = Buffer.from(content);
  bytes.copy(after, write.offset);
  return after;
}

/** What stands in a file: the answers of ours by service, everything foreign, and what is neither. */
export function inspect(content: Buffer): {
  lines: Map<string, string[]>;
  foreign: string;
  broken: string[];
} {
  const lines = new Map<string, string[]>();
  const broken: string[] = [];
  let foreign = '';
  for (const { text, ended } of splitLines(content)) {
    const reading = readMarked(text);
    if (reading.kind === 'foreign') foreign += `${text}${ended ? '\n' : ''}`;
    if (reading.kind === 'broken') broken.push(text);
    if (reading.kind !== 'answer') continue;
    const key = reading.line.slice(reading.line.lastIndexOf(' ') + 1);
    lines.set(key, [...(lines.get(key) ?? []), reading.line]);
  }
  return { lines, foreign, broken };
}

export const services = [
  'api.shop',
  'web.shop',
  'db.a',
  `${'long-name-'.repeat(5)}x.shop`,
  `${'n'.repeat(63)}.${'m'.repeat(63)}`,
];

const wanted: fc.Arbitrary<Wanted> = fc
  .tuple(
    ...services.map(() =>
      fc.uniqueArray(
        fc
          .integer({ min: 1, max: 12 })
          .map((number) => (number > 9 ? `fd00::${number}` : `10.0.0.${number}`)),
        { maxLength: 8 },
      ),
    ),
  )
  .map((addresses) => {
    const lines = services.map((name, index): [string, string[]] => [
      name,
      (addresses[index] ?? []).map((address) =>
        index < 2 ? `${address} ${name.split('.')[0]} ${name}` : `${address} ${name}`,
      ),
    ]);
    return new Map(lines);
  });

/** A walk through states of the registry, with pauses between them. */
export const walk = fc.array(
  fc.record({ wanted, pauseMs: fc.constantFrom(0, 1, 5, LEAVE_MS, REST_MS + 1) }),
  {
    minLength: 1,
    maxLength: 12,
  },
);

/** What a reader must not see while the file goes through these states; null: all is as it should be. */
export function findFault(content: Buffer, states: readonly Wanted[]): string | null {
  const { lines, foreign, broken } = inspect(content);
  if (foreign !== ENGINE_LINES) return `foreign lines: ${foreign}`;
  if (broken.length > 0) return `broken line: ${broken.join()}`;
  for (const service of services) {
    const seen = lines.get(service) ?? [];
    const ever = states.map((state) => state.get(service) ?? []);
    const [first = []] = ever;
    const unknown = seen.find((line) => !ever.some((one) => one.includes(line)));
    if (unknown !== undefined) return `never stood there: ${unknown}`;
    if (ever.every((one) => String(one) === String(first)) && String(seen) !== String(first))
      return `${service} did not change, and reads ${String(seen)}`;
    if (seen.length === 0 && ever.every((one) => one.length > 0)) return `${service} has no answer`;
    const missing = first.find((line) => ever.every((one) => one.includes(line)) && !seen.includes(line));
    if (missing !== undefined) return `missing, though it stayed: ${missing}`;
  }
  return null;
}
