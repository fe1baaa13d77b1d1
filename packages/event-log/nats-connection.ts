/**
 * One connection to the broker, from dialling to its end, under settings that neither hang nor heal on their own:
 * `nats.ts` makes a new connection after each end. Called by `nats.ts`.
 *
 * The client's own reconnecting is switched off. It gives up for good after 20 s, or after the second refused password;
 * and with a stopped server and full buffers it never comes to the point of reconnecting at all.
 */
import { once } from 'node:events';
import { connect as connectSocket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ConfigError, UnavailableError, quote } from '@elastic-dns/model';
import { connect, credsAuthenticator, DebugEvents, Events } from 'nats';
import type { ConnectionOptions, NatsConnection } from 'nats';
import { translateError } from './nats-errors.ts';

export interface NatsConnectOptions {
  /** `host:port`, `nats://host:port` or `tls://host:port`; several of one cluster. */
  servers: readonly string[];
  user?: string;
  password?: string;
  token?: string;
  /** Text of a credentials file. */
  credentials?: string;
  /** Authority that signed the servers' certificates, PEM. Default: the authorities that Node knows. */
  ca?: string | Buffer;
  /** Own certificate and its key, PEM. */
  cert?: string | Buffer;
  key?: string | Buffer;
}

interface Server {
  host: string;
  port: number;
}

export interface Dialer {
  servers: readonly Server[];
  settings: ConnectionOptions;
}

const DEFAULT_PORT = 4222;
/** A server that does not greet, or let us in, within this time is not there. */
const CONNECT_TIMEOUT_MS = 2_000;
/** A stopped server is noticed 6 s later; by default it takes minutes. */
const PING_INTERVAL_MS = 2_000;
const MAX_PINGS_OUT = 2;

/** Checks the options; `ConfigError` when they cannot work. Connects to nothing. */
export function createDialer(options: NatsConnectOptions): Dialer {
  if (options.servers.length === 0) throw new ConfigError('no NATS server is given');
  const { ca, cert, key } = options;
  if ((cert === undefined) !== (key === undefined)) {
    throw new ConfigError('a NATS client certificate needs both cert and key');
  }
  const tls =
    ca !== undefined || cert !== undefined || options.servers.some((server) => server.startsWith('tls://'));
  return {
    servers: options.servers.map(parseServer),
    settings: {
      name: 'elastic-dns',
      inboxPrefix: inboxPrefixOf(options.user),
      reconnect: false,
      timeout: CONNECT_TIMEOUT_MS,
      pingInterval: PING_INTERVAL_MS,
      maxPingOut: MAX_PINGS_OUT,
      // The client asks DNS servers past the hosts file, which has to be enough when nothing else is up.
      resolve: false,
      // Worth a third of the publish rate.
      noAsyncTraces: true,
      ...(options.user !== undefined && { user: options.user }),
      ...(options.password !== undefined && { pass: options.password }),
      ...(options.token !== undefined && { token: options.token }),
      ...(options.credentials !== undefined && { authenticator: parseCredentials(options.credentials) }),
      ...(tls && {
        tls: {
          ...(ca !== undefined && { ca: String(ca) }),
          ...(cert && { cert: String(cert), key: String(key) }),
        },
      }),
    },
  };
}

/** Answers come below the user's name, so that a broker can keep its users from hearing each other's. */
function inboxPrefixOf(user: string | undefined): string {
  // Any other character could end the subject, or mean something in it.
  return user !== undefined && /^[\w-]+$/.test(user) ? `_INBOX.${user}` : '_INBOX';
}

function parseServer(text: string): Server {
  let url: URL | undefined;
  try {
    url = new URL(text.includes('://') ? text : `nats://${text}`);
  } catch {
    // Told below.
  }
  if (url && url.username + url.password !== '') {
    // The text itself is not shown: it holds a secret.
    throw new ConfigError(
      'a NATS server is nats://host:port without user and password: those have settings of their own',
    );
  }
  if (!url || !['nats:', 'tls:'].includes(url.protocol) || url.hostname === '') {
    throw new ConfigError(
      `NATS server ${quote(text.replace(/[^/]*@/, '***@'))} is not nats://host:port or tls://host:port`,
    );
  }
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || DEFAULT_PORT) };
}

function parseCredentials(text: string): NonNullable<ConnectionOptions['authenticator']> {
  const authenticator = credsAuthenticator(new TextEncoder().encode(text));
  try {
    authenticator('');
  } catch (cause) {
    throw new ConfigError('the NATS credentials are not the text of a .creds file', { cause });
  }
  return authenticator;
}

/** Connects to the first server that takes us, beginning anywhere; else throws why the last one did not. */
export async function dial({ servers, settings }: Dialer, signal: AbortSignal): Promise<NatsConnection> {
  const start = Math.floor(Math.random() * servers.length);
  let failure: unknown;
  for (const { host, port } of [...servers.slice(start), ...servers.slice(0, start)]) {
    try {
      await awaitGreeting({ host, port }, signal);
      const address = `${host.includes(':') ? `[${host}]` : host}:${port}`;
      return await connect({ ...settings, servers: [address] });
    } catch (error) {
      failure = translateError(error, `connect to NATS at ${host}:${port}`);
    }
  }
  throw failure;
}

/** Looks for life first, because the client leaves the socket open for good when it gives up before the greeting. */
async function awaitGreeting(server: Server, signal: AbortSignal): Promise<void> {
  const timeout = AbortSignal.timeout(CONNECT_TIMEOUT_MS);
  const socket = connectSocket(server);
  try {
    await once(socket, 'data', { signal: AbortSignal.any([signal, timeout]) });
  } catch (error) {
    if (timeout.aborted)
      throw new UnavailableError(`no greeting within ${CONNECT_TIMEOUT_MS} ms`, { cause: error });
    throw error;
  } finally {
    socket.destroy();
  }
}

/**
 * Resolves when the connection has ended, with the reason; ends it when the server has fallen silent. `onRefusal` hears
 * of each subject that the broker did not let us publish to.
 */
export async function watchConnection(
  connection: NatsConnection,
  onRefusal: (subject: string) => void,
): Promise<UnavailableError> {
  let silent = false;
  // Does not end when the connection does, only goes with it.
  void (async () => {
    for await (const { type, permissionContext } of connection.status()) {
      if (type === Events.Error && permissionContext?.operation === 'publish')
        onRefusal(permissionContext.subject);
      if (type !== DebugEvents.StaleConnection) continue;
      // Left alone, the client would first try to send what is left, to a server that takes nothing.
      silent = true;
      await connection.close();
    }
  })();
  const error = await connection.closed();
  // The status that tells why may still be on its way.
  await nextTurn();
  if (silent) return new UnavailableError(`NATS at ${connection.getServer()} has fallen silent`);
  const why = error instanceof Error ? `: ${error.message}` : '';
  return new UnavailableError(`the connection to NATS was lost${why}`, { cause: error });
}
