/**
 * Events: what agents publish and the log keeps. A CloudEvents 1.0 envelope in JSON around typed data. The agent
 * encodes them, the registrar folds them, `elastic-dns events` shows them. Decoding never throws: what cannot be
 * taken comes back with its reason, to be set aside (S12).
 */
import { z } from 'zod';
import {
  instanceSchema,
  isReachableIPv4,
  isReachableIPv6,
  labelSchema,
  refusalSchema,
  textSchema,
} from './instance.ts';
import { formatEventId, parseEventId, type EventId } from './order.ts';
import { quote } from './result.ts';

/**
 * The shape of `data`. New optional fields keep the number, as older readers drop what they do not know; any other
 * change raises it, and readers set newer events aside.
 */
export const SCHEMA_VERSION = 1;

/** What the log hands to its readers. */
export interface LogEntry {
  /** The event's place in the log. */
  sequence: number;
  /** Which log: another one has another incarnation. */
  incarnation: string;
  /** The publisher, from the subject, which the broker vouches for. */
  node: string;
  /** The envelope as JSON text, unchecked. */
  data: string;
  /** When the log took it, ms since 1970; for people, never for order (S5). */
  atMs: number;
}

const snapshotSchema = z.object({
  zone: labelSchema.nullable(),
  ipv4: z.string().refine(isReachableIPv4, 'is not a reachable IPv4 address').nullable(),
  ipv6: z.string().refine(isReachableIPv6, 'is not a reachable IPv6 address').nullable(),
  /** Complete: what is not in it does not run on the node. */
  instances: z.array(instanceSchema),
  refused: z.array(refusalSchema),
});
export type NodeSnapshot = z.infer<typeof snapshotSchema>;

const instanceDataSchema = z.object({ instance: instanceSchema });
const stoppedSchema = z.object({ id: labelSchema, reason: textSchema });

const dataSchemas = {
  'node.snapshot': snapshotSchema,
  'instance.started': instanceDataSchema,
  'instance.ready': instanceDataSchema,
  'instance.unready': instanceDataSchema,
  'instance.stopping': instanceDataSchema,
  'instance.stopped': stoppedSchema,
  'instance.refused': refusalSchema,
} as const;

export type EventType = keyof typeof dataSchemas;

/** An event's type with its data, as one union. */
export type EventBody = { [T in EventType]: { type: T; data: z.infer<(typeof dataSchemas)[T]> } }[EventType];

export type Event = EventBody & {
  id: EventId;
  /** When it was observed, by the node's clock, ms since 1970; for people, never for order (S5). */
  observedAtMs: number;
  /** What led to it, in words: the engine's event, a timer, an operator (S10). */
  cause: string;
};

const envelopeSchema = z.object({
  specversion: z.literal('1.0'),
  id: z.string(),
  type: z.string(),
  schemaversion: z.int().min(1),
  time: z.iso.datetime(),
  cause: textSchema,
  data: z.unknown(),
});

/** The event as JSON text, ready for the log. */
export function encodeEvent(event: Event): string {
  return JSON.stringify({
    specversion: '1.0',
    id: formatEventId(event.id),
    source: `/nodes/${event.id.node}`,
    type: event.type,
    schemaversion: SCHEMA_VERSION,
    time: new Date(event.observedAtMs).toISOString(),
    datacontenttype: 'application/json',
    cause: event.cause,
    data: event.data,
  });
}

/** Why an event was set aside; a metric's label, so a closed set. */
export type SetAsideCode = 'malformed' | 'newer-schema' | 'unknown-type' | 'foreign-node';

export type Decoded = { ok: true; event: Event } | { ok: false; code: SetAsideCode; reason: string };

/** Reads and checks one entry. Fields that this version does not know are dropped. */
export function decodeEvent(entry: Pick<LogEntry, 'node' | 'data'>): Decoded {
  let json: unknown;
  try {
    json = JSON.parse(entry.data);
  } catch {
    return setAside('malformed', `is not JSON: ${quote(entry.data)}`);
  }
  const envelope = envelopeSchema.safeParse(json);
  if (!envelope.success) return setAside('malformed', `envelope: ${describeIssues(envelope.error)}`);
  const { id: idText, type, schemaversion, time, cause, data } = envelope.data;
  const id = parseEventId(idText);
  if (!id.ok) return setAside('malformed', `id ${id.reason}`);
  if (id.value.node !== entry.node) {
    return setAside(
      'foreign-node',
      `${quote(entry.node)} published it in the name of ${quote(id.value.node)}`,
    );
  }
  if (schemaversion > SCHEMA_VERSION) {
    return setAside(
      'newer-schema',
      `has schema version ${schemaversion}; this program knows up to ${SCHEMA_VERSION}`,
    );
  }
  if (!isEventType(type)) return setAside('unknown-type', `type ${quote(type)} is not known to this program`);
  const body = dataSchemas[type].safeParse(data);
  if (!body.success) return setAside('malformed', `data: ${describeIssues(body.error)}`);
  const event = { type, data: body.data, id: id.value, observedAtMs: Date.parse(time), cause } as Event;
  const foreign = idsOf(event).find((named) => !named.startsWith(`${entry.node}-`));
  // S11: a node speaks of its own containers only.
  if (foreign !== undefined)
    return setAside('foreign-node', `${quote(foreign)} is not of node ${quote(entry.node)}`);
  const ids = idsOf(event);
  if (new Set(ids).size !== ids.length) return setAside('malformed', 'data: names an instance twice');
  return { ok: true, event };
}

function isEventType(type: string): type is EventType {
  return Object.hasOwn(dataSchemas, type);
}

/** Ids of everything that the event speaks of. */
export function idsOf(event: EventBody): string[] {
  switch (event.type) {
    case 'node.snapshot':
      return [...event.data.instances, ...event.data.refused].map(({ id }) => id);
    case 'instance.started':
    case 'instance.ready':
    case 'instance.unready':
    case 'instance.stopping':
      return [event.data.instance.id];
    case 'instance.stopped':
    case 'instance.refused':
      return [event.data.id];
  }
}

function setAside(code: SetAsideCode, reason: string): Decoded {
  return { ok: false, code, reason };
}

/** The first few of zod's complaints, each with its place, safe to print. */
function describeIssues(error: z.ZodError): string {
  const shown = error.issues.slice(0, 3).map(({ path, message }) => {
    const place = path.map(String).join('.');
    return place === '' ? message : `${place}: ${message}`;
  });
  const more = error.issues.length - shown.length;
  return quote(`${shown.join('; ')}${more > 0 ? `; and ${more} more` : ''}`).slice(1, -1);
}
