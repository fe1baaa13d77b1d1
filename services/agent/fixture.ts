/**
 * Agents under test: on an engine, a log and a clock that the test commands, or on real ones; and what the log should add
 * up to.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, vi } from 'vitest';
import { createDockerEngine } from '@elastic-dns/engine/docker';
import type { Engine } from '@elastic-dns/engine';
import type { Log } from '@elastic-dns/event-log';
import { fold, Registry, type Container, type LogEntry } from '@elastic-dns/model';
import { createLogger, createMetrics, Health, VirtualClock, type Logger } from '@elastic-dns/runtime';
import type { RunOptions } from '@elastic-dns/testkit/docker';
import type { Lab, LabNode } from '@elastic-dns/testkit/lab';
import { runAgent, type AgentConfig, type AgentOptions, type AgentStatus } from './index.ts';
import { MemoryLog, NODE, TestEngine } from './samples.ts';
import { translate, type NodeFacts } from './translate.ts';

export const CONFIG: AgentConfig = { network: null, snapshotIntervalMs: 300_000, bufferEvents: 1_000 };
/** The clock of the node when a test begins: after the start of every sample. */
export const START_MS = 1_000_000;

export interface Agent<E extends Engine = TestEngine> {
  engine: E;
  log: MemoryLog;
  clock: VirtualClock;
  health: Health;
  status: () => AgentStatus;
  /** Values of a metric by their labels. */
  metric: (name: string) => Promise<Record<string, number>>;
  /** Fields of the warnings that were logged. */
  warnings: string[];
  /** Lets everything happen that is under way. */
  settle: () => Promise<void>;
  stop: () => Promise<void>;
  ended: Promise<unknown>;
}

interface Given {
  log?: MemoryLog;
  clock?: VirtualClock;
  config?: Partial<AgentConfig>;
  node?: NodeFacts;
  /** Keeps the epoch; default: a folder of the test's own. */
  folder?: string;
}

/** A folder that is gone after the test. */
export function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'agent-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** An agent on an engine and a log of its own, or on given ones; started, with all done that can be done at once. */
export function start(given: Given & { engine?: TestEngine } = {}): Promise<Agent> {
  return startOn(given.engine ?? new TestEngine(), given);
}

export async function startOn<E extends Engine>(engine: E, given: Given): Promise<Agent<E>> {
  const { log = new MemoryLog(), clock = new VirtualClock(START_MS), node = NODE } = given;
  const abort = new AbortController();
  const metrics = createMetrics({ processMetrics: false });
  const health = new Health();
  const warnings: string[] = [];
  const logger: Logger = createLogger({ level: 'silent' });
  logger.warn = (fields: unknown) => void warnings.push(JSON.stringify(fields));
  const known = Promise.withResolvers<() => AgentStatus>();
  const ended = runAgent({
    engine,
    log,
    node,
    config: { ...CONFIG, ...given.config },
    dataDir: given.folder ?? makeFolder(),
    logger,
    metrics,
    health,
    clock,
    signal: abort.signal,
    onStatus: known.resolve,
  });
  const status = await Promise.race([known.promise, ended.then(() => Promise.reject(new Error('ended')))]);
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 20; turn++) await clock.advance(0);
  };
  await settle();
  return {
    engine,
    log,
    clock,
    health,
    status,
    warnings,
    settle,
    ended,
    stop: async () => {
      abort.abort();
      await ended;
    },
    metric: async (name) => {
      const found = (await metrics.getMetricsAsJSON()).find((metric) => metric.name === name);
      const values = (found?.values ?? []) as { labels: Record<string, string>; value: number }[];
      return Object.fromEntries(values.map(({ labels, value }) => [Object.values(labels).join(), value]));
    },
  };
}

/** What the registry should hold for these containers of a node, sorted. */
export function expected(containers: readonly Container[], node: NodeFacts = NODE): string[] {
  const told = containers
    .filter(({ status }) => status === 'running' || status === 'paused')
    .map((container) => translate(container, { node, network: null, isStopping: false }));
  return sorted(
    told
      .filter((each) => each !== null)
      .map((each) => JSON.stringify(each.kind === 'instance' ? each.instance : each.refusal)),
  );
}

