/**
 * The log on NATS JetStream (2.9 or newer), for a fleet. Made by composition roots only.
 *
 * Owns the connection: makes it, finds or makes the stream, and does both again whenever it ends, for as long as the
 * log is open. Publishing and reading are in `nats-publisher.ts` and `nats-reader.ts`, one of each per connection.
 */
import { randomUUID } from 'node:crypto';
import { ConfigError, UnavailableError, type ElasticDnsError, type LogEntry } from '@elastic-dns/model';
import { Backoff, systemClock } from '@elastic-dns/runtime';
import type { JetStreamManager, NatsConnection } from 'nats';
import { DEFAULT_LIMIT } from './log.ts';
import type { Log, LogInfo, Publication, ReadOptions, Receipt } from './log.ts';
import {
  createDialer,
  dial,
  watchConnection,
  type Dialer,
  type NatsConnectOptions,
} from './nats-connection.ts';
import { isStreamMissing, translateError } from './nats-errors.ts';
import { Publisher } from './nats-publisher.ts';
import { Reader, type Position, type ReaderLink, type ReaderOptions } from './nats-reader.ts';
import { ensureStream, STREAM, subjectOf, toLogInfo, type StreamOptions } from './nats-stream.ts';
import { checkNode, encodePublication } from './publication.ts';
import { resolveRetention } from './retention.ts';

/** What happens to the connection, for the caller's logger. */
export interface NatsNotice {
  kind: 'connected' | 'disconnected' | 'unreachable' | 'stream-created' | 'stream-differs';
  message: string;
}

export interface NatsLogOptions extends NatsConnectOptions, StreamOptions {
  /** False: this client may not look at or make the stream (an agent). Default true. */
  manageStream?: boolean;
  onNotice?: (notice: NatsNotice) => void;
}

/** How long a loss of the connection is bridged: a restart of the broker, not an outage that callers should hear of. */
const BRIDGE_MS = 5_000;
const API_TIMEOUT_MS = 5_000;
/** The longest wait is short: a thousand agents that come back within seconds are no load to a broker. */
const RETRY = { minMs: 100, maxMs: 2_000 };
/** What the id's header takes of a message at most (`MAX_ID_LENGTH`). */
const HEADER_BYTES = 256;
/** How long a closing log waits for the broker to hear of it. */
const FAREWELL_MS = 1_000;

/** A connection that is up, with what works on it. */
interface Link extends ReaderLink {
  publisher: Publisher;
  maxBytes: number;
  readers: Set<Reader>;
  /** Makes the connection end for that reason. */
  end: (reason: ElasticDnsError) => void;
}

export class NatsLog implements Log {
  readonly #options: NatsLogOptions;
  readonly #dialer: Dialer;
  readonly #clientId = randomUUID();
  readonly #closed = new AbortController();
  readonly #running: Promise<void>;
  #link: Link | undefined;
  /** Why there is no link. */
  #failure: ElasticDnsError = new UnavailableError('not yet connected to NATS');
  #wasConnected = false;
  /** Called at every change of the two. */
  readonly #waiting = new Set<() => void>();

  /** `ConfigError` when the options cannot work. Connects in the background, from now until it is closed. */
  constructor(options: NatsLogOptions) {
    resolveRetention(options);
    this.#options = options;
    this.#dialer = createDialer(options);
    this.#running = this.#run();
  }

  async publish(publication: Publication): Promise<Receipt> {
    const link = this.#link ?? (await this.#ready());
    const data = encodePublication(publication, link.maxBytes);
    return link.publisher.publish(subjectOf(publication.node, publication.type), publication.id, data);
  }

