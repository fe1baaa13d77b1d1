/**
 * The registry in memory: all records, with the indexes that fold and view need. The registrar keeps one as its
 * working copy, every mirror keeps one as its live copy. Costs follow what changes, never the size of the cluster.
 */
import {
  CURSOR_KEY,
  keyOf,
  subjectOf,
  type CursorRecord,
  type InstanceRecord,
  type NodeRecord,
  type SetAsideRecord,
  type StoreRecord,
  type SubjectRecord,
} from './record.ts';

/** A change as data: what to put and what to delete; no key is in both. */
export interface Change {
  puts: Map<string, StoreRecord>;
  deletes: Set<string>;
}

export function emptyChange(): Change {
  return { puts: new Map(), deletes: new Set() };
}

/** Adds a later change to an earlier one; the later wins per key. */
export function mergeChange(earlier: Change, later: Change): void {
  for (const [key, record] of later.puts) {
    earlier.puts.set(key, record);
    earlier.deletes.delete(key);
  }
  for (const key of later.deletes) {
    earlier.puts.delete(key);
    earlier.deletes.add(key);
  }
}

type Services = Map<string, Map<string, InstanceRecord>>;

export class Registry {
  readonly #records = new Map<string, StoreRecord>();
  readonly #subjects = new Map<string, SubjectRecord>();
  readonly #byNode = new Map<string, Set<string>>();
  readonly #namespaces = new Map<string, Services>();
  readonly #setAside = new Map<number, SetAsideRecord>();

  /** Every record by its key. */
  get records(): ReadonlyMap<string, StoreRecord> {
    return this.#records;
  }

  /** Instances by namespace, service and id, whatever their state. */
  get namespaces(): ReadonlyMap<string, ReadonlyMap<string, ReadonlyMap<string, InstanceRecord>>> {
    return this.#namespaces;
  }

  /** Events set aside, oldest first. */
  get setAside(): ReadonlyMap<number, SetAsideRecord> {
    return this.#setAside;
  }

  get cursor(): CursorRecord | null {
    const record = this.#records.get(CURSOR_KEY);
    return record?.kind === 'cursor' ? record : null;
  }

  node(node: string): NodeRecord | null {
    const record = this.#records.get(`/elastic-dns/nodes/${node}`);
    return record?.kind === 'node' ? record : null;
  }

  /** What is known of one container. */
  subject(id: string): SubjectRecord | null {
    return this.#subjects.get(id) ?? null;
  }

  /** Ids of all containers that are known of a node. */
  subjectsOf(node: string): ReadonlySet<string> {
    return this.#byNode.get(node) ?? new Set();
  }

  instances(namespace: string, service: string): ReadonlyMap<string, InstanceRecord> {
    return this.#namespaces.get(namespace)?.get(service) ?? new Map();
  }

  apply(change: Change): void {
    for (const record of change.puts.values()) this.#put(record);
    for (const key of change.deletes) this.#delete(key);
  }

  #put(record: StoreRecord): void {
    const key = keyOf(record);
    const before = this.#records.get(key);
    if (before) this.#unindex(before);
    this.#records.set(key, record);
    this.#index(record);
  }

  #delete(key: string): void {
    const record = this.#records.get(key);
    if (!record) return;
    this.#records.delete(key);
    this.#unindex(record);
  }

  #index(record: StoreRecord): void {
    switch (record.kind) {
      case 'instance':
      case 'refused':
      case 'tombstone': {
        const id = subjectOf(record);
        // A container whose record moves to another key has both for a moment; the one put last counts.
        const before = this.#subjects.get(id);
        if (before) this.#unindex(before);
        this.#subjects.set(id, record);
        addTo(this.#byNode, nodeOf(record), id);
        if (record.kind === 'instance') this.#indexInstance(record);
        return;
      }
      case 'set-aside':
        this.#setAside.set(record.logSequence, record);
        return;
      case 'node':
      case 'cursor':
        return;
    }
  }

  #indexInstance(record: InstanceRecord): void {
    const { namespace, service, id } = record.instance;
    let services = this.#namespaces.get(namespace);
    if (!services) this.#namespaces.set(namespace, (services = new Map()));
    let instances = services.get(service);
    if (!instances) services.set(service, (instances = new Map()));
    instances.set(id, record);
  }

  #unindex(record: StoreRecord): void {
    switch (record.kind) {
      case 'instance':
      case 'refused':
      case 'tombstone': {
        const id = subjectOf(record);
        if (this.#subjects.get(id) !== record) return;
        this.#subjects.delete(id);
        removeFrom(this.#byNode, nodeOf(record), id);
        if (record.kind === 'instance') this.#unindexInstance(record);
        return;
      }
      case 'set-aside':
        this.#setAside.delete(record.logSequence);
        return;
      case 'node':
      case 'cursor':
        return;
    }
  }

  #unindexInstance(record: InstanceRecord): void {
    const { namespace, service, id } = record.instance;
    const services = this.#namespaces.get(namespace);
    const instances = services?.get(service);
    instances?.delete(id);
    if (instances?.size === 0) services?.delete(service);
    if (services?.size === 0) this.#namespaces.delete(namespace);
  }
}

/** The node whose agent observed it: the schema has checked the event's id, and this is called for every change. */
export function nodeOf({ event }: SubjectRecord): string {
  return event.slice(0, event.indexOf('/'));
}

function addTo(index: Map<string, Set<string>>, key: string, value: string): void {
  const values = index.get(key);
  if (values) values.add(value);
  else index.set(key, new Set([value]));
}

function removeFrom(index: Map<string, Set<string>>, key: string, value: string): void {
  const values = index.get(key);
  values?.delete(value);
  if (values?.size === 0) index.delete(key);
}

/** What makes `from` into `to`. */
export function diff(from: Registry, to: Registry): Change {
  const change = emptyChange();
  for (const [key, record] of to.records) {
    const before = from.records.get(key);
    if (!before || JSON.stringify(before) !== JSON.stringify(record)) change.puts.set(key, record);
  }
  for (const key of from.records.keys()) {
    if (!to.records.has(key)) change.deletes.add(key);
  }
  return change;
}

/** The services whose instances a change touches, before it is applied. */
export function touchedServices(
  registry: Registry,
  change: Change,
): { namespace: string; service: string }[] {
  const touched = new Map<string, { namespace: string; service: string }>();
  const touch = (record: StoreRecord | undefined): void => {
    if (record?.kind !== 'instance') return;
    const { namespace, service } = record.instance;
    touched.set(`${service}.${namespace}`, { namespace, service });
  };
  for (const [key, record] of change.puts) {
    touch(registry.records.get(key));
    touch(record);
    if (record.kind === 'instance' || record.kind === 'refused' || record.kind === 'tombstone') {
      touch(registry.subject(subjectOf(record)) ?? undefined);
    }
  }
  for (const key of change.deletes) touch(registry.records.get(key));
  return [...touched.values()];
}
