/**
 * How long to wait before trying again: exponential with full jitter, so that many who lost the same server do not
 * come back to it all at once. Used by the supervisor and by adapters that reconnect on their own.
 */

export interface BackoffOptions {
  /** Shortest wait; also what keeps a loop that fails at once from spinning. */
  minMs: number;
  /** Longest wait. */
  maxMs: number;
  /** Uniform in [0, 1). Default: Math.random. */
  random?: () => number;
}

export class Backoff {
  readonly #minMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #ceilingMs: number;

  constructor(options: BackoffOptions) {
    this.#minMs = options.minMs;
    this.#maxMs = options.maxMs;
    this.#random = options.random ?? Math.random;
    this.#ceilingMs = options.minMs;
  }

  /** The next wait: uniform between `minMs` and a ceiling that doubles with every call, up to `maxMs`. */
  nextMs(): number {
    this.#ceilingMs = Math.min(this.#ceilingMs * 2, this.#maxMs);
    return this.#minMs + this.#random() * (this.#ceilingMs - this.#minMs);
  }

  /** It worked: the next wait is a short one again. */
  reset(): void {
    this.#ceilingMs = this.#minMs;
  }
}
