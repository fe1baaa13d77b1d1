/**
 * Real etcd, NATS and Redis for tests, each one breakable on purpose: stopped, killed, paused, restarted on the same
 * port and data. Called by every test of kind `server`, and by lab tests (`spawn...`, in a network namespace).
 *
 *   const etcd = await startEtcd();            // a container on the tests' own engine (see global-setup)
 *   await etcd.pause();                        // SIGSTOP; returns when /proc says T for every thread
 *   expect(etcd.state()).toBe('paused');       // the proof
 *   await etcd.resume();
 *   await etcd.kill();                         // SIGKILL; returns when the process is gone
 *   await etcd.start();                        // same port, same data; returns when it answers again
 *   await etcd.remove();                       // ends it for good and deletes its data
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { DockerOutput } from './docker.ts';
import { reservePort } from './ports.ts';
import {
  endProcess,
  pauseProcess,
  processState,
  resumeProcess,
  sendSignal,
  type ProcessState,
} from './processes.ts';
import { createRun, removeRun, type Run } from './run.ts';
import { containerBody, processBody, type ServerBody } from './server-bodies.ts';
import {
  planEtcd,
  planNats,
  planRedis,
  type EtcdOptions,
  type NatsOptions,
  type Place,
  type RedisOptions,
  type ServerKind,
  type ServerPlan,
} from './server-kinds.ts';
import { waitUntil } from './wait.ts';

const READY_TIMEOUT_MS = 30_000;

export interface TestServer {
  readonly kind: ServerKind;
  /** `http://...` for etcd, `nats://...`, `redis://...` */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** The server's data, on this machine; may be copied or deleted while the server is down. */
  readonly dataDir: string;
  /** Undefined for a plain process. */
  readonly containerId: string | undefined;
  /** The server's own process on this machine; changes with each start. */
  pid(): number;
  state(): ProcessState;
  /** SIGSTOP: connections stay open, nothing is answered. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** SIGTERM, also when paused; port and data stay. */
  stop(): Promise<void>;
  /** After `stop` or `kill`; returns when the server answers. */
  start(): Promise<void>;
  /** `stop`, then `start`. */
  restart(): Promise<void>;
  /** Ends it whatever its state, and deletes its data. Safe to repeat. */
  remove(): Promise<void>;
  /** What the server has printed since its first start. */
  logs(): Promise<string>;
  /** Runs a program where the server runs (inside its container or its network namespace). */
  exec(argv: readonly string[]): Promise<DockerOutput>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Where a plain process listens. */
export interface ListenOptions {
  /** Path of a network namespace; default: this process's. */
  netns?: string;
  /** Address in that namespace; default 127.0.0.1. */
  host?: string;
  /** Default: a free one of this machine's loopback. */
  port?: number;
}

/** etcd in a container, on loopback; ready in about a second. */
export function startEtcd(options: EtcdOptions = {}): Promise<TestServer> {
  return startServer((place) => planEtcd(place, options), containerBody);
}

/** NATS with JetStream on disk in a container, on loopback. */
export function startNats(options: NatsOptions = {}): Promise<TestServer> {
  return startServer((place) => planNats(place, options), containerBody);
}

/** Redis, persistent, in a container, on loopback. */
export function startRedis(options: RedisOptions = {}): Promise<TestServer> {
  return startServer((place) => planRedis(place, options), containerBody);
}

/** etcd as a plain process, in a network namespace if asked. Needs no engine. */
export function spawnEtcd(options: EtcdOptions & ListenOptions = {}): Promise<TestServer> {
  return startServer((place) => planEtcd(place, options), processBody(options.netns), options);
}

/** NATS with JetStream on disk as a plain process. */
export function spawnNats(options: NatsOptions & ListenOptions = {}): Promise<TestServer> {
  return startServer((place) => planNats(place, options), processBody(options.netns), options);
}

/** Redis, persistent, as a plain process. */
export function spawnRedis(options: RedisOptions & ListenOptions = {}): Promise<TestServer> {
  return startServer((place) => planRedis(place, options), processBody(options.netns), options);
}

async function startServer(
  planFor: (place: Place) => ServerPlan,
  bodyFor: (run: Run, plan: ServerPlan) => ServerBody,
  listen: ListenOptions = {},
): Promise<TestServer> {
  const run = createRun();
  const reserved = [await reservePort(), await reservePort()];
  const [port = 0, peerPort = 0] = reserved.map((one) => one.port);
  const place = { host: listen.host ?? '127.0.0.1', port: listen.port ?? port, peerPort, dir: run.dir };
  const plan = planFor(place);
  const dataDir = path.join(run.dir, 'data');
  await mkdir(dataDir);
  for (const [name, content] of Object.entries(plan.files))
    await writeFile(path.join(run.dir, name), content);
  const body = bodyFor(run, plan);
  let pid = 0;

  const start = async (): Promise<void> => {
    await mkdir(dataDir, { recursive: true });
    pid = await body.launch();
    try {
      await waitUntil(() => body.ready(place.host, place.port), {
        what: `${plan.kind} at ${plan.url} to answer`,
        timeoutMs: READY_TIMEOUT_MS,
        unless: () => (processState(pid) === 'gone' ? 'the server has ended' : undefined),
      });
    } catch (error) {
      throw new Error(`${plan.kind} did not start:\n${await body.logs()}`, { cause: error });
    }
  };
  const stop = async (): Promise<void> => {
    sendSignal(pid, 'SIGCONT');
    await endProcess(pid, 'SIGTERM');
    await body.settle();
  };
  const remove = async (): Promise<void> => {
    await body.remove();
    await removeRun(run);
    for (const one of reserved.splice(0)) await one.release();
  };

  try {
    await start();
  } catch (error) {
    await remove();
    throw error;
  }
  return {
    kind: plan.kind,
    url: plan.url,
    host: place.host,
    port: place.port,
    dataDir,
    containerId: body.containerId(),
    pid: () => pid,
    state: () => processState(pid),
    pause: () => pauseProcess(pid),
    resume: () => resumeProcess(pid),
    // Not by way of SIGCONT: a paused server that is killed must not answer once more.
    async kill() {
      await endProcess(pid, 'SIGKILL');
      await body.settle();
    },
    stop,
    start,
    async restart() {
      await stop();
      await start();
    },
    remove,
    logs: () => body.logs(),
    exec: (argv) => body.exec(argv),
    [Symbol.asyncDispose]: remove,
  };
}
