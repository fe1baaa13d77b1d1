/**
 * The store's words as etcd's messages, and back. Revisions are 64 bits wide: bigint here, decimal text there. Pure;
 * called by `etcd.ts`.
 */
import { CompactedError, type ElasticDnsError } from '@elastic-dns/model';
import {
  translateError,
  type ICompare,
  type IKeyValue,
  type IRequestOp,
  type IWatchResponse,
} from './etcd-connection.ts';
import type { KeyValue, WatchBatch } from './store.ts';

/** Holds when the key was created at that revision; at 0n: when it does not exist. */
export function isCreatedAt(key: string, revision: bigint): ICompare {
  return { key: Buffer.from(key), target: 'Create', result: 'Equal', create_revision: revision.toString() };
}

/** Holds when the key was last written at that revision; at 0n: when it does not exist. */
export function isWrittenAt(key: string, revision: bigint): ICompare {
  return { key: Buffer.from(key), target: 'Mod', result: 'Equal', mod_revision: revision.toString() };
}

export function errorOfCancel(response: IWatchResponse, after: bigint): ElasticDnsError {
  if (response.compact_revision !== '0') {
    return new CompactedError(`revision ${after} is compacted, up to ${response.compact_revision}`);
  }
  return translateError(new Error(`watch cancelled: ${response.cancel_reason}`));
}

/** One response holds whole transactions only: the server is not asked to split (`fragment`). */
export function toBatch({ events, header }: IWatchResponse): WatchBatch {
  const changes = events.map(({ type, kv }) => ({
    key: kv.key.toString(),
    value: type === 'Delete' ? null : kv.value.toString(),
    revision: BigInt(kv.mod_revision),
  }));
  // Not the header's revision: while the watch catches up that is the store's, ahead of these changes.
  return { revision: changes.at(-1)?.revision ?? BigInt(header.revision), changes };
}

export function toKeyValue({ key, value, mod_revision }: IKeyValue): KeyValue {
  return { key: key.toString(), value: value.toString(), revision: BigInt(mod_revision) };
}

/** Lease `0`: none. */
export function toPut({ key, value }: { key: string; value: string }, lease = '0'): IRequestOp {
  return { request_put: { key: Buffer.from(key), value: Buffer.from(value), lease } };
}

export function toDelete(key: string): IRequestOp {
  return { request_delete_range: { key: Buffer.from(key) } };
}

export function toRange(key: string): IRequestOp {
  return { request_range: { key: Buffer.from(key) } };
}
