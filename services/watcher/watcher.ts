/**
 * The watcher: follows the registry and keeps this node's hosts files. Run by the command line's `watcher` and `up`.
 *
 * mirror -> render.ts -> container-hosts.ts, hosts-file.ts, node-file.ts -> files
 *
 * Before anything is known of the registry, nothing is written; from then on the last state that was known stays, on
 * disk as well (state-keeper.ts), through whatever becomes of the store (S7). Files are written when something has
 * changed (pace.ts), and looked at every few seconds, so that what others did to them is mended (L1).
 */
import type { Engine } from '@elastic-dns/engine';
import type { Order } from '@elastic-dns/model';
import type { Mirror, MirrorState } from '@elastic-dns/registry-store/mirror';
import {
  supervise,
  systemClock,
  type CheckResult,
  type Clock,
  type Health,
  type Logger,
  type Loop,
  type Metrics,
} from '@elastic-dns/runtime';
import { ContainerHosts } from './container-hosts.ts';
import { NamespaceHosts } from './hosts-file.ts';
import { NodeFile } from './node-file.ts';
import { Pace } from './pace.ts';
import { Renderer } from './render.ts';
import { StateKeeper } from './state-keeper.ts';
import { watcherMetrics } from './watcher-metrics.ts';
import type { WriteProblem } from './write-problem.ts';

/** How often the files are looked at: well within the 5 s in which they have to heal. */
const LOOK_MS = 2_000;
/** Looks are spread by this share, so that many nodes do not all look at once. */
const LOOK_JITTER = 0.25;
/** How often a registry is looked for before there is any. */
const EMPTY_MS = 50;

export interface WatcherOptions {
  /** Neither seeded nor started: both is done here. Others may listen to it too. */
  mirror: Mirror;
  /** Null: containers are left alone. */
  engine: Engine | null;
  config: {
    /** Folder of the files of namespaces. */
    hostsDir: string;
    /** The node's own hosts file; null: it is left alone. */
    nodeHosts: string | null;
    /** Shortest and longest pause between two writings. */
    quietMs: number;
    ceilingMs: number;
  };
  /** Folder of the last good state. */
  dataDir: string;
  /** This node's name. */
  node: string;
  logger: Logger;
  metrics: Metrics;
  health: Health;
  clock?: Clock;
  signal: AbortSignal;
  /** Gets a function that tells how it stands. */
  onStatus?: (status: () => WatcherStatus) => void;
}

/** How a watcher stands. */
export interface WatcherStatus {
  state: MirrorState;
  /** Of the registry in memory; 0n before there is one. */
  revision: bigint;
  /** The revision that the files show. */
  writtenRevision: bigint;
  /** Since when the registry is not known to be the store's; 0 while it is followed. */
  ageMs: number;
  /** Engine and registry are in sight, and every file that can be written says what they say. */
  isSettled: boolean;
  /** Of this node: the newest snapshot that the registry has. */
  snapshot: Order | null;
  /** Files that are kept. */
  containers: number;
  namespaces: number;
  /** Files that are not right, and why. */
  problems: WriteProblem[];
}

