/**
 * Logs: readable on a terminal, JSON otherwise; always on stderr, so that stdout is a command's own. Made once by a
 * composition root; every role gets a child. Secrets are masked by field name, and nothing that a label or an event
 * brings along can steer the terminal.
 */
import { pino, type DestinationStream, type Logger } from 'pino';
import { prettyFactory } from 'pino-pretty';

export type { Logger };

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const LOG_FORMATS = ['auto', 'json', 'pretty'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export interface LoggerOptions {
  /** Default info. */
  level?: LogLevel;
  /** Default auto: pretty on a terminal, JSON otherwise. */
  format?: LogFormat;
  /** Default: the process's stderr. */
  destination?: LogDestination;
  /** Colours on a terminal. Default: unless NO_COLOR is set. */
  color?: boolean;
}

/** What a line is written to; standard streams are such, and so is what a test collects lines with. */
export interface LogDestination {
  write(text: string): unknown;
  isTTY?: boolean;
}

/** Fields whose values are never shown, at the top of an entry or one or two levels down. */
const SECRETS = ['password', 'token', 'credentials', 'authorization'];
const REDACTED = SECRETS.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]);

export function createLogger(options: LoggerOptions = {}): Logger {
  const destination = options.destination ?? process.stderr;
  const isTerminal = destination.isTTY === true;
  const pretty = options.format === 'pretty' || ((options.format ?? 'auto') === 'auto' && isTerminal);
  const color = isTerminal && (options.color ?? (process.env['NO_COLOR'] ?? '') === '');
  const stream = pretty ? readable(destination, color) : destination;
  return pino({ level: options.level ?? 'info', redact: { paths: REDACTED, censor: '***' } }, stream);
}

/** The logger of one role (agent, registrar, watcher ...); its name is in every line. */
export function childLogger(logger: Logger, role: string): Logger {
  return logger.child({ role });
}

/** Everything that a terminal obeys instead of showing it, except new lines, tabs and the formatter's own colours. */
// oxlint-disable-next-line no-control-regex -- control characters are what it is about
const STEERING = /(?!\x1b\[[0-9;]{1,8}m)(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

function readable(destination: LogDestination, colorize: boolean): DestinationStream {
  const format = prettyFactory({ colorize, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss.l' });
  return {
    write: (line) => {
      destination.write(
        format(line).replace(STEERING, (found) => `\\u{${found.codePointAt(0)?.toString(16) ?? ''}}`),
      );
    },
  };
}
