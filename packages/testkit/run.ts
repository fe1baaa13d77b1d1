/**
 * A run: one folder that names its owner and holds all that the owner has outside of its own memory (processes,
 * mounts, network namespaces, cgroups), so that whatever a crashed test left is found and removed by the next one.
 * Called by engine-host, servers and lab. Removes only what carries a run's name, and of other runs only those whose
 * owner is dead.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { claim } from './claims.ts';
import { listProcesses, processState, readProcess, sendSignal } from './processes.ts';
import { waitUntil } from './wait.ts';

const execute = promisify(execFile);

/** Not os.tmpdir(): a socket's path may have 107 bytes, and the engine puts long names below this folder. */
const ROOT = '/tmp';
const NAME = /^edt-(\d+)-([0-9a-z]+)-\d+$/;
const NETNS_ROOT = '/run/netns';
const CGROUP_ROOT = '/sys/fs/cgroup';
/** A crashed run takes a few seconds; several of them may be waiting. */
const SWEEP_TIMEOUT_MS = 60_000;
const ENGINE_COMMANDS = new Set(['dockerd', 'containerd', 'docker-proxy']);

export interface Run {
  /** `edt-<pid>-<start of that process>-<number>`: prefix of every name that the run gives outside of its folder. */
  readonly id: string;
  readonly dir: string;
}

let runs = 0;

/** A new run of this process with an empty folder. */
export function createRun(): Run {
  const start = BigInt(readProcess(process.pid)?.startTicks ?? '0').toString(36);
  const id = `edt-${process.pid}-${start}-${++runs}`;
  const dir = path.join(ROOT, id);
  mkdirSync(dir);
  return { id, dir };
}

/** Ends and removes all that carries the run's name, its folder last: by that a sweep knows it. Safe to repeat. */
export async function removeRun(run: Run): Promise<void> {
  await endProcessesOf(run);
  for (const name of namespacesOf(run)) await execute('ip', ['netns', 'delete', name]);
  for (const mount of mountsOf(run)) await execute('umount', ['--lazy', mount]);
  await removeCgroups(run);
  await removeShimSockets(run);
  await rm(run.dir, { recursive: true, force: true, maxRetries: 5 });
}

/** Removes the runs whose owners are dead. Returns when they are gone, also when another process is at it. */
export async function sweepDeadRuns(): Promise<void> {
  const release = await waitUntil(() => claim('sweep'), {
    what: "another process's sweep to end",
    timeoutMs: SWEEP_TIMEOUT_MS,
  });
  try {
    for (const name of list(ROOT)) {
      const match = NAME.exec(name);
      if (match === null || ownerLives(Number(match[1]), match[2] ?? '')) continue;
      await removeRun({ id: name, dir: path.join(ROOT, name) });
    }
  } finally {
    await release();
  }
}

/** The runs that this process owns now. */
export function ownRuns(): string[] {
  return list(ROOT).filter((name) => Number(NAME.exec(name)?.[1]) === process.pid);
}

function ownerLives(pid: number, start: string): boolean {
  const ticks = readProcess(pid)?.startTicks;
  return ticks !== undefined && BigInt(ticks).toString(36) === start && processState(pid) !== 'gone';
}

/** A run's network namespaces are called `<run>.<name>`. */
export function namespaceName(run: Run, name: string): string {
  return `${run.id}.${name}`;
}

function namespacesOf(run: Run): string[] {
  return list(NETNS_ROOT).filter((name) => name.startsWith(namespaceName(run, '')));
}

async function endProcessesOf(run: Run): Promise<void> {
  const tracked = list(path.join(run.dir, 'pids')).flatMap((file) => {
    const [pid = '', startTicks] = file.split('-');
    return readProcess(Number(pid))?.startTicks === startTicks ? [Number(pid)] : [];
  });
  const engine = enginePidsOf(run);
  // The containers' first processes are children of their shims, and do not carry the run's name.
  const contained = listProcesses().filter((pid) => engine.includes(readProcess(pid)?.parent ?? 0));
  const doomed = [...new Set([...tracked, ...engine, ...contained])].filter((pid) => pid !== process.pid);
  for (const pid of doomed) sendSignal(pid, 'SIGKILL');
  await waitUntil(() => doomed.every((pid) => processState(pid) === 'gone'), {
    what: `the processes of ${run.id} to end`,
  });
}

/** The run's engines, their containerd and their shims: each has a path of the run's folder in its command line. */
function enginePidsOf(run: Run): number[] {
  return listProcesses().filter((pid) => {
    const command = readProcess(pid)?.command ?? '';
    if (!ENGINE_COMMANDS.has(command) && !command.startsWith('containerd-shim')) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`${run.dir}/`);
    } catch {
      return false;
    }
  });
}

function mountsOf(run: Run): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((mount) => mount.startsWith(`${run.dir}/`))
    .toReversed();
}

async function removeCgroups(run: Run): Promise<void> {
  const hierarchies = [CGROUP_ROOT, ...list(CGROUP_ROOT).map((name) => path.join(CGROUP_ROOT, name))];
  for (const hierarchy of hierarchies) {
    const top = path.join(hierarchy, run.id);
    // A cgroup is busy for a moment after its last process has ended.
    await waitUntil(() => removeCgroup(top), { what: `the cgroup ${top} to be free` });
  }
}

/** A cgroup is removed by rmdir alone, deepest first. False while there is one that is busy. */
function removeCgroup(folder: string): boolean {
  const children = list(folder).map((name) => path.join(folder, name));
  for (const child of children) {
    if (statSync(child, { throwIfNoEntry: false })?.isDirectory()) removeCgroup(child);
  }
  try {
    rmdirSync(folder);
  } catch {
    return !existsSync(folder);
  }
  return true;
}

/** A killed shim leaves its socket outside of the run's folder; its bundle says where. */
async function removeShimSockets(run: Run): Promise<void> {
  if (!existsSync(run.dir)) return;
  const found = await execute('find', [run.dir, '-path', '*/io.containerd.runtime.v2.task/*/address']);
  for (const file of found.stdout.split('\n').filter(Boolean)) {
    await rm(readFileSync(file, 'utf8').trim().replace('unix://', ''), { force: true });
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
