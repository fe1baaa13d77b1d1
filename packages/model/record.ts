/**
 * Records: everything that the registry consists of, one per store key. `fold` makes them, the registrar writes
 * them, every mirror reads them back. Key codec and value codec live here together, so that
 * `decodeRecord(encodeRecord(record))` is the record again.
 *
 * /dns/<namespace>/<service>/<id>                    an instance that answers hold; value is a SkyDNS message
 * /elastic-dns/instances/<namespace>/<service>/<id>  an instance that they do not hold
 * /elastic-dns/nodes/<node>                          how far the node's events have been folded
 * /elastic-dns/refused/<id>                          a container that got no name, and why
 * /elastic-dns/tombstones/<id>                       a removal that a late event must not undo
 * /elastic-dns/set-aside/<log sequence>              an event that could not be folded, and why
 * /elastic-dns/cursor                                the log position that all of this adds up to
 */
import { z } from 'zod';
import { instanceSchema, isAnswerable, labelSchema, refusalSchema, textSchema } from './instance.ts';
import { parseEventId } from './order.ts';
import { accept, quote, refuse, type Result } from './result.ts';

/** Everything of ours lies in this range; keys of others between the two prefixes are not ours. */
export const REGISTRY_RANGE = { from: '/dns/', to: '/elastic-dns0' } as const;
export const CURSOR_KEY = '/elastic-dns/cursor';
/** Not a record: the leader's lease is the store's business and is outside the fold. */
export const LEADER_KEY = '/elastic-dns/leader';

/** Seconds that DNS servers on the keys let clients keep an answer; a key without it would be served with nonsense. */
const TTL_SECONDS = 1;
/** SkyDNS' own defaults; equal for all, so that no instance is preferred. */
const PRIORITY = 10;
const WEIGHT = 100;

const eventIdSchema = z.string().refine((text) => parseEventId(text).ok, 'is not an event id');
const countSchema = z.int().min(0);
const orderSchema = z.object({ epoch: countSchema, sequence: countSchema });

/** Which event a record was made from, and where in the log it stands (S10). */
const traceShape = { event: eventIdSchema, logSequence: countSchema };

const instanceRecordSchema = z.object({
  kind: z.literal('instance'),
  instance: instanceSchema,
  ...traceShape,
});
const refusalRecordSchema = z.object({ kind: z.literal('refused'), refusal: refusalSchema, ...traceShape });
const tombstoneRecordSchema = z.object({
  kind: z.literal('tombstone'),
  id: labelSchema,
  reason: textSchema,
  ...traceShape,
});
const nodeRecordSchema = z.object({
  kind: z.literal('node'),
  node: labelSchema,
  zone: labelSchema.nullable(),
  ipv4: z.string().nullable(),
  ipv6: z.string().nullable(),
  /** The newest event that was folded. */
  latest: orderSchema,
  /** The newest snapshot that was folded: everything older is settled by it. Null: none yet. */
  snapshot: orderSchema.nullable(),
  /** When `latest` was observed, by the node's clock; for people. */
  observedAtMs: countSchema,
});
const setAsideRecordSchema = z.object({
  kind: z.literal('set-aside'),
  logSequence: countSchema,
  publisher: z.string(),
  code: z.enum(['malformed', 'newer-schema', 'unknown-type', 'foreign-node']),
  reason: z.string(),
  atMs: countSchema,
});
const cursorRecordSchema = z.object({
  kind: z.literal('cursor'),
  incarnation: z.string(),
  sequence: countSchema,
  reducer: countSchema,
});

export type InstanceRecord = z.infer<typeof instanceRecordSchema>;
export type RefusalRecord = z.infer<typeof refusalRecordSchema>;
export type TombstoneRecord = z.infer<typeof tombstoneRecordSchema>;
export type NodeRecord = z.infer<typeof nodeRecordSchema>;
export type SetAsideRecord = z.infer<typeof setAsideRecordSchema>;
export type CursorRecord = z.infer<typeof cursorRecordSchema>;
/** What the registry knows of one container: exactly one of the three. */
export type SubjectRecord = InstanceRecord | RefusalRecord | TombstoneRecord;
export type StoreRecord = SubjectRecord | NodeRecord | SetAsideRecord | CursorRecord;

