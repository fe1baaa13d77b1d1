/**
 * Reading on one connection: one consumer of the stream, asked for one batch at a time. Called by `nats.ts`, which
 * opens another one behind the last entry when this one breaks.
 *
 * Keeps S13: nothing is asked for before the reader has taken what came, unlike with the client's `consume()`. And
 * S6: a consumer that is opened again begins at the last entry read, to see that it is still the same one.
 */
import { ConflictError, UnavailableError, type ElasticDnsError, type LogEntry } from '@elastic-dns/model';
import { AckPolicy, createInbox, DeliverPolicy, nanos } from 'nats';
import type { JetStreamManager, Msg, NatsConnection, Subscription } from 'nats';
import { isStreamMissing, translateError } from './nats-errors.ts';
import { incarnationOf, nodeOf, STREAM, subjectsOf } from './nats-stream.ts';

export interface ReaderOptions {
  /** First sequence wanted; ignored when `after` is given. */
  from: number;
  /** The last entry that was read, of which reading goes on. */
  after: Position | undefined;
  /** Default: whichever the stream has. */
  incarnation: string | undefined;
  node: string | undefined;
  limit: number;
  follow: boolean;
  /** Where reading ends that does not follow. Default: the last sequence that is there. */
  until: number | undefined;
}

/** An entry's place and time in the broker's nanoseconds: together they tell one entry from another of that place. */
export interface Position {
  sequence: number;
  atNs: number;
}

/** How the broker begins its own words among the messages. */
const STATUS_HEARTBEAT = 100;
const STATUS_NO_MESSAGES = 404;
const STATUS_REQUEST_OVER = 408;
const STATUS_CONFLICT = 409;

/** A request that waits is asked anew after this time ... */
const REQUEST_MS = 30_000;
/** ... and meanwhile the broker says that it is still there. */
const HEARTBEAT_MS = 5_000;
/** Silence after which the consumer is taken for dead: a request to one that is gone has no answer at all. */
const SILENCE_MS = { follow: 12_000, once: 5_000 };
/** A consumer goes this long after the last request: outlives a slow reader, does not outlive a dead one for long. */
const INACTIVE_MS = 300_000;
/** Most bytes of one batch, so that many large events do not come at once. */
const MAX_BATCH_BYTES = 16 * 1024 ** 2;

/** The connection as a reader needs it. */
export interface ReaderLink {
  connection: NatsConnection;
  manager: JetStreamManager;
  inboxPrefix: string | undefined;
  /** By subject: what to call when the broker does not let us publish to it. */
  refusals: Map<string, (error: ElasticDnsError) => void>;
  onStreamMissing: () => void;
}

export class Reader {
  readonly incarnation: string;
  /** Where reading ends that does not follow. */
  readonly until: number;
  /** The last entry that was handed over. */
  position: Position | undefined;
  onClose: (() => void) | undefined;
  readonly #link: ReaderLink;
  readonly #options: ReaderOptions;
  readonly #consumer: string;
  readonly #requestSubject: string;
  readonly #inbox: string;
  readonly #subscription: Subscription;
  #buffer: LogEntry[] = [];
  #newest: Position | undefined;
  /** Entries that the broker may still send; nothing more is asked for before it is 0. */
  #due = 0;
  #delivered = 0;
  #heardAtMs = 0;
  #watchdog: NodeJS.Timeout;
  #failure: ElasticDnsError | undefined;
  #done = false;
  #closed = false;
  #wake: (() => void) | undefined;

  /** `ConflictError` when the stream is not the one that was read so far. */
  static async open(link: ReaderLink, options: ReaderOptions): Promise<Reader> {
    const { after, node } = options;
    try {
      const consumer = await link.manager.consumers.add(STREAM, {
        deliver_policy: DeliverPolicy.StartSequence,
        opt_start_seq: Math.max(after?.sequence ?? options.from, 1),
        ack_policy: AckPolicy.None,
        inactive_threshold: nanos(INACTIVE_MS),
        mem_storage: true,
        num_replicas: 1,
        ...(node !== undefined && { filter_subject: subjectsOf(node) }),
      });
      // After the consumer: one made before the stream was replaced would be gone, and never be heard of again.
      const info = await link.manager.streams.info(STREAM);
      const incarnation = incarnationOf(info);
      const { last_seq: last } = info.state;
      if (options.incarnation !== undefined) {
        if (incarnation !== options.incarnation) {
          throw new ConflictError(`the log is ${incarnation}, not ${options.incarnation}`);
        }
        const read = after?.sequence ?? options.from - 1;
        if (last < read)
          throw new ConflictError(`the log ends at ${last}, but ${read} was read of it: it went back`);
      }
      return new Reader(link, options, consumer.name, incarnation, last);
    } catch (error) {
      if (isStreamMissing(error)) link.onStreamMissing();
      throw translateError(error, 'read the log');
    }
  }

