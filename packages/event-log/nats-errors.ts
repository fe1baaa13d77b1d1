/**
 * The one place where the client's and the broker's errors become ours. Called by the other `nats-*.ts` files.
 */
import { ConfigError, ElasticDnsError, InvalidInputError, UnavailableError } from '@elastic-dns/model';
import { ErrorCode, NatsError } from 'nats';

/** The broker's own numbers (`err_code`). */
const STREAM_NOT_FOUND = 10059;
const MESSAGE_TOO_LARGE = 10054;
/** JetStream not enabled (for the account); a stream that the account's or the server's limits or other streams forbid. */
const REFUSED_NUMBERS = new Set([10039, 10076, 10047, 10052, 10058, 10065, 10074, 10113, 10122]);

const REFUSED_CODES = new Set<string>([
  ErrorCode.AuthorizationViolation,
  ErrorCode.AuthenticationExpired,
  ErrorCode.AccountExpired,
  ErrorCode.BadAuthentication,
  ErrorCode.BadCreds,
  ErrorCode.PermissionsViolation,
  ErrorCode.ServerOptionNotAvailable,
  ErrorCode.Tls,
]);
/** Node's names for a certificate that does not hold, on either side. */
const CERTIFICATE_CODE = /CERT|UNABLE_TO_|SELF_SIGNED|^ERR_(?:TLS|SSL|OSSL)/;

export interface ApiError {
  code: number;
  err_code?: number;
  description: string;
}

/** What the broker said in an answer, in our words. `doing` completes "cannot ...". */
export function translateApiError(error: ApiError, doing: string, cause?: unknown): ElasticDnsError {
  const number = error.err_code ?? 0;
  const message = `cannot ${doing}: ${error.description} (${number})`;
  if (number === MESSAGE_TOO_LARGE) return new InvalidInputError(message, { cause });
  return REFUSED_NUMBERS.has(number)
    ? new ConfigError(message, { cause })
    : new UnavailableError(message, { cause });
}

/** Anything that the client throws or rejects with. */
export function translateError(error: unknown, doing: string): ElasticDnsError {
  if (error instanceof ElasticDnsError) return error;
  const apiError = error instanceof NatsError ? error.api_error : undefined;
  if (apiError !== undefined) return translateApiError(apiError, doing, error);
  const { code, message } = error as { code?: string; message: string };
  if (code === ErrorCode.NoResponders) {
    return new UnavailableError(
      `cannot ${doing}: nobody answers (no such stream, or JetStream is not enabled)`,
      {
        cause: error,
      },
    );
  }
  const text = `cannot ${doing}: ${message}`;
  const refused = code !== undefined && (REFUSED_CODES.has(code) || CERTIFICATE_CODE.test(code));
  return refused ? new ConfigError(text, { cause: error }) : new UnavailableError(text, { cause: error });
}

/** Whether the broker said that our stream does not exist. */
export function isStreamMissing(error: unknown): boolean {
  return error instanceof NatsError && error.api_error?.err_code === STREAM_NOT_FOUND;
}
