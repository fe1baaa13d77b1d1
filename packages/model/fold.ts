/**
 * fold: one log entry onto the registry, as data. The registrar calls it for each entry, applies the change to its
 * copy and commits it; replaying the log does the same. Pure and total: any input gives a change (S4, S12).
 *
 * Per container there is one register (instance, refused or tombstone) that the newest event of its node wins, and per
 * node a barrier, its newest snapshot, below which nothing counts any more. So the result does not depend on the
 * order of arrival, and folding an event twice changes nothing (S5).
 */
import { decodeEvent, type Event, type LogEntry } from './event.ts';
import type { Instance } from './instance.ts';
import { compareOrder, formatEventId, parseEventId, type Order } from './order.ts';
import {
  keyOf,
  type InstanceRecord,
  type NodeRecord,
  type RefusalRecord,
  type SetAsideRecord,
  type StoreRecord,
  type SubjectRecord,
} from './record.ts';
import { emptyChange, type Change, type Registry } from './registry.ts';

/** Raised when fold gives another registry for the same log, so that a cursor of the old one is not trusted. */
export const REDUCER_VERSION = 1;

/** Set-aside events that are kept for people to look at; older ones are only counted. */
const MAX_SET_ASIDE = 100;

/** What folding an entry came to. `ignored`: nothing new in it (late, or twice). */
export type Outcome =
  | { kind: 'folded'; event: Event }
  | { kind: 'ignored'; event: Event | null }
  | { kind: 'set-aside'; record: SetAsideRecord };

export interface Folded {
  change: Change;
  outcome: Outcome;
}

/** The change that an entry makes, its cursor included. The registry itself stays as it is. */
export function fold(registry: Registry, entry: LogEntry): Folded {
  const { cursor } = registry;
  const change = emptyChange();
  if (cursor?.incarnation === entry.incarnation && entry.sequence <= cursor.sequence) {
    return { change, outcome: { kind: 'ignored', event: null } };
  }
  put(change, {
    kind: 'cursor',
    incarnation: entry.incarnation,
    sequence: entry.sequence,
    reducer: REDUCER_VERSION,
  });
  const decoded = decodeEvent(entry);
  if (!decoded.ok) {
    const record: SetAsideRecord = {
      kind: 'set-aside',
      logSequence: entry.sequence,
      publisher: entry.node,
      code: decoded.code,
      reason: decoded.reason,
      atMs: entry.atMs,
    };
    setAside(registry, record, change);
    return { change, outcome: { kind: 'set-aside', record } };
  }
  const { event } = decoded;
  const node = registry.node(event.id.node);
  if (node?.snapshot && compareOrder(event.id, node.snapshot) <= 0) {
    return { change, outcome: { kind: 'ignored', event } };
  }
  put(change, advanceNode(node, event));
  const folded = foldSubjects(registry, event, entry.sequence, change);
  return { change, outcome: folded ? { kind: 'folded', event } : { kind: 'ignored', event } };
}

function put(change: Change, record: StoreRecord): void {
  change.puts.set(keyOf(record), record);
}

/** Keeps the newest set-aside events only (S13). */
function setAside(registry: Registry, record: SetAsideRecord, change: Change): void {
  put(change, record);
  const excess = registry.setAside.size + 1 - MAX_SET_ASIDE;
  if (excess <= 0) return;
  for (const old of [...registry.setAside.values()]
    .toSorted((a, b) => a.logSequence - b.logSequence)
    .slice(0, excess)) {
    change.deletes.add(keyOf(old));
  }
}

function advanceNode(before: NodeRecord | null, event: Event): NodeRecord {
  const { epoch, sequence, node } = event.id;
  const isNewest = !before || compareOrder(event.id, before.latest) > 0;
  const facts = event.type === 'node.snapshot' ? event.data : before;
  const snapshot = event.type === 'node.snapshot' ? { epoch, sequence } : before?.snapshot;
  // Fields in the schema's order, so that equal records have equal texts.
  return {
    kind: 'node',
    node,
    zone: facts?.zone ?? null,
    ipv4: facts?.ipv4 ?? null,
    ipv6: facts?.ipv6 ?? null,
    latest: isNewest ? { epoch, sequence } : before.latest,
    snapshot: snapshot ?? null,
    observedAtMs: isNewest ? event.observedAtMs : before.observedAtMs,
  };
}

/** Adds what the event says of containers; false when all of it was known to be newer already. */
function foldSubjects(registry: Registry, event: Event, logSequence: number, change: Change): boolean {
  const trace = { event: formatEventId(event.id), logSequence };
  const replace = (id: string, record: SubjectRecord): boolean => {
    const before = registry.subject(id);
    if (before && compareOrder(event.id, orderOf(before)) <= 0) return false;
    put(change, record);
    if (before && keyOf(before) !== keyOf(record)) change.deletes.add(keyOf(before));
    return true;
  };
  switch (event.type) {
    case 'instance.started':
    case 'instance.ready':
    case 'instance.unready':
    case 'instance.stopping':
      return replace(event.data.instance.id, { kind: 'instance', instance: event.data.instance, ...trace });
    case 'instance.refused':
      return replace(event.data.id, { kind: 'refused', refusal: event.data, ...trace });
    case 'instance.stopped':
      return replace(event.data.id, { kind: 'tombstone', ...event.data, ...trace });
    case 'node.snapshot': {
      const listed = new Map<string, InstanceRecord | RefusalRecord>();
      for (const instance of event.data.instances)
        listed.set(instance.id, { kind: 'instance', instance, ...trace });
      for (const refusal of event.data.refused)
        listed.set(refusal.id, { kind: 'refused', refusal, ...trace });
      for (const [id, record] of listed) {
        // The barrier says "as of this snapshot" already, so a record that says the same is left as it is.
        if (!saysTheSame(registry.subject(id), record)) replace(id, record);
      }
      for (const id of registry.subjectsOf(event.id.node)) {
        const before = registry.subject(id);
        // S2: absence from the owner's own complete snapshot is evidence. Tombstones are below the barrier now.
        if (before && !listed.has(id) && compareOrder(orderOf(before), event.id) < 0)
          change.deletes.add(keyOf(before));
      }
      return true;
    }
  }
}

function saysTheSame(before: SubjectRecord | null, after: InstanceRecord | RefusalRecord): boolean {
  if (before?.kind === 'instance' && after.kind === 'instance')
    return isSameInstance(before.instance, after.instance);
  if (before?.kind === 'refused' && after.kind === 'refused')
    return before.refusal.reason === after.refusal.reason;
  return false;
}

/** Both come out of the schema, so their keys are in the same order. */
export function isSameInstance(a: Instance, b: Instance): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function orderOf(record: SubjectRecord): Order {
  const id = parseEventId(record.event);
  if (!id.ok) throw new Error(`record with a bad event id: ${id.reason}`);
  return id.value;
}
