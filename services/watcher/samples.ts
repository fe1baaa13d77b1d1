/** Samples for the watcher's tests: records and registries without a log. */
import { emptyChange, keyOf, Registry, type Instance, type StoreRecord } from '@elastic-dns/model';
import { sampleInstance } from '@elastic-dns/model/samples';

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
