/**
 * The registry as it is now, read once: for the leader before it goes on from there, and for commands that look and end.
 * Whoever goes on watching takes the mirror instead.
 */
import {
  CURSOR_KEY,
  decodeRecord,
  emptyChange,
  isRegistryKey,
  Registry,
  REGISTRY_RANGE,
} from '@elastic-dns/model';
import type { Store } from './store.ts';

export interface Snapshot {
  registry: Registry;
  /** Of the cursor's last write; 0n when there is no cursor. */
  cursorRevision: bigint;
}

/**
 * Everything at one revision. A value that is no record is left out, and `reject` is told why (S12). Errors: those
 * of `Store.read`.
 */
export async function readSnapshot(
  store: Pick<Store, 'read'>,
  reject: (reason: string) => void = () => undefined,
): Promise<Snapshot> {
  const registry = new Registry();
  let cursorRevision = 0n;
  for await (const { entries } of store.read(REGISTRY_RANGE)) {
    const change = emptyChange();
    for (const { key, value, revision } of entries) {
      if (!isRegistryKey(key)) continue;
      if (key === CURSOR_KEY) cursorRevision = revision;
      const record = decodeRecord(key, value);
      if (record.ok) change.puts.set(key, record.value);
      else reject(record.reason);
    }
    registry.apply(change);
  }
  return { registry, cursorRevision };
}