  private constructor(
    link: ReaderLink,
    options: ReaderOptions,
    consumer: string,
    incarnation: string,
    last: number,
  ) {
    this.#link = link;
    this.#inbox = createInbox(link.inboxPrefix);
    this.#options = options;
    this.#consumer = consumer;
    this.incarnation = incarnation;
    this.until = options.until ?? last;
    this.position = options.after;
    this.#newest = options.after;
    this.#done = !options.follow && this.until <= (options.after?.sequence ?? options.from - 1);
    this.#requestSubject = `$JS.API.CONSUMER.MSG.NEXT.${STREAM}.${consumer}`;
    link.refusals.set(this.#requestSubject, (error) => this.fail(error));
    this.#subscription = link.connection.subscribe(this.#inbox, {
      callback: (error, message) => {
        if (error) this.fail(translateError(error, 'read the log'));
        else this.#onMessage(message);
      },
    });
    this.#watchdog = setInterval(() => this.#checkSilence(), 1_000);
  }

  /** The entries that are there, at least one, waiting for it; undefined at the end. Rejects once when reading broke. */
  async take(): Promise<LogEntry[] | undefined> {
    while (this.#buffer.length === 0) {
      if (this.#failure) throw this.#failure;
      if (this.#done) return undefined;
      if (this.#due === 0) this.#request();
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const batch = this.#buffer;
    this.#buffer = [];
    this.position = this.#newest;
    // The next batch comes while the reader works on this one.
    if (this.#due === 0 && !this.#done && !this.#failure) this.#request();
    return batch;
  }

  /** Breaks `take` off, after what is there already. */
  fail(error: ElasticDnsError): void {
    this.#failure ??= error;
    this.#wake?.();
  }

  /** Ends `take` at once. Safe to call twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#watchdog);
    this.onClose?.();
    this.#done = true;
    this.#buffer = [];
    this.#wake?.();
    this.#link.refusals.delete(this.#requestSubject);
    if (this.#link.connection.isClosed()) return;
    this.#subscription.unsubscribe();
    // The broker would find out in a while.
    this.#link.manager.consumers.delete(STREAM, this.#consumer).catch(() => {});
  }

  #request(): void {
    const { limit, follow } = this.#options;
    const waiting = { expires: nanos(REQUEST_MS), idle_heartbeat: nanos(HEARTBEAT_MS) };
    const request = { batch: limit, max_bytes: MAX_BATCH_BYTES, ...(follow ? waiting : { no_wait: true }) };
    this.#due = limit;
    this.#heardAtMs = performance.now();
    try {
      this.#link.connection.publish(this.#requestSubject, JSON.stringify(request), { reply: this.#inbox });
    } catch (error) {
      this.fail(translateError(error, 'read the log'));
    }
  }

  #onMessage(message: Msg): void {
    this.#heardAtMs = performance.now();
    if (message.subject === this.#inbox) this.#onStatus(message);
    else this.#onEntry(message);
    this.#wake?.();
  }

  #onStatus({ headers }: Msg): void {
    const code = headers?.code ?? 0;
    const description = headers?.description ?? '';
    if (code === STATUS_HEARTBEAT) return;
    if (code === STATUS_REQUEST_OVER || (code === STATUS_CONFLICT && description.includes('MaxBytes'))) {
      this.#due = 0;
    } else if (code === STATUS_NO_MESSAGES && !this.#options.follow) {
      this.#done = true;
    } else {
      this.fail(new UnavailableError(`the consumer is gone: ${description} (${code})`));
    }
  }

  #onEntry(message: Msg): void {
    // "$JS.ACK.<stream>.<consumer>.<times>.<sequence>.<delivered>.<ns>.<pending>"; newer brokers put more in between.
    const tokens = (message.reply ?? '').split('.');
    const offset = tokens.length > 9 ? 7 : 5;
    const position = { sequence: Number(tokens[offset]), atNs: Number(tokens[offset + 2]) };
    this.#due -= 1;
    this.#delivered += 1;
    if (this.#done || this.#failure) return;
    if (Number(tokens[offset + 1]) !== this.#delivered) {
      this.fail(new UnavailableError('entries were lost on the way'));
    } else if (this.#newest && position.sequence <= this.#newest.sequence) {
      // The entry that was read last, seen again.
      if (position.atNs !== this.#newest.atNs) {
        this.fail(
          new ConflictError(`entry ${position.sequence} is not the one that was read: the log went back`),
        );
      }
    } else if (!this.#options.follow && position.sequence > this.until) {
      this.#done = true;
    } else if (position.sequence >= this.#options.from) {
      // The broker starts at the next entry when `from` is further off.
      this.#newest = position;
      this.#buffer.push({
        sequence: position.sequence,
        incarnation: this.incarnation,
        node: nodeOf(message.subject),
        data: message.string(),
        atMs: Math.floor(position.atNs / 1e6),
      });
      if (!this.#options.follow && position.sequence === this.until) this.#done = true;
    }
  }

  #checkSilence(): void {
    const limitMs = this.#options.follow ? SILENCE_MS.follow : SILENCE_MS.once;
    if (this.#due === 0 || performance.now() - this.#heardAtMs < limitMs) return;
    this.fail(new UnavailableError(`the consumer has been silent for ${limitMs} ms`));
  }
}
