/**
 * How much a log keeps, the same for both adapters. Called by `nats-stream.ts` and `embedded.ts`.
 */
import { ConfigError } from '@elastic-dns/model';

export interface RetentionOptions {
  /** How long events are kept. Default 30 days, at least two minutes. */
  maxAgeMs?: number;
  /** How many bytes of events are kept; the oldest go first. Default 1 GiB, at least 1 MiB. */
  maxBytes?: number;
}

/** How long the ids of events are remembered at least: longer than a publisher goes on trying. */
export const DUPLICATE_WINDOW_MS = 120_000;
const DEFAULT_MAX_AGE_MS = 30 * 24 * 3_600_000;
const DEFAULT_MAX_BYTES = 1024 ** 3;
const MIN_MAX_BYTES = 1024 ** 2;

/** With the defaults filled in; `ConfigError` when no log can be kept that way. */
export function resolveRetention(options: RetentionOptions): Required<RetentionOptions> {
  const { maxAgeMs = DEFAULT_MAX_AGE_MS, maxBytes = DEFAULT_MAX_BYTES } = options;
  if (!(maxAgeMs >= DUPLICATE_WINDOW_MS)) {
    throw new ConfigError(
      `the log's maxAgeMs is ${maxAgeMs}; it is at least ${DUPLICATE_WINDOW_MS}, two minutes`,
    );
  }
  if (!(maxBytes >= MIN_MAX_BYTES)) {
    throw new ConfigError(`the log's maxBytes is ${maxBytes}; it is at least ${MIN_MAX_BYTES}, 1 MiB`);
  }
  return { maxAgeMs, maxBytes };
}
