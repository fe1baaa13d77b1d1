/**
 * A container engine of the tests' own, started from nothing and removed without a trace, so that no test ever sees
 * or touches a container of the user. Called by global-setup (one engine for the servers) and by lab (one per node).
 *
 * Without `network` the engine makes no bridge and no firewall rule: its containers use the host's network, and
 * servers in them listen on loopback. With `network` it lives in a network namespace of its own.
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import path from 'node:path';
import { promisify } from 'node:util';
import { execFile } from 'node:child_process';
import { dockerAt, type Docker } from './docker.ts';
import { endProcess, processState, sendSignal, trackProcess } from './processes.ts';
import type { Run } from './run.ts';
import { waitUntil } from './wait.ts';

const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 20_000;

export interface EngineOptions {
  run: Run;
  /** Unique within the run; keep it short, it is part of a socket's path. */
  name: string;
  network?: EngineNetwork;
  /** Further words for dockerd, such as `--live-restore`. */
  flags?: readonly string[];
}

export interface EngineNetwork {
  /** Path of the network namespace. */
  netns: string;
  /** Address and prefix of the default bridge, `10.101.0.1/24`. */
  bridgeAddress: string;
  /** Out of which user-defined networks get their subnets, a /24 each. */
  addressPool: string;
}

export interface Engine {
  readonly name: string;
  /** Path of the engine's socket. */
  readonly socket: string;
  readonly docker: Docker;
  /** dockerd's process id; changes with a restart. */
  pid(): number;
  running(): boolean;
  /** Starts dockerd again after `stop` or `kill`, on the same data. */
  start(): Promise<void>;
  /** SIGTERM: dockerd stops its containers (unless `--live-restore`) and ends. */
  stop(): Promise<void>;
  /** `stop`, then `start`: containers with a restart policy come back. */
  restart(): Promise<void>;
  /** SIGKILL to dockerd alone: its containers go on. */
  kill(): Promise<void>;
  /** Removes all containers, then stops. Mounts and folders go with the run. */
  remove(): Promise<void>;
  /** dockerd's own log. */
  log(): string;
}

/** Starts an engine and returns when it answers. Needs root and dockerd. */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  if (process.getuid?.() !== 0) throw new Error('a container engine for tests needs root');
  await ensureCgroups();
  const dir = path.join(options.run.dir, options.name);
  mkdirSync(dir);
  const socket = path.join(dir, 'd.sock');
  const logFile = path.join(dir, 'log');
  const docker = dockerAt(socket);
  const argv = engineArguments(options, dir);
  let pid = 0;

  const start = async (): Promise<void> => {
    for (const file of ['pid', 'exec/containerd/containerd.pid']) await removeStale(path.join(dir, file));
    rmSync(socket, { force: true });
    const log = openSync(logFile, 'a');
    const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', log, log], detached: true });
    closeSync(log);
    child.unref();
    const failed = new Promise<never>((_, reject) => {
      child.once('error', (error) =>
        reject(new Error('cannot start dockerd; is docker.io installed?', { cause: error })),
      );
      child.once('exit', (code) => reject(new Error(`dockerd ended (${code}):\n${readLog(logFile)}`)));
    });
    failed.catch(() => undefined);
    pid = child.pid ?? 0;
    const untrack = trackProcess(options.run, pid);
    child.once('exit', untrack);
    await Promise.race([
      failed,
      waitUntil(() => ping(socket), {
        what: 'the engine to answer',
        timeoutMs: START_TIMEOUT_MS,
        intervalMs: 10,
      }),
    ]);
  };
  const stop = async (): Promise<void> => {
    if (processState(pid) === 'gone') return;
    sendSignal(pid, 'SIGCONT');
    await endProcess(pid, 'SIGTERM', STOP_TIMEOUT_MS);
  };

  await start();
  return {
    name: options.name,
    socket,
    docker,
    pid: () => pid,
    running: () => processState(pid) === 'running',
    start,
    stop,
    async restart() {
      await stop();
      await start();
    },
    kill: () => endProcess(pid, 'SIGKILL'),
    async remove() {
      if (processState(pid) === 'running') await docker.remove(...(await docker.list()));
      await stop();
    },
    log: () => readFileSync(logFile, 'utf8'),
  };
}

/**
 * A killed engine leaves its pid files behind, and its containerd ends a moment after it. A dockerd that starts in that
 * moment, or while the dead process waits to be reaped (a second, where the first process of the machine is slow at
 * it), takes the pid for alive and then waits for it in vain.
 */
async function removeStale(pidFile: string): Promise<void> {
  if (!existsSync(pidFile)) return;
  const pid = Number(readFileSync(pidFile, 'utf8'));
  await waitUntil(() => processState(pid) === 'gone', { what: `the process of ${pidFile} to be gone` });
  rmSync(pidFile);
}

function engineArguments(options: EngineOptions, dir: string): string[] {
  const common = [
    'dockerd',
    `--host=unix://${path.join(dir, 'd.sock')}`,
    `--data-root=${path.join(dir, 'data')}`,
    `--exec-root=${path.join(dir, 'exec')}`,
    `--pidfile=${path.join(dir, 'pid')}`,
    // The same on hosts with and without systemd, and a name by which a sweep finds what is left.
    '--exec-opt=native.cgroupdriver=cgroupfs',
    `--cgroup-parent=/${options.run.id}`,
  ];
  const { network, flags = [] } = options;
  if (network === undefined) {
    const none = ['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false'];
    return [...common, ...none, ...flags];
  }
  const bridges = [
    `--bip=${network.bridgeAddress}`,
    `--default-address-pool=base=${network.addressPool},size=24`,
    // A container that calls a container of another node is seen there under its own address.
    '--ip-masq=false',
  ];
  // Not `ip netns exec`: that mounts /sys anew and so hides the cgroups.
  return ['nsenter', `--net=${network.netns}`, '--', ...common, ...bridges, ...flags];
}

/** Whether an engine answers at this socket. */
function ping(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const call = request({ socketPath: socket, path: '/_ping', timeout: 2_000, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    call.once('timeout', () => call.destroy());
    call.once('error', () => resolve(false));
    call.end();
  });
}

/** Containers need cgroups; where nothing has mounted any (no init system), the unified hierarchy will do. */
async function ensureCgroups(): Promise<void> {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
  if (/ - cgroup2? /.test(mounts) || existsSync('/sys/fs/cgroup/cgroup.procs')) return;
  await promisify(execFile)('mount', ['-t', 'cgroup2', 'cgroup2', '/sys/fs/cgroup']);
}

function readLog(file: string): string {
  return readFileSync(file, 'utf8').split('\n').slice(-20).join('\n');
}
