/**
 * An agent under test, on an engine, a log and a clock that the test commands; and what the log should add up to.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Engine } from '@elastic-dns/engine';
import type { Container, Registry } from '@elastic-dns/model';
import { createLogger, createMetrics, Health, VirtualClock, type Logger } from '@elastic-dns/runtime';
import { runAgent, type AgentConfig, type AgentStatus } from './index.ts';
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
