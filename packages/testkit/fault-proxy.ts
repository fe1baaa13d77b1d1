/**
 * A TCP proxy between a client and a server that breaks on command: refuses, cuts, stalls, swallows one direction,
 * cuts after a number of bytes or at bytes that a test waits for. Its counters prove what it did. Called by fault
 * tests; by lab for servers and clients inside network namespaces.
 *
 *   const proxy = await startFaultProxy(etcd);          // or { host, port } or { path }
 *   const client = connect(`http://${proxy.host}:${proxy.port}`);
 *   proxy.swallow('toClient');                          // a reply lost after the commit
 *   ...put..., until proxy.swallowed.toClient > 0
 *   proxy.pass();                                       // heals for new connections; old ones lack bytes:
 *   proxy.cut();
 *   await proxy.close();
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { reservePort } from './ports.ts';

/** `toServer` carries requests, `toClient` replies. */
export type Direction = 'toServer' | 'toClient';
export type Endpoint = { host: string; port: number } | { path: string };
type Bytes = Record<Direction, number>;

/** How much of a connection's past a predicate sees: enough for any token that a test looks for. */
const SEEN_BYTES = 64 * 1_024;

interface Connection {
  client: Socket;
  server: Socket;
  seen: Record<Direction, Buffer>;
}

/** Given a chunk, says how much of it still passes before the cut; undefined: no cut yet. */
interface Trigger {
  direction: Direction;
  decide: (chunk: Buffer, connection: Connection) => number | undefined;
  fired: () => void;
}

export class FaultProxy {
  /** Connections taken from clients so far. */
  accepted = 0;
  /** Connections cut so far by `cut`, `cutAfter` and `cutWhen`. */
  cuts = 0;
  /** Chunks that a stall has held back so far. */
  held = 0;
  readonly forwarded: Bytes = { toServer: 0, toClient: 0 };
  readonly swallowed: Bytes = { toServer: 0, toClient: 0 };

  readonly #listen: Endpoint;
  readonly #target: Endpoint;
  readonly #release: () => Promise<void>;
  readonly #connections = new Set<Connection>();
  readonly #swallowing = new Set<Direction>();
  readonly #triggers = new Set<Trigger>();
  #server: Server | undefined;
  #gate: PromiseWithResolvers<void> | undefined;

  constructor(listen: Endpoint, target: Endpoint, release: () => Promise<void>) {
    this.#listen = listen;
    this.#target = target;
    this.#release = release;
  }

  get host(): string {
    return 'host' in this.#listen ? this.#listen.host : '';
  }

  get port(): number {
    return 'port' in this.#listen ? this.#listen.port : 0;
  }

  /** Connections open now. */
  get open(): number {
    return this.#connections.size;
  }

