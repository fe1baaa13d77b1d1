/**
 * How etcd, NATS and Redis are started and when each is ready: the same words for a container and for a plain
 * process. Called by servers; `isReady` also by ready-probe, for a server inside a network namespace.
 */
import { connect } from 'node:net';

export type ServerKind = 'etcd' | 'nats' | 'redis';

export interface EtcdOptions {
  /** Space quota of the database; default etcd's (2 GiB). */
  quotaBytes?: number;
  /** Default: none. `periodic` takes a duration (`1h`), `revision` a count (`1000`). */
  autoCompaction?: { mode: 'periodic' | 'revision'; retention: string };
  /** Further words for etcd. */
  args?: readonly string[];
}

export interface NatsOptions {
  /** Largest message; default the server's (1 MiB). */
  maxPayloadBytes?: number;
  /** Text added to the configuration file, such as an `authorization { ... }` block. */
  config?: string;
  /** Further words for nats-server. */
  args?: readonly string[];
}

export interface RedisOptions {
  /** Further words for redis-server. */
  args?: readonly string[];
}

export interface ServerPlan {
  kind: ServerKind;
  argv: readonly string[];
  url: string;
  /** Path below the server's folder -> content, written before its first start. */
  files: Record<string, string>;
}

export interface Place {
  /** Address that it listens on. */
  host: string;
  port: number;
  /** etcd's own second port. */
  peerPort: number;
  /** The server's folder: configuration in it, data below `data`. */
  dir: string;
}

export function planEtcd(place: Place, options: EtcdOptions): ServerPlan {
  const client = `http://${place.host}:${place.port}`;
  const peer = `http://${place.host}:${place.peerPort}`;
  const argv = [
    'etcd',
    '--name=one',
    `--data-dir=${place.dir}/data`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=one=${peer}`,
  ];
  if (options.quotaBytes !== undefined) argv.push(`--quota-backend-bytes=${options.quotaBytes}`);
  if (options.autoCompaction !== undefined) {
    const { mode, retention } = options.autoCompaction;
    argv.push(`--auto-compaction-mode=${mode}`, `--auto-compaction-retention=${retention}`);
  }
  return { kind: 'etcd', argv: [...argv, ...(options.args ?? [])], url: client, files: {} };
}

export function planNats(place: Place, options: NatsOptions): ServerPlan {
  const limit = options.maxPayloadBytes === undefined ? '' : `max_payload: ${options.maxPayloadBytes}\n`;
  const storage = ['-js', `-sd=${place.dir}/data`];
  const listen = [`--addr=${place.host}`, `--port=${place.port}`, `--config=${place.dir}/nats.conf`];
  return {
    kind: 'nats',
    argv: ['nats-server', ...storage, ...listen, ...(options.args ?? [])],
    url: `nats://${place.host}:${place.port}`,
    files: { 'nats.conf': `${limit}${options.config ?? ''}\n` },
  };
}

export function planRedis(place: Place, options: RedisOptions): ServerPlan {
  const listen = ['--bind', place.host, '--port', String(place.port), '--protected-mode', 'no'];
  const storage = ['--dir', `${place.dir}/data`, '--save', '', '--appendonly', 'yes'];
  return {
    kind: 'redis',
    argv: ['redis-server', ...listen, ...storage, ...(options.args ?? [])],
    url: `redis://${place.host}:${place.port}`,
    files: {},
  };
}

const READY: Record<ServerKind, (host: string, port: number) => Promise<boolean>> = {
  // A linearizable read: it needs a leader, and works over quota too.
  async etcd(host, port) {
    const response = await fetch(`http://${host}:${port}/v3/kv/range`, {
      method: 'POST',
      body: '{"key":"AA=="}',
      signal: AbortSignal.timeout(1_000),
    });
    await response.arrayBuffer();
    return response.ok;
  },
  // Told before any authentication.
  nats: async (host, port) => (await firstReply(host, port)).includes('"jetstream":true'),
  redis: async (host, port) => /^(\+PONG|-NOAUTH)/.test(await firstReply(host, port, 'PING\r\n')),
};

/** Whether the server answers a real request now; rejects when it cannot be reached at all. */
export function isReady(kind: ServerKind, host: string, port: number): Promise<boolean> {
  return READY[kind](host, port);
}

/** What the server sends up to the end of its first line. */
async function firstReply(host: string, port: number, request = ''): Promise<string> {
  const socket = connect({ host, port });
  socket.setTimeout(1_000, () => socket.destroy(new Error('no reply within 1 s')));
  let reply = '';
  try {
    socket.write(request);
    for await (const chunk of socket) {
      reply += String(chunk);
      if (reply.includes('\n')) break;
    }
  } finally {
    socket.destroy();
  }
  return reply;
}
