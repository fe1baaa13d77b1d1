/**
 * Reads records out of store values and keeps account of those that cannot be read (S12). Called by `mirror.ts`.
 */
import { decodeRecord, encodeRecord, type StoreRecord } from '@elastic-dns/model';

/** Bad values whose reasons are kept for people to look at (S13); all are counted. */
const MAX_REJECTED = 1_000;

export class RecordReader {
  readonly #onReject: (key: string, reason: string) => void;
  readonly #rejected = new Map<string, string>();
  #rejections = 0;

  constructor(onReject: (key: string, reason: string) => void) {
    this.#onReject = onReject;
  }

  /** Keys whose present value cannot be decoded, with the reason; at most 1,000. */
  get rejected(): ReadonlyMap<string, string> {
    return this.#rejected;
  }

  /** How many values could not be decoded so far. */
  get rejections(): number {
    return this.#rejections;
  }

  /** Null: the value cannot be decoded, and is now among the rejected. */
  decode(key: string, value: string): StoreRecord | null {
    const decoded = decodeRecord(key, value);
    if (decoded.ok) {
      this.#rejected.delete(key);
      return decoded.value;
    }
    this.#rejections++;
    if (this.#rejected.size < MAX_REJECTED) this.#rejected.set(key, decoded.reason);
    this.#onReject(key, decoded.reason);
    return null;
  }

  /** The value's record if it is another one than ours; null also when it cannot be decoded. */
  decodeDiffering(key: string, value: string, ours: StoreRecord | undefined): StoreRecord | null {
    if (ours === undefined) return this.decode(key, value);
    const encoded = encodeRecord(ours).value;
    // Nearly always so when everything is read again; decoding is what costs.
    if (encoded === value) {
      this.#rejected.delete(key);
      return null;
    }
    const record = this.decode(key, value);
    return record && encodeRecord(record).value !== encoded ? record : null;
  }

  /** The key is gone from the store. */
  forget(key: string): void {
    this.#rejected.delete(key);
  }
}
