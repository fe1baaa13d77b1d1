/**
 * Connections to etcd as `etcd.ts` and `etcd-lease.ts` need them: settings under which the client neither hangs nor
 * retries on its own, and the one place where its errors become ours.
 *
 * The client's own resilience is switched off. Its retry repeats a transaction whose reply was lost and then reports
 * a conflict with our own write; its circuit breaker refuses reads after three failed writes; its watcher resumes
 * behind events that it has not delivered; its leases live on for twice their time. What replaces them is here and in
 * the two callers.
 */
import {
  ConfigError,
  CompactedError,
  ElasticDnsError,
  InvalidInputError,
  UnavailableError,
} from '@elastic-dns/model';
import {
  castGrpcError,
  Etcd3,
  EtcdAuthenticationFailedError,
  EtcdPermissionDeniedError,
  GRPCFailedPreconditionError,
  GRPCInvalidArgumentError,
  GRPCOutOfRangeError,
  type IOptions,
  type IWatchRequest,
  type IWatchResponse,
} from 'etcd3';

export type { ICompare, IKeyValue, IRequestOp, IWatchResponse } from 'etcd3';

export interface EtcdOptions {
  /** `http://host:port` or `https://host:port`; all of one cluster, all with or all without TLS. */
  endpoints: readonly string[];
  username?: string;
  password?: string;
  /** Authority that signed the servers' certificates, PEM. Default: the authorities that Node knows. */
  ca?: string | Buffer;
  /** Own certificate and its key, PEM. */
  cert?: string | Buffer;
  key?: string | Buffer;
}

type WatchStream = Awaited<ReturnType<Etcd3['watchClient']['watch']>>;
type KeepAliveStream = Awaited<ReturnType<Etcd3['leaseClient']['leaseKeepAlive']>>;
type CallOptions = NonNullable<Parameters<Etcd3['watchClient']['watch']>[0]>;
type Interceptor = NonNullable<CallOptions['interceptors']>[number];
type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>;

/** A call that has no answer by then has failed: without it a stopped server holds a caller for 30 s. */
const CALL_TIMEOUT_MS = 2_000;
/** A silent server is noticed 7 s later; pings more often than every 5 s are refused by the server. */
const PING_INTERVAL_MS = 5_000;
const PING_TIMEOUT_MS = 2_000;

const NO_POLICY = {
  execute: async (run: (context: { signal: AbortSignal }) => unknown) =>
    run({ signal: new AbortController().signal }),
} as unknown as Policy;

/** Makes a member without a leader end the watch: it would stay open, and silent, for as long as the member is cut off. */
const requireLeader = ((options, nextCall) => {
  const call = nextCall(options);
  const start = call.start.bind(call);
  call.start = (metadata, listener) => {
    metadata.set('hasleader', 'true');
    start(metadata, listener);
  };
  return call;
}) as Interceptor;

/**
 * One client for calls, made anew (on the next endpoint) after each failure, and one for each watch: so no broken
 * connection is used twice, a token that the server has forgotten is asked for anew, and a watch that catches up
 * does not hold up a lease.
 */
export class EtcdConnection {
  readonly #settings: Omit<IOptions, 'hosts'>;
  readonly #endpoints: readonly string[];
  #endpoint = 0;
  #client: Etcd3;

  /** `ConfigError` when the options cannot work. */
  constructor(options: EtcdOptions) {
    checkOptions(options);
    this.#endpoints = options.endpoints;
    this.#settings = settingsFor(options);
    this.#client = this.#connect();
  }

