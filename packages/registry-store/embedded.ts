/**
 * The store in one SQLite file, for a single server: every role in one process, nothing else to install. Made by
 * composition roots only; the data folder is held by one process at a time.
 *
 * Keeps S3 as etcd does, by a compare in the transaction that writes. A leadership has no lease to lose: whoever holds
 * it lives in this process, and is waited for until it resigns.
 */
import { LeaseLostError, UnavailableError } from '@elastic-dns/model';
import { checkCommit } from './commit.ts';
import { EmbeddedFile } from './embedded-file.ts';
import type {
  CampaignOptions,
  Commit,
  KeyRange,
  KeyValue,
  Leadership,
  Page,
  Store,
  WatchBatch,
} from './store.ts';

export interface EmbeddedOptions {
  /** Folder of the file; made where it is missing. */
  folder: string;
  /** How many commits `watch` can go back. Default 10,000. */
  keptCommits?: number;
}

export class EmbeddedStore implements Store {
  readonly maxOperations = 128;
  readonly maxBytes = 1_500_000;
  readonly #file: EmbeddedFile;
  readonly #closed = new AbortController();
  readonly #leaderships = new Set<Leadership>();
  readonly #reads = new Set<Generator<Page, void>>();

  /** `ConfigError` when the file is not a registry, or of a newer program, or cannot be used. */
  constructor({ folder, keptCommits = 10_000 }: EmbeddedOptions) {
    this.#file = EmbeddedFile.open(folder, keptCommits);
  }

  async *read(range: KeyRange): AsyncGenerator<Page, void, undefined> {
    this.#checkOpen();
    const pages = this.#file.read(range);
    this.#reads.add(pages);
    try {
      for (const page of pages) {
        yield page;
        this.#checkOpen();
      }
    } finally {
      this.#reads.delete(pages);
    }
  }

  async *watch(
    range: KeyRange,
    after: bigint,
    signal: AbortSignal,
  ): AsyncGenerator<WatchBatch, void, undefined> {
    const ended = AbortSignal.any([signal, this.#closed.signal]);
    let handedOver = after;
    while (!ended.aborted) {
      const batch = this.#file.changesAfter(range, handedOver);
      if (batch.revision === handedOver) {
        await this.#file.committed(ended);
        continue;
      }
      handedOver = batch.revision;
      yield batch;
    }
  }

  async commit(commit: Commit): Promise<bigint> {
    checkCommit(commit, this);
    this.#checkOpen();
    return this.#file.commit(commit);
  }

  async campaign({ key, candidate, signal }: CampaignOptions): Promise<Leadership> {
    const ended = AbortSignal.any([signal, this.#closed.signal]);
    while (!ended.aborted) {
      const token = this.#file.lead(key, candidate);
      if (token !== null) return this.#hold(key, token);
      await this.#file.committed(ended);
    }
    signal.throwIfAborted();
    throw closedError();
  }

  async get(key: string): Promise<KeyValue | null> {
    this.#checkOpen();
    return this.#file.get(key);
  }

  /** Leaderships that are still held are given up first, so that a spare need not wait. */
  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    for (const leadership of this.#leaderships) await leadership.resign();
    for (const pages of this.#reads) pages.return();
    this.#file.close();
  }

  #hold(key: string, token: bigint): Leadership {
    const lost = new AbortController();
    const leadership: Leadership = {
      key,
      token,
      lost: lost.signal,
      resign: async () => {
        if (!this.#leaderships.delete(leadership)) return;
        lost.abort(new LeaseLostError('the lease was given up'));
        try {
          this.#file.resign(key, token);
        } catch {
          // The file cannot be written: nothing can be committed either, and the next process takes the key over.
        }
      },
    };
    this.#leaderships.add(leadership);
    return leadership;
  }

  #checkOpen(): void {
    if (this.#closed.signal.aborted) throw closedError();
  }
}

function closedError(): UnavailableError {
  return new UnavailableError('the store is closed');
}