  /** Listens (again, after `refuse`). */
  async accept(): Promise<void> {
    if (this.#server !== undefined) return;
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => this.#take(client));
    this.#server = server;
    server.listen(this.#listen);
    await once(server, 'listening');
  }

  /** New connections are refused from now on; open ones stay. */
  refuse(): void {
    this.#server?.close();
    this.#server = undefined;
  }

  /** Ends every open connection with a reset; returns how many there were. */
  cut(): number {
    const open = [...this.#connections];
    for (const connection of open) this.#cutOne(connection);
    return open.length;
  }

  /** Keeps accepting, and forwards nothing in either direction until `pass`; nothing is lost. */
  stall(): void {
    this.#gate ??= Promise.withResolvers();
  }

  /** Drops the bytes of one direction (not its end) until `pass`, while the other one still flows. */
  swallow(direction: Direction): void {
    this.#swallowing.add(direction);
  }

  /** Ends stalls, swallowing and armed cuts. Bytes that were swallowed are lost: `cut` those connections. */
  pass(): void {
    this.#gate?.resolve();
    this.#gate = undefined;
    this.#swallowing.clear();
    this.#triggers.clear();
  }

  /** Cuts the first connection that carries this many more bytes, after exactly as many; resolves at the cut. */
  cutAfter(direction: Direction, bytes: number): Promise<void> {
    const passed = new Map<Connection, number>();
    return this.#arm(direction, (chunk, connection) => {
      const before = passed.get(connection) ?? 0;
      passed.set(connection, before + chunk.length);
      return before + chunk.length >= bytes ? bytes - before : undefined;
    });
  }

  /**
   * Cuts the first connection of which the predicate says so, given the last 64 KiB that it has carried since it was
   * opened, the new chunk included. The chunk is lost (default) or forwarded first; resolves at the cut.
   */
  cutWhen(direction: Direction, predicate: (seen: Buffer) => boolean, forward = false): Promise<void> {
    return this.#arm(direction, (chunk, connection) => {
      if (!predicate(connection.seen[direction])) return undefined;
      return forward ? chunk.length : 0;
    });
  }

  /** Stops listening and ends all connections. */
  async close(): Promise<void> {
    const server = this.#server;
    this.refuse();
    for (const { client, server: upstream } of this.#connections) {
      client.destroy();
      upstream.destroy();
    }
    this.pass();
    if (server !== undefined) await once(server, 'close');
    await this.#release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #arm(direction: Direction, decide: Trigger['decide']): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#triggers.add({ direction, decide, fired: resolve });
    return promise;
  }

  #take(client: Socket): void {
    this.accepted++;
    const server = connect({ ...this.#target, allowHalfOpen: true, noDelay: true });
    const connection = { client, server, seen: { toServer: Buffer.alloc(0), toClient: Buffer.alloc(0) } };
    this.#connections.add(connection);
    void Promise.all([
      this.#carry(connection, 'toServer', client, server),
      this.#carry(connection, 'toClient', server, client),
    ]).finally(() => this.#connections.delete(connection));
  }

  /** Carries one direction to its end, and never rejects: a broken half breaks the other, as on a wire. */
  async #carry(connection: Connection, direction: Direction, from: Socket, to: Socket): Promise<void> {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        if (this.#gate !== undefined) {
          this.held++;
          await this.#gate.promise;
        }
        const room = this.#roomFor(connection, direction, chunk);
        if (this.#swallowing.has(direction)) {
          this.swallowed[direction] += chunk.length;
        } else {
          const passing = chunk.subarray(0, room);
          this.forwarded[direction] += passing.length;
          if (passing.length > 0) await write(to, passing);
        }
        if (room !== undefined) this.#cutOne(connection);
      }
      await this.#gate?.promise;
      to.end();
    } catch {
      from.destroy();
      to.destroy();
    }
  }

  /** How much of the chunk passes before an armed cut that this chunk sets off; undefined: no cut. */
  #roomFor(connection: Connection, direction: Direction, chunk: Buffer): number | undefined {
    const seen = Buffer.concat([connection.seen[direction], chunk]);
    connection.seen[direction] = seen.subarray(Math.max(0, seen.length - SEEN_BYTES));
    for (const trigger of this.#triggers) {
      if (trigger.direction !== direction) continue;
      const room = trigger.decide(chunk, connection);
      if (room === undefined) continue;
      this.#triggers.delete(trigger);
      trigger.fired();
      return room;
    }
    return undefined;
  }

  #cutOne(connection: Connection): void {
    this.cuts++;
    this.#connections.delete(connection);
    for (const socket of [connection.client, connection.server]) {
      // A reset exists in TCP only.
      if (socket.remoteAddress === undefined) socket.destroy();
      else socket.resetAndDestroy();
    }
  }
}

async function write(to: Socket, bytes: Buffer): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    to.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}

/**
 * Starts a proxy on a free port of loopback (or on `listen`) that leads to `target`. `release` is called when it has
 * been closed.
 */
export async function startFaultProxy(
  target: Endpoint,
  listen?: Endpoint,
  release: () => Promise<void> = async () => undefined,
): Promise<FaultProxy> {
  const destination = 'path' in target ? { path: target.path } : { host: target.host, port: target.port };
  const reserved = listen === undefined ? await reservePort() : undefined;
  const place = listen ?? { host: '127.0.0.1', port: reserved?.port ?? 0 };
  const proxy = new FaultProxy(place, destination, async () => {
    await reserved?.release();
    await release();
  });
  await proxy.accept();
  return proxy;
}
