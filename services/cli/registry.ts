/** Reads the whole registry once, for commands that look and end. */
import { decodeRecord, emptyChange, isRegistryKey, Registry, REGISTRY_RANGE } from '@elastic-dns/model';
import type { Store } from '@elastic-dns/registry-store';

/** All records at one revision. Values that are no records are left out, as every reader does (S12). */
export async function readRegistry(store: Store): Promise<Registry> {
  const registry = new Registry();
  for await (const { entries } of store.read(REGISTRY_RANGE)) {
    const change = emptyChange();
    for (const { key, value } of entries) {
      const record = isRegistryKey(key) ? decodeRecord(key, value) : null;
      if (record?.ok) change.puts.set(key, record.value);
    }
    registry.apply(change);
  }
  return registry;
}
