/**
 * The docker command line, bound to one engine's socket: what tests use to start, look into and end containers.
 * Called by engine-host, images, servers and lab. Never talks to an engine that testkit has not started.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { text } from 'node:stream/consumers';

export interface DockerOutput {
  stdout: string;
  stderr: string;
  exitCode: number;
}

export interface HealthCheckOptions {
  /** A shell command; exit code 0 is healthy. */
  command: string;
  /** Default 200 ms. */
  intervalMs?: number;
  /** Default 2 s. */
  timeoutMs?: number;
  /** Failures in a row until unhealthy; default 1. */
  retries?: number;
  /** Failures in this time do not count; default 0. */
  startPeriodMs?: number;
}

export interface RunOptions {
  image: string;
  name?: string;
  labels?: Record<string, string>;
  /** Default: the image's own. */
  command?: readonly string[];
  healthCheck?: HealthCheckOptions;
  /** Name of the network it starts in; more with `connect`. Default: the engine's default network. */
  network?: string;
  /** Needs a user-defined network. */
  ipAddress?: string;
  /** Names in its network, for the engine's own DNS. */
  aliases?: readonly string[];
  /** As `docker run --publish`: `8080:80`, `127.0.0.1::3000/udp`. */
  publish?: readonly string[];
  env?: Record<string, string>;
  hostname?: string;
  /** `no` (default), `always`, `on-failure`, `unless-stopped`. */
  restart?: string;
  stopSignal?: string;
  /** Further words for `docker run`, before the image. */
  extra?: readonly string[];
}

export interface Docker {
  /** `unix://...` */
  readonly host: string;
  /** Runs `docker <argv>`; rejects with its stderr when it fails; gives its trimmed stdout. */
  command(argv: readonly string[]): Promise<string>;
  /** `docker import` of a tar; gives the image's id. */
  importImage(tag: string, tar: Readable, changes?: readonly string[]): Promise<string>;
  hasImage(tag: string): Promise<boolean>;
  /** Starts a container in the background; gives its full id. */
  run(options: RunOptions): Promise<string>;
  /** Runs a program inside; a non-zero exit code is an answer, not an error. */
  exec(container: string, argv: readonly string[]): Promise<DockerOutput>;
  start(container: string): Promise<void>;
  /** The engine's stop signal, then SIGKILL after `graceSeconds` (default 1). */
  stop(container: string, graceSeconds?: number): Promise<void>;
  restart(container: string, graceSeconds?: number): Promise<void>;
  /** Default SIGKILL. */
  kill(container: string, signal?: string): Promise<void>;
  /** Removes it with its volumes, running or not. */
  remove(...containers: string[]): Promise<void>;
  logs(container: string): Promise<string>;
  /** `docker inspect` of one thing, as the engine gives it. */
  inspect(thing: string): Promise<ContainerInspect>;
  /** Ids of all containers, stopped ones included. */
  list(): Promise<string[]>;
}

/** The part of the engine's answer that tests read. */
export interface ContainerInspect {
  Id: string;
  Name: string;
  State: { Status: string; Running: boolean; Pid: number; ExitCode: number; Health?: { Status: string } };
  HostsPath: string;
  NetworkSettings: {
    Networks: Record<string, { IPAddress: string; Gateway: string; GlobalIPv6Address: string }>;
  };
}