  async *read(options: ReadOptions): AsyncGenerator<LogEntry[], void, undefined> {
    const { from, node, limit = DEFAULT_LIMIT, follow = true } = options;
    if (node !== undefined) checkNode(node);
    this.#checkOpen();
    const ended = AbortSignal.any([this.#closed.signal, ...(options.signal ? [options.signal] : [])]);
    const backoff = new Backoff(RETRY);
    let { incarnation } = options;
    let after: Position | undefined;
    let until: number | undefined;
    let goodAtMs = performance.now();
    while (!ended.aborted) {
      let reader: Reader | undefined;
      let openedAtMs = Infinity;
      try {
        reader = await this.#openReader({ from, after, until, incarnation, node, limit, follow }, ended);
        openedAtMs = performance.now();
        ({ incarnation, until } = reader);
        for (let batch = await reader.take(); batch; batch = await reader.take()) {
          yield batch;
          goodAtMs = performance.now();
          backoff.reset();
        }
        return;
      } catch (error) {
        if (ended.aborted) return;
        // What has lived for a while without an entry was good as well: the log was quiet.
        if (performance.now() - openedAtMs > BRIDGE_MS) goodAtMs = performance.now();
        const bridged = error instanceof UnavailableError && performance.now() - goodAtMs < BRIDGE_MS;
        if (!bridged) throw error;
      } finally {
        after = reader?.position ?? after;
        reader?.close();
      }
      await systemClock.sleep(backoff.nextMs(), ended);
    }
  }

  async info(): Promise<LogInfo> {
    const link = await this.#ready();
    try {
      return toLogInfo(await link.manager.streams.info(STREAM), link.maxBytes);
    } catch (error) {
      if (isStreamMissing(error)) link.onStreamMissing();
      throw translateError(error, 'look at the log');
    }
  }

  async close(): Promise<void> {
    // Readers end with it, and tell the broker.
    this.#closed.abort();
    this.#change();
    const link = this.#link;
    if (link) {
      await Promise.race([link.connection.flush().catch(() => {}), systemClock.sleep(FAREWELL_MS)]);
      link.end(new UnavailableError('the log was closed'));
    }
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closed;
    const backoff = new Backoff(RETRY);
    while (!signal.aborted) {
      let connection: NatsConnection | undefined;
      try {
        connection = await dial(this.#dialer, signal);
        this.#failure = await this.#serve(connection, backoff);
        this.#notify('disconnected', this.#failure.message);
      } catch (error) {
        const failure = translateError(error, 'use NATS');
        // A broker that let us in before has a passing trouble; it is for its operator to end, not for us.
        const passing = this.#wasConnected && failure instanceof ConfigError;
        this.#failure = passing ? new UnavailableError(failure.message, { cause: failure }) : failure;
        this.#notify('unreachable', failure.message);
      }
      await connection?.close();
      this.#change();
      await systemClock.sleep(backoff.nextMs(), signal);
    }
  }

  /** From a new connection to its end; resolves with the reason. */
  async #serve(connection: NatsConnection, backoff: Backoff): Promise<ElasticDnsError> {
    const { promise: ended, resolve: end } = Promise.withResolvers<ElasticDnsError>();
    const { inboxPrefix } = this.#dialer.settings;
    const publisher = new Publisher(connection, this.#clientId, inboxPrefix, {
      onStreamMissing: () => onStreamMissing(),
      onInboxRefused: end,
    });
    const refusals: ReaderLink['refusals'] = new Map();
    void watchConnection(connection, (subject) => {
      const refused = refusals.get(subject);
      if (refused)
        refused(new ConfigError(`the broker does not let this client read: no permission for ${subject}`));
      else publisher.refuse(subject);
    }).then(end);
    const onStreamMissing = (): void => {
      // Looked for, and made, with the next connection. Without the right to that, another client has to.
      if (this.#managesStream) end(new UnavailableError(`stream ${STREAM} is gone`));
    };
    const manager = await connection.jetstreamManager({ checkAPI: false, timeout: API_TIMEOUT_MS });
    const maxBytes = await this.#prepareStream(connection, manager);
    const readers = new Set<Reader>();
    this.#link = {
      connection,
      manager,
      inboxPrefix,
      refusals,
      onStreamMissing,
      publisher,
      maxBytes,
      readers,
      end,
    };
    this.#wasConnected = true;
    backoff.reset();
    this.#change();
    this.#notify('connected', `connected to NATS at ${connection.getServer()}`);
    if (this.#closed.signal.aborted) end(new UnavailableError('the log was closed'));
    const reason = await ended;
    this.#link = undefined;
    this.#failure = reason;
    await connection.close();
    publisher.fail(reason);
    for (const reader of readers) reader.fail(reason);
    return reason;
  }

  get #managesStream(): boolean {
    return this.#options.manageStream ?? true;
  }

  /** Sees to it that the stream is there; the most bytes that an event may have. */
  async #prepareStream(connection: NatsConnection, manager: JetStreamManager): Promise<number> {
    const maxPayload = connection.info?.max_payload ?? 0;
    if (!this.#managesStream) return maxPayload - HEADER_BYTES;
    const { info, created, differences } = await ensureStream(manager, this.#options);
    if (created) this.#notify('stream-created', `made stream ${STREAM}`);
    if (differences.length > 0) {
      this.#notify('stream-differs', `stream ${STREAM} is left as it is: ${differences.join('; ')}`);
    }
    const { max_msg_size: maxMessage } = info.config;
    return (maxMessage > 0 ? Math.min(maxMessage, maxPayload) : maxPayload) - HEADER_BYTES;
  }

  async #openReader(options: ReaderOptions, ended: AbortSignal): Promise<Reader> {
    const link = await orAborted(this.#ready(), ended);
    const opening = Reader.open(link, options);
    const reader = await orAborted(opening, ended).catch((error: unknown) => {
      opening.then((late) => late.close()).catch(() => {});
      throw error;
    });
    link.readers.add(reader);
    const close = (): void => reader.close();
    ended.addEventListener('abort', close);
    reader.onClose = () => {
      ended.removeEventListener('abort', close);
      link.readers.delete(reader);
    };
    return reader;
  }

  /** The link, waited for as long as a loss is bridged. */
  async #ready(): Promise<Link> {
    const startedAtMs = performance.now();
    for (;;) {
      this.#checkOpen();
      if (this.#link) return this.#link;
      const failure = this.#failure;
      if (failure instanceof ConfigError) throw new ConfigError(failure.message, { cause: failure });
      const leftMs = BRIDGE_MS - (performance.now() - startedAtMs);
      if (leftMs <= 0)
        throw new UnavailableError(`the log is out of reach: ${failure.message}`, { cause: failure });
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          this.#waiting.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, leftMs);
        this.#waiting.add(wake);
      });
    }
  }

  #checkOpen(): void {
    if (this.#closed.signal.aborted) throw new UnavailableError('the log is closed');
  }

  #change(): void {
    for (const wake of this.#waiting) wake();
  }

  #notify(kind: NatsNotice['kind'], message: string): void {
    if (!this.#closed.signal.aborted) this.#options.onNotice?.({ kind, message });
  }
}

/** The promise's outcome, or the signal's reason as soon as it aborts. */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(signal.reason as Error);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort);
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