export function keyOf(record: StoreRecord): string {
  switch (record.kind) {
    case 'instance': {
      const { namespace, service, id } = record.instance;
      return `${isAnswerable(record.instance) ? '/dns' : '/elastic-dns/instances'}/${namespace}/${service}/${id}`;
    }
    case 'refused':
      return `/elastic-dns/refused/${record.refusal.id}`;
    case 'tombstone':
      return `/elastic-dns/tombstones/${record.id}`;
    case 'node':
      return `/elastic-dns/nodes/${record.node}`;
    case 'set-aside':
      return `/elastic-dns/set-aside/${record.logSequence}`;
    case 'cursor':
      return CURSOR_KEY;
  }
}

/** The container that a record is about. */
export function subjectOf(record: SubjectRecord): string {
  switch (record.kind) {
    case 'instance':
      return record.instance.id;
    case 'refused':
      return record.refusal.id;
    case 'tombstone':
      return record.id;
  }
}

/** The record's value in the store. What the key already says is left out of an instance's. */
export function encodeRecord(record: StoreRecord): { key: string; value: string } {
  return { key: keyOf(record), value: JSON.stringify(valueOf(record)) };
}

function valueOf(record: StoreRecord): unknown {
  if (record.kind === 'instance') {
    const { namespace: _namespace, service: _service, id: _id, ...facts } = record.instance;
    const { event, logSequence } = record;
    const host = facts.ipv4 ?? facts.ipv6;
    const port = facts.ports[0]?.port;
    return {
      host,
      ...(port === undefined ? {} : { port }),
      ttl: TTL_SECONDS,
      priority: PRIORITY,
      weight: WEIGHT,
      ...facts,
      event,
      logSequence,
    };
  }
  const { kind: _kind, ...value } = record;
  return value;
}

const INSTANCE_KEY = /^(?:\/dns|\/elastic-dns\/instances)\/([^/]+)\/([^/]+)\/([^/]+)$/;
const OTHER_KEY = /^\/elastic-dns\/(nodes|refused|tombstones|set-aside|cursor)(?:\/[^/]+)?$/;

/** Whether a key of the range is the registry's; other keys are not even looked at. */
export function isRegistryKey(key: string): boolean {
  return INSTANCE_KEY.test(key) || OTHER_KEY.test(key);
}

/** Reads a key and its value; refuses what this program would not have written at that key. */
export function decodeRecord(key: string, value: string): Result<StoreRecord> {
  let json: unknown;
  try {
    json = JSON.parse(value);
  } catch {
    return refuse(`${quote(key)}: the value is not JSON`);
  }
  const parsed = parseValue(key, json);
  if (!parsed?.success)
    return refuse(`${quote(key)}: ${parsed ? parsed.error.issues[0]?.message : 'not a key of the registry'}`);
  if (keyOf(parsed.data) !== key)
    return refuse(`${quote(key)}: the value belongs at ${quote(keyOf(parsed.data))}`);
  return accept(parsed.data);
}

function parseValue(key: string, json: unknown): z.ZodSafeParseResult<StoreRecord> | null {
  if (typeof json !== 'object' || json === null) return null;
  const instance = INSTANCE_KEY.exec(key);
  if (instance) {
    const [, namespace, service, id] = instance;
    const { event, logSequence, ...facts } = json as Record<string, unknown>;
    return instanceRecordSchema.safeParse({
      kind: 'instance',
      instance: { ...facts, namespace, service, id },
      event,
      logSequence,
    });
  }
  const kind: string = OTHER_KEY.exec(key)?.[1] ?? '';
  switch (kind) {
    case 'nodes':
      return nodeRecordSchema.safeParse({ kind: 'node', ...json });
    case 'refused':
      return refusalRecordSchema.safeParse({ kind: 'refused', ...json });
    case 'tombstones':
      return tombstoneRecordSchema.safeParse({ kind: 'tombstone', ...json });
    case 'set-aside':
      return setAsideRecordSchema.safeParse({ kind: 'set-aside', ...json });
    case 'cursor':
      return cursorRecordSchema.safeParse({ kind: 'cursor', ...json });
    default:
      return null;
  }
}