/** The command line for the engine at `socket` (a path). */
export function dockerAt(socket: string): Docker {
  const host = `unix://${socket}`;
  const spawnArgv = (argv: readonly string[]): string[] => ['--host', host, ...argv];

  // Not runProcess: this is called some hundred times per test file, and needs no tracking since it ends by itself.
  const execute = (argv: readonly string[]): Promise<DockerOutput> =>
    new Promise((resolve, reject) => {
      const options = { maxBuffer: 64 << 20, timeout: 60_000, env: plainEnvironment() };
      execFile('docker', spawnArgv(argv), options, (error, stdout, stderr) => {
        if (error !== null && typeof error.code !== 'number') {
          reject(new Error(`docker ${argv.join(' ')}: ${stderr || error.message}`, { cause: error }));
        } else {
          resolve({ stdout, stderr, exitCode: error === null ? 0 : Number(error.code) });
        }
      });
    });

  const command = async (argv: readonly string[]): Promise<string> => {
    const { stdout, stderr, exitCode } = await execute(argv);
    if (exitCode !== 0) throw new Error(`docker ${argv.join(' ')} failed (${exitCode}): ${stderr.trim()}`);
    return stdout.trim();
  };
  const quietly = async (argv: readonly string[]): Promise<void> => {
    await command(argv);
  };

  return {
    host,
    command,
    async importImage(tag, tar, changes = []) {
      const argv = ['import', ...changes.flatMap((change) => ['--change', change]), '-', tag];
      const child = spawn('docker', spawnArgv(argv), { env: plainEnvironment() });
      const exit = once(child, 'exit');
      const outputs = Promise.all([text(child.stdout), text(child.stderr)]);
      await Promise.all([pipeline(tar, child.stdin), finished(child.stdout)]);
      const [stdout, stderr] = await outputs;
      const [exitCode] = (await exit) as [number | null];
      if (exitCode !== 0) throw new Error(`docker import of ${tag} failed (${exitCode}): ${stderr.trim()}`);
      return stdout.trim();
    },
    async hasImage(tag) {
      return (await execute(['image', 'inspect', '--format', '{{.Id}}', tag])).exitCode === 0;
    },
    run: (options) => command(runArguments(options)),
    exec: (container, argv) => execute(['exec', container, ...argv]),
    start: (container) => quietly(['start', container]),
    stop: (container, graceSeconds = 1) => quietly(['stop', '--time', String(graceSeconds), container]),
    restart: (container, graceSeconds = 1) => quietly(['restart', '--time', String(graceSeconds), container]),
    kill: (container, signal = 'SIGKILL') => quietly(['kill', '--signal', signal, container]),
    async remove(...containers) {
      if (containers.length > 0) await command(['rm', '--force', '--volumes', ...containers]);
    },
    async logs(container) {
      const { stdout, stderr } = await execute(['logs', container]);
      return stdout + stderr;
    },
    async inspect(thing) {
      const [found] = JSON.parse(await command(['inspect', thing])) as [ContainerInspect];
      return found;
    },
    async list() {
      const ids = await command(['ps', '--all', '--quiet', '--no-trunc']);
      return ids.split('\n').filter(Boolean);
    },
  };
}

function runArguments(options: RunOptions): string[] {
  const argv = ['run', '--detach'];
  const add = (flag: string, value: string | undefined): void => {
    if (value !== undefined) argv.push(flag, value);
  };
  add('--name', options.name);
  add('--hostname', options.hostname);
  add('--network', options.network);
  add('--ip', options.ipAddress);
  add('--restart', options.restart);
  add('--stop-signal', options.stopSignal);
  for (const [key, value] of Object.entries(options.labels ?? {})) add('--label', `${key}=${value}`);
  for (const [key, value] of Object.entries(options.env ?? {})) add('--env', `${key}=${value}`);
  for (const alias of options.aliases ?? []) add('--network-alias', alias);
  for (const port of options.publish ?? []) add('--publish', port);
  if (options.healthCheck !== undefined) {
    const {
      command,
      intervalMs = 200,
      timeoutMs = 2_000,
      retries = 1,
      startPeriodMs = 0,
    } = options.healthCheck;
    add('--health-cmd', command);
    add('--health-interval', `${intervalMs}ms`);
    add('--health-timeout', `${timeoutMs}ms`);
    add('--health-retries', String(retries));
    add('--health-start-period', `${startPeriodMs}ms`);
  }
  return [...argv, ...(options.extra ?? []), options.image, ...(options.command ?? [])];
}

/** A context or a host that the user has chosen for their own engine must not reach this one. */
function plainEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, DOCKER_CONTEXT: undefined, DOCKER_HOST: undefined, DOCKER_TLS_VERIFY: undefined };
}