  #connect(): Etcd3 {
    try {
      return new Etcd3({ ...this.#settings, hosts: this.#endpoints[this.#endpoint] ?? '' });
    } catch (error) {
      throw new ConfigError('the certificate, its key or the authority cannot be read', { cause: error });
    }
  }

  /** Runs one unary call, once. Errors are ours; after `UnavailableError` its outcome is unknown. */
  async call<T>(run: (client: Etcd3) => Promise<T>): Promise<T> {
    const client = this.#client;
    try {
      return await run(client);
    } catch (error) {
      const translated = translateError(error);
      if (translated instanceof UnavailableError) this.#replace(client);
      throw translated;
    }
  }

  /**
   * The responses of one watch on a connection of its own, the `created` one first; ends with an error, or quietly
   * when the signal aborts. The server is held back while the reader is busy.
   */
  async *watch(
    request: NonNullable<IWatchRequest['create_request']>,
    signal: AbortSignal,
  ): AsyncGenerator<IWatchResponse, void, undefined> {
    const endpoint = this.#endpoint;
    const client = this.#connect();
    let stream: WatchStream | undefined;
    let timeout: NodeJS.Timeout | undefined;
    const cancel = (): void => stream?.cancel();
    signal.addEventListener('abort', cancel);
    try {
      stream = await client.watchClient.watch({ interceptors: [requireLeader] });
      // What goes wrong is thrown by the loop below; without a listener it would end the process as well.
      stream.on('error', () => {});
      timeout = setTimeout(cancel, CALL_TIMEOUT_MS);
      if (signal.aborted) return;
      stream.write({ create_request: request });
      for await (const response of stream as unknown as AsyncIterable<IWatchResponse>) {
        clearTimeout(timeout);
        yield response;
      }
      throw new UnavailableError('etcd ended the watch');
    } catch (error) {
      if (signal.aborted) return;
      const translated = translateError(error);
      if (translated instanceof UnavailableError) this.#leave(endpoint);
      throw translated;
    } finally {
      clearTimeout(timeout);
      signal.removeEventListener('abort', cancel);
      stream?.cancel();
      client.close();
    }
  }

  /** Renews a lease once; resolves to the seconds that it has left, 0 when it is gone. */
  async keepAlive(leaseId: string, timeoutMs: number): Promise<number> {
    return this.call(async (client) => {
      const stream: KeepAliveStream = await client.leaseClient.leaseKeepAlive({
        deadline: Date.now() + timeoutMs,
      });
      try {
        return await new Promise<number>((resolve, reject) => {
          stream.on('error', reject);
          stream.on('end', () => reject(new UnavailableError('etcd ended the lease stream')));
          stream.on('data', ({ TTL }) => resolve(Number(TTL)));
          stream.write({ ID: leaseId });
        });
      } finally {
        stream.end();
      }
    });
  }

  close(): void {
    this.#client.close();
  }

  #replace(client: Etcd3): void {
    // Several calls fail together: only the first of them moves on.
    if (client !== this.#client) return;
    this.#leave(this.#endpoint);
    this.#client = this.#connect();
    client.close();
  }

  #leave(endpoint: number): void {
    if (endpoint === this.#endpoint) this.#endpoint = (endpoint + 1) % this.#endpoints.length;
  }
}

function settingsFor(options: EtcdOptions): Omit<IOptions, 'hosts'> {
  const { username, password, ca, cert, key } = options;
  return {
    ...(username === undefined || password === undefined ? {} : { auth: { username, password } }),
    ...(ca === undefined && cert === undefined ? {} : { credentials: credentialsFrom(ca, cert, key) }),
    defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + CALL_TIMEOUT_MS }),
    faultHandling: { host: () => NO_POLICY, global: NO_POLICY },
    grpcOptions: {
      'grpc.keepalive_time_ms': PING_INTERVAL_MS,
      'grpc.keepalive_timeout_ms': PING_TIMEOUT_MS,
      // A catch-up batch over the default of 4 MB would be lost without an error.
      'grpc.max_receive_message_length': -1,
      // A page of 10,000 keys arrives while the one before is being used; with the default of 64 KB it waits.
      'grpc-node.flow_control_window': 4 * 1_024 * 1_024,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1_000,
      // Otherwise a new client would get the connection that the old one failed on.
      'grpc.use_local_subchannel_pool': 1,
    },
  };
}

function credentialsFrom(
  ca: EtcdOptions['ca'],
  cert: EtcdOptions['cert'],
  key: EtcdOptions['key'],
): NonNullable<IOptions['credentials']> {
  const credentials = {
    ...(ca === undefined ? {} : { rootCertificate: Buffer.from(ca) }),
    ...(cert === undefined || key === undefined
      ? {}
      : { certChain: Buffer.from(cert), privateKey: Buffer.from(key) }),
  };
  // The client's types want an authority; without one Node's own are used.
  return credentials as NonNullable<IOptions['credentials']>;
}

function checkOptions({ endpoints, username, password, ca, cert, key }: EtcdOptions): void {
  if (endpoints.some((endpoint) => endpoint.includes('@'))) {
    // The endpoint itself is not shown: it holds a secret.
    throw new ConfigError(
      'an etcd endpoint is http://host:port without user and password: those have settings of their own',
    );
  }
  const bad = endpoints.find((endpoint) => !/^https?:\/\/[^/]+:\d+$/.test(endpoint));
  if (bad !== undefined) {
    throw new ConfigError(`etcd endpoint ${JSON.stringify(bad)}: use http://host:port or https://host:port`);
  }
  const secure = endpoints.filter((endpoint) => endpoint.startsWith('https:')).length;
  if (endpoints.length === 0) throw new ConfigError('no etcd endpoint given');
  if (secure !== 0 && secure !== endpoints.length) {
    throw new ConfigError('etcd endpoints: use https for all or for none');
  }
  if (secure === 0 && (ca ?? cert ?? key) !== undefined) {
    throw new ConfigError('etcd certificates are given: use https endpoints');
  }
  if ((cert === undefined) !== (key === undefined)) {
    throw new ConfigError('etcd: give a certificate and its key together');
  }
  if ((username === undefined) !== (password === undefined)) {
    throw new ConfigError('etcd: give a user name and a password together');
  }
}

/** The one place where what the client throws becomes an error of ours. */
export function translateError(thrown: unknown): ElasticDnsError {
  if (thrown instanceof ElasticDnsError) return thrown;
  // Streams emit the bare error of the transport; calls reject with a class of the client's. None sets its `name`.
  const cause = thrown instanceof Error ? castGrpcError(thrown) : new Error(String(thrown));
  const message = `etcd: ${cause.message}`;
  // Also for a revision that is still to come: the store was put back, and what was read of it is gone.
  if (cause instanceof GRPCOutOfRangeError) return new CompactedError(message, { cause });
  if (
    cause instanceof EtcdAuthenticationFailedError ||
    cause instanceof EtcdPermissionDeniedError ||
    // Credentials for a server that asks for none, and none for a server that asks for them.
    cause instanceof GRPCFailedPreconditionError ||
    cause.message.includes('user name is empty')
  ) {
    return new ConfigError(message, { cause });
  }
  if (cause instanceof GRPCInvalidArgumentError) return new InvalidInputError(message, { cause });
  return new UnavailableError(message, { cause });
}