/** Runs until `signal` aborts. Rejects when the store cannot be followed for a reason that trying again does not mend. */
export async function runWatcher(options: WatcherOptions): Promise<void> {
  const { mirror, engine, config, dataDir, node, logger, health, clock = systemClock, onStatus } = options;
  const metrics = watcherMetrics(options.metrics);
  const renderer = new Renderer(mirror.registry);
  const pace = new Pace({ clock, ...config });
  /** Something is to be written, or is being waited for. */
  let hasWork = true;
  const poke = (): void => {
    hasWork = true;
    pace.poke();
  };
  const keeper = new StateKeeper({ folder: dataDir, mirror, logger, clock });
  keeper.begin();

  const containers =
    engine &&
    new ContainerHosts({
      engine,
      renderer,
      observer: metrics.observerFor('container'),
      clock,
      poke,
    });
  const namespaces = new NamespaceHosts(config.hostsDir, renderer, metrics.observerFor('namespace'));
  const nodeFile =
    config.nodeHosts === null ? null : new NodeFile(config.nodeHosts, renderer, metrics.observerFor('node'));
  const outputs = [containers, namespaces, nodeFile].filter((output) => output !== null);
  const problems = new Map<string, WriteProblem>();

  /** When the events were observed that are in the registry and not in the files yet. */
  let observedAtMs: number[] = [];
  /** Changes of the registry so far, and how many of them the files show, at which revision. */
  let changes = 0;
  let writtenChanges = -1;
  let writtenRevision = 0n;

  mirror.onChange((change, _, touched) => {
    const changed = renderer.update(touched);
    for (const output of outputs) output.touch(changed);
    changes += 1;
    // What comes while the store is caught up with is old news.
    if (mirror.state === 'live')
      for (const record of change.puts.values())
        if (record.kind === 'node') observedAtMs.push(record.observedAtMs);
    poke();
  });

  const status = (): WatcherStatus => ({
    state: mirror.state,
    revision: mirror.revision,
    writtenRevision: writtenChanges === changes ? mirror.revision : writtenRevision,
    ageMs: mirror.state === 'live' || mirror.state === 'empty' ? 0 : clock.now() - mirror.sinceMs,
    isSettled: mirror.state === 'live' && !hasWork && (containers?.isConnected ?? true),
    snapshot: mirror.registry.node(node)?.snapshot ?? null,
    containers: containers?.size ?? 0,
    namespaces: namespaces.size,
    problems: [...problems.values()],
  });
  onStatus?.(status);
  health.addReadiness('watcher', () => checkOf(status(), containers?.isConnected ?? true));

  const report = (): void => {
    const now = new Map(
      outputs.flatMap((output) => output.problems).map((problem) => [problem.path, problem]),
    );
    for (const [path, problem] of now) {
      if (problems.get(path)?.kind === problem.kind) continue;
      metrics.problem(problem);
      logger.warn(
        { path, problem: problem.kind, why: problem.why },
        'a hosts file cannot be kept; trying again',
      );
    }
    for (const path of problems.keys())
      if (!now.has(path)) logger.info({ path }, 'a hosts file is right again');
    problems.clear();
    for (const [path, problem] of now) problems.set(path, problem);
  };

  /** Writes what is due; returns when there is more to do. */
  const write = async (nowMs: number): Promise<number> => {
    const observed = observedAtMs;
    observedAtMs = [];
    const { revision } = mirror;
    const seenChanges = changes;
    hasWork = false;
    let dueMs = Infinity;
    for (const output of outputs) dueMs = Math.min(dueMs, (await output.flush(nowMs)) ?? Infinity);
    report();
    hasWork ||= dueMs !== Infinity && problems.size === 0;
    // A file that has a problem does not hold up what is said of all others.
    if (dueMs === Infinity || problems.size > 0) {
      writtenChanges = seenChanges;
      writtenRevision = revision;
      for (const atMs of observed) metrics.arrived(atMs, clock.now());
    } else {
      observedAtMs = [...observed, ...observedAtMs];
    }
    const standing = status();
    metrics.standing({
      revision: standing.writtenRevision,
      ageMs: standing.ageMs,
      files: { container: standing.containers, namespace: standing.namespaces, node: nodeFile ? 1 : 0 },
    });
    return dueMs;
  };

  const keepFiles = async (signal: AbortSignal): Promise<void> => {
    let lookMs = 0;
    while (!signal.aborted) {
      const nowMs = clock.now();
      if (mirror.state === 'empty') {
        await pace.rest(nowMs, nowMs + EMPTY_MS, signal);
        continue;
      }
      if (nowMs >= lookMs) {
        for (const output of outputs) output.look();
        lookMs = nowMs + LOOK_MS * (1 - LOOK_JITTER + 2 * LOOK_JITTER * Math.random());
      }
      const dueMs = await write(nowMs);
      await pace.rest(nowMs, Math.min(dueMs, lookMs), signal);
    }
  };

  await runTogether(options.signal, [
    async (signal) => {
      const end = await mirror.start(signal);
      if (end.kind === 'failed') throw end.error;
    },
    keepFiles,
    (signal) => keeper.run(signal),
    async (signal) => {
      if (!containers) return;
      const loop: Loop = (ending, settled) => containers.run(ending, settled);
      await supervise({ name: 'containers', loop, signal, logger, metrics: options.metrics, health, clock });
    },
  ]);
}

/** Runs all until they end; when one rejects, ends the others and rejects with its error. */
async function runTogether(
  signal: AbortSignal,
  works: readonly ((signal: AbortSignal) => Promise<void>)[],
): Promise<void> {
  const ending = new AbortController();
  const either = AbortSignal.any([signal, ending.signal]);
  const running = works.map(async (work) => {
    try {
      await work(either);
    } catch (error) {
      ending.abort();
      throw error;
    }
  });
  await Promise.allSettled(running);
  await Promise.all(running);
}

function checkOf({ state, ageMs, problems }: WatcherStatus, isEngineInSight: boolean): CheckResult {
  const [problem] = problems;
  if (state === 'empty') return { ok: false, why: 'nothing is known of the registry yet' };
  if (state !== 'live')
    return { ok: false, why: `${state}: serves the last good state, ${Math.round(ageMs / 1000)} s old` };
  if (problem)
    return {
      ok: false,
      why: `${problems.length} hosts files cannot be kept: ${problem.path}: ${problem.why}`,
    };
  if (!isEngineInSight) return { ok: false, why: 'the container engine is out of sight' };
  return { ok: true, why: 'follows the registry' };
}
