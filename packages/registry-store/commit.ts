/**
 * What every store refuses of a commit before it is sent, so that both adapters refuse the same.
 * Called by `etcd.ts` and `embedded.ts`.
 */
import { InvalidInputError } from '@elastic-dns/model';
import type { Commit, Store } from './store.ts';

/** Throws `InvalidInputError` for a commit that no store of these limits will ever take (S13). */
export function checkCommit(commit: Commit, limits: Pick<Store, 'maxOperations' | 'maxBytes'>): void {
  const operations = commit.puts.length + commit.deletes.length;
  if (operations > limits.maxOperations) {
    throw new InvalidInputError(
      `a commit of ${operations} operations; the store takes ${limits.maxOperations}`,
    );
  }
  const seen = new Set<string>();
  let bytes = 0;
  const mention = (key: string): void => {
    if (seen.has(key)) throw new InvalidInputError(`a commit mentions ${JSON.stringify(key)} twice`);
    seen.add(key);
    bytes += Buffer.byteLength(key);
  };
  for (const { key, value } of commit.puts) {
    mention(key);
    bytes += Buffer.byteLength(value);
  }
  for (const key of commit.deletes) mention(key);
  if (bytes > limits.maxBytes) {
    throw new InvalidInputError(`a commit of ${bytes} bytes; the store takes ${limits.maxBytes}`);
  }
}
