/**
 * Every error that crosses a package border, sorted by what its catcher does next.
 * Adapters translate vendor errors into these at their edge; nothing else is thrown on purpose.
 */

export type ErrorCode =
  | 'UNAVAILABLE'
  | 'CONFLICT'
  | 'COMPACTED'
  | 'LEASE_LOST'
  | 'FENCED'
  | 'INVALID_EVENT'
  | 'INVALID_INPUT'
  | 'CONFIG';

/** Base of all; `code` is stable and documented, `cause` is the error underneath where there is one. */
export abstract class ElasticDnsError extends Error {
  abstract readonly code: ErrorCode;
}

/** The other side did not answer, or the outcome is unknown: back off, then look before trying again. */
export class UnavailableError extends ElasticDnsError {
  override readonly name = 'UnavailableError';
  readonly code = 'UNAVAILABLE';
}

/** Somebody else wrote first: read again, then redo the work on what is there now. */
export class ConflictError extends ElasticDnsError {
  override readonly name = 'ConflictError';
  readonly code = 'CONFLICT';
}

/** The asked-for revision or sequence is no longer kept: take a snapshot and go on from there. */
export class CompactedError extends ElasticDnsError {
  override readonly name = 'CompactedError';
  readonly code = 'COMPACTED';
}

/** The lease ran out or could not be kept alive in time: stop acting on it, campaign anew. */
export class LeaseLostError extends ElasticDnsError {
  override readonly name = 'LeaseLostError';
  readonly code = 'LEASE_LOST';
}

/** A newer leader exists (S3): step down; repeating the write can never succeed. */
export class FencedError extends ElasticDnsError {
  override readonly name = 'FencedError';
  readonly code = 'FENCED';
}

/** An event that cannot be folded: set it aside with this reason and move on (S12). */
export class InvalidEventError extends ElasticDnsError {
  override readonly name = 'InvalidEventError';
  readonly code = 'INVALID_EVENT';
}

/** What a person gave is wrong: the message says what, where, and what would be right. */
export class InvalidInputError extends ElasticDnsError {
  override readonly name = 'InvalidInputError';
  readonly code = 'INVALID_INPUT';
}

/** The configuration cannot work: say so and exit. */
export class ConfigError extends ElasticDnsError {
  override readonly name = 'ConfigError';
  readonly code = 'CONFIG';
}