/** What it holds for a node, sorted. */
export function held(registry: Registry, node: NodeFacts = NODE): string[] {
  const subjects = [...registry.subjectsOf(node.name)].map((id) => registry.subject(id));
  return sorted(
    subjects.flatMap((subject) => {
      if (subject?.kind === 'instance') return [JSON.stringify(subject.instance)];
      return subject?.kind === 'refused' ? [JSON.stringify(subject.refusal)] : [];
    }),
  );
}

export function sorted(texts: readonly string[]): string[] {
  return texts.toSorted((a, b) => (a < b ? -1 : 1));
}

/** For what a real engine or log does. */
export const WAIT = { timeout: 30_000, interval: 50 };

export interface RealAgent {
  status: () => AgentStatus;
  stop: () => Promise<void>;
}

/** An agent on the real engine of a node, with the real time; it has said all that runs. */
export async function startReal(
  { docker }: LabNode,
  given: Partial<AgentOptions> & Pick<AgentOptions, 'log'>,
): Promise<RealAgent> {
  const abort = new AbortController();
  const engine = given.engine ?? createDockerEngine({ host: docker.host, pingIntervalMs: 500 });
  const known = Promise.withResolvers<() => AgentStatus>();
  const ended = runAgent({
    engine,
    node: NODE,
    config: { ...CONFIG, snapshotIntervalMs: 3_600_000 },
    dataDir: makeFolder(),
    logger: createLogger({ level: 'silent' }),
    metrics: createMetrics({ processMetrics: false }),
    health: new Health(),
    signal: abort.signal,
    onStatus: known.resolve,
    ...given,
  });
  const status = await known.promise;
  await vi.waitFor(() => expect(status()).toMatchObject({ engine: true, buffered: 0 }), WAIT);
  return {
    status,
    stop: async () => {
      abort.abort();
      await ended;
      await engine.close();
    },
  };
}

/** Everything in the log. */
export async function readEntries(log: Log): Promise<LogEntry[]> {
  const entries: LogEntry[] = [];
  for await (const batch of log.read({ from: 1, follow: false })) entries.push(...batch);
  return entries;
}

/** What a registrar makes of the log: each instance, with its state and address. */
export async function readRegistry(log: Log): Promise<Record<string, string>> {
  const registry = new Registry();
  for (const entry of await readEntries(log)) registry.apply(fold(registry, entry).change);
  expect([...registry.setAside.values()]).toEqual([]);
  const instances = [...registry.subjectsOf(NODE.name)].flatMap((id) => {
    const subject = registry.subject(id);
    return subject?.kind === 'instance' ? [subject.instance] : [];
  });
  return Object.fromEntries(instances.map(({ id, state, ipv4 }) => [id.slice(-12), `${state} ${ipv4}`]));
}

/** What the engine's command line says of what runs. */
async function readEngine({ docker }: LabNode): Promise<Record<string, string>> {
  const ids = (await docker.command(['ps', '--quiet', '--no-trunc'])).split('\n').filter(Boolean);
  const found: Record<string, string> = {};
  for (const id of ids) {
    const { State, NetworkSettings } = await docker.inspect(id);
    const states: Record<string, string> = { healthy: 'ready', starting: 'starting', unhealthy: 'unready' };
    const state = State.Status === 'paused' ? 'unready' : (states[State.Health?.Status ?? ''] ?? 'ready');
    const [address] = Object.values(NetworkSettings.Networks);
    found[id.slice(0, 12)] = `${state} ${address?.IPAddress}`;
  }
  return found;
}

/** L1: waits until the log says what the engine says. */
export async function addsUp(log: Log, node: LabNode): Promise<void> {
  await vi.waitFor(async () => expect(await readRegistry(log)).toEqual(await readEngine(node)), WAIT);
}

/** Starts a container that asks for a name, with a health check that passes if it is to have one. */
export function runContainer(lab: Lab, node: LabNode, options: Partial<RunOptions> = {}): Promise<string> {
  const labels = { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'api' };
  return node.docker.run({ image: lab.image, labels, ...options });
}

export async function removeAll({ docker }: LabNode): Promise<void> {
  await docker.remove(...(await docker.list()));
}
