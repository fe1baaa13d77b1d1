/**
 * Child processes that tests can stop, continue and kill, with the proof from /proc that it happened.
 * Called by engine-host, servers, lab and by tests that start programs of their own. Output goes to files in the
 * run's folder, so that no pipe holds the test process and nothing is lost when it dies.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Run } from './run.ts';
import { waitUntil } from './wait.ts';

/** `paused`: every thread stopped by SIGSTOP. `gone`: dead, or dead and not yet reaped. */
export type ProcessState = 'running' | 'paused' | 'gone';

export interface ProcessEntry {
  command: string;
  state: string;
  parent: number;
  /** Start time in clock ticks since boot: with the pid it names one process for good. */
  startTicks: string;
}

/** The ids of all processes. */
export function listProcesses(): number[] {
  return readdirSync('/proc').map(Number).filter(Number.isInteger);
}

/** What /proc says of a process; undefined when there is none. */
export function readProcess(pid: number): ProcessEntry | undefined {
  return readStat(`/proc/${pid}/stat`);
}

function readStat(file: string): ProcessEntry | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'latin1');
  } catch {
    return undefined;
  }
  // The command stands in brackets and may hold brackets and spaces itself: the last one closes it.
  const end = text.lastIndexOf(')');
  const fields = text.slice(end + 2).split(' ');
  return {
    command: text.slice(text.indexOf('(') + 1, end),
    state: fields[0] ?? '?',
    parent: Number(fields[1]),
    startTicks: fields[19] ?? '0',
  };
}

export function processState(pid: number): ProcessState {
  const entry = readProcess(pid);
  if (entry === undefined || 'ZXx'.includes(entry.state)) return 'gone';
  let threads: string[];
  try {
    threads = readdirSync(`/proc/${pid}/task`);
  } catch {
    return 'gone';
  }
  const paused = threads.every((thread) => readStat(`/proc/${pid}/task/${thread}/stat`)?.state === 'T');
  return paused ? 'paused' : 'running';
}

/** Stops every thread of the process with SIGSTOP and returns when /proc shows each in state T. */
export async function pauseProcess(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  await waitUntil(() => processState(pid) === 'paused', { what: `process ${pid} to be in state T` });
}

/** Continues a stopped process and returns when /proc shows that it runs. */
export async function resumeProcess(pid: number): Promise<void> {
  process.kill(pid, 'SIGCONT');
  await waitUntil(() => processState(pid) === 'running', { what: `process ${pid} to run again` });
}

/** Sends the signal (no error when the process is gone already) and returns when /proc shows that it is gone. */
export async function endProcess(pid: number, signal: NodeJS.Signals, timeoutMs = 10_000): Promise<void> {
  sendSignal(pid, signal);
  await waitUntil(() => processState(pid) === 'gone', {
    what: `process ${pid} to end on ${signal}`,
    timeoutMs,
  });
}

/** Sends a signal; nothing happens when the process is gone. */
export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  // 0 is what the engine gives for a container that has ended; to the kernel it means our own process group.
  if (pid <= 0) return;
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

export interface SpawnOptions {
  /** Names the output files; default: the program's name. */
  name?: string;
  /** Path of a network namespace to run in (`/run/netns/...`); default: this process's. */
  netns?: string;
  /** Added to this process's environment; `undefined` takes a variable out. */
  env?: Record<string, string | undefined>;
  cwd?: string;
}

export interface Exit {
  exitCode: number | null;
  signal: NodeJS.Signals | null;
}

export interface SpawnedProcess {
  readonly pid: number;
  readonly argv: readonly string[];
  /** Resolves when the process has ended, however that came. */
  readonly exited: Promise<Exit>;
  state(): ProcessState;
  /** All that it has written so far. */
  stdout(): string;
  stderr(): string;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<Exit>;
  /** Continues it if paused, SIGTERM, SIGKILL after `graceMs` (default 10 s); resolves when it is gone. */
  stop(graceMs?: number): Promise<Exit>;
}

let spawned = 0;

/** Starts a program as a tracked child of the run. Rejects when it cannot be started at all. */
export async function spawnProcess(
  run: Run,
  argv: readonly string[],
  options: SpawnOptions = {},
): Promise<SpawnedProcess> {
  const program = argv[0] ?? '';
  const outputs = path.join(run.dir, 'out');
  mkdirSync(outputs, { recursive: true });
  const stem = path.join(outputs, `${++spawned}-${options.name ?? path.basename(program)}`);
  const files = { stdout: `${stem}.stdout`, stderr: `${stem}.stderr` };
  // nsenter becomes the program (exec), so the child's pid is the program's own.
  const full = options.netns === undefined ? argv : ['nsenter', `--net=${options.netns}`, '--', ...argv];
  const descriptors = [openSync(files.stdout, 'a'), openSync(files.stderr, 'a')];
  let child: ChildProcess;
  try {
    child = spawn(full[0] ?? '', full.slice(1), {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', ...descriptors],
      // A group of its own: Ctrl-C ends the test process, whose teardown then ends this child in order.
      detached: true,
    });
  } finally {
    for (const descriptor of descriptors) closeSync(descriptor);
  }
  const exited = new Promise<Exit>((resolve) => {
    child.once('exit', (exitCode, signal) => resolve({ exitCode, signal }));
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error) => reject(new Error(`cannot start ${full.join(' ')}`, { cause: error })));
  });
  const pid = child.pid ?? 0;
  const untrack = trackProcess(run, pid);
  void exited.then(untrack);
  const end = async (signal: NodeJS.Signals): Promise<Exit> => {
    if (processState(pid) !== 'gone') sendSignal(pid, signal);
    return exited;
  };
  return {
    pid,
    argv,
    exited,
    state: () => processState(pid),
    stdout: () => readFileSync(files.stdout, 'utf8'),
    stderr: () => readFileSync(files.stderr, 'utf8'),
    pause: () => pauseProcess(pid),
    resume: () => resumeProcess(pid),
    kill: () => end('SIGKILL'),
    async stop(graceMs = 10_000) {
      const timer = setTimeout(() => sendSignal(pid, 'SIGKILL'), graceMs);
      try {
        sendSignal(pid, 'SIGCONT');
        return await end('SIGTERM');
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

export interface Output extends Exit {
  stdout: string;
  stderr: string;
}

/** Runs a program to its end, at most `timeoutMs` (default 30 s) long. A non-zero exit is an answer, not an error. */
export async function runProcess(
  run: Run,
  argv: readonly string[],
  options: SpawnOptions & { timeoutMs?: number } = {},
): Promise<Output> {
  const child = await spawnProcess(run, argv, options);
  const timeoutMs = options.timeoutMs ?? 30_000;
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    sendSignal(child.pid, 'SIGKILL');
  }, timeoutMs);
  const exit = await child.exited;
  clearTimeout(timer);
  const output = { ...exit, stdout: child.stdout(), stderr: child.stderr() };
  if (late) throw new Error(`${argv.join(' ')} did not end within ${timeoutMs} ms: ${output.stderr}`);
  return output;
}

/** Notes the process in the run's folder, so that a sweep ends it should this process die first. */
export function trackProcess(run: Run, pid: number): () => void {
  const folder = path.join(run.dir, 'pids');
  mkdirSync(folder, { recursive: true });
  const file = path.join(folder, `${pid}-${readProcess(pid)?.startTicks ?? '0'}`);
  writeFileSync(file, '');
  return () => rmSync(file, { force: true });
}
