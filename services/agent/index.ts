/**
 * The agent: publishes the life of this node's containers to the log. Run by the CLI's `agent` and `up`, once per node.
 *
 * engine -> observe.ts -> life.ts (translate.ts) -> publish.ts -> log
 *
 * When it ends it says nothing of its containers: they run on.
 */
import type { Engine } from '@elastic-dns/engine';
import type { Log } from '@elastic-dns/event-log';
import type { InstanceState, Refusal } from '@elastic-dns/model';
import {
  counter,
  gauge,
  supervise,
  systemClock,
  type Clock,
  type Health,
  type Logger,
  type Metrics,
  type SupervisionEnd,
} from '@elastic-dns/runtime';
import { claimEpoch } from './epoch.ts';
import { Observer } from './observe.ts';
import { Publisher, type PublishObserver } from './publish.ts';
import type { NodeFacts, Translated } from './translate.ts';

export type { NodeFacts } from './translate.ts';

export interface AgentConfig {
  /** Network to advertise for containers that are on several and name none. */
  network: string | null;
  snapshotIntervalMs: number;
  /** Events that wait while the log is out of reach; beyond that, one snapshot replaces them. */
  bufferEvents: number;
}

export interface AgentOptions {
  engine: Engine;
  log: Pick<Log, 'publish'>;
  node: NodeFacts;
  config: AgentConfig;
  /** The epoch is kept here. */
  dataDir: string;
  logger: Logger;
  metrics: Metrics;
  /** Gets what `/readyz` asks: whether the engine is in sight and the log in reach. */
  health: Health;
  clock?: Clock;
  signal: AbortSignal;
  /** Gets a function that tells how it stands, once it is known. */
  onStatus?: (status: () => AgentStatus) => void;
}

/** How an agent stands. */
export interface AgentStatus {
  node: string;
  epoch: number;
  /** Of the newest event; 0 before the first. */
  lastSequence: number;
  /** The engine is in sight: everything that runs is known. */
  engine: boolean;
  /** The log is in reach, as far as publishing has shown. */
  log: boolean;
  /** Events that the log does not have yet. */
  buffered: number;
  instances: number;
  refused: Refusal[];
}

/** For the last events, when the process ends. */
const DRAIN_MS = 2_000;

/** Runs until `signal` aborts. `ConfigError` when the epoch cannot be kept or the log refuses this node. */
export async function runAgent(options: AgentOptions): Promise<SupervisionEnd> {
  const { engine, log, node, config, logger, metrics, health, clock = systemClock } = options;
  const ending = new AbortController();
  const signal = AbortSignal.any([options.signal, ending.signal]);
  const epoch = await claimEpoch(options.dataDir, node.name, clock.now(), logger);
  const measures = measure(metrics);
  const publisher = new Publisher({
    log,
    node: node.name,
    epoch,
    compose: () => observer.compose(),
    bufferEvents: config.bufferEvents,
    clock,
    logger,
    observer: measures,
  });
  const observer = new Observer({
    engine,
    node,
    network: config.network,
    snapshotIntervalMs: config.snapshotIntervalMs,
    clock,
    signal,
    say: (saying) => publisher.say(saying),
    snapshot: (reason) => publisher.snapshot(reason),
    changed: (before, after) => {
      measures.changed(before, after);
      if (after?.kind === 'refused') {
        const { container, reason } = after.refusal;
        logger.warn({ container, reason }, 'a container gets no name');
      }
    },
  });
  const status = (): AgentStatus => {
    const { instances, refused } = observer.compose();
    const { lastSequence, buffered, isReachable } = publisher;
    const isConnected = observer.isConnected;
    const counts = { instances: instances.length, refused };
    return {
      node: node.name,
      epoch,
      lastSequence,
      engine: isConnected,
      log: isReachable,
      buffered,
      ...counts,
    };
  };
  options.onStatus?.(status);
  health.addReadiness(`agent ${node.name}: engine`, () =>
    observer.isConnected
      ? { ok: true, why: 'in sight' }
      : { ok: false, why: 'out of sight: what is known of its containers stays as it is' },
  );
  health.addReadiness(`agent ${node.name}: log`, () =>
    publisher.isReachable
      ? { ok: true, why: `in reach; ${publisher.buffered} events under way` }
      : { ok: false, why: `out of reach; ${publisher.buffered} events wait` },
  );
  logger.info({ node: node.name, epoch }, 'the agent starts');
  const supervision = supervise({
    name: `agent ${node.name}`,
    loop: async (loopSignal, settled) => {
      await observer.run(loopSignal, settled);
      return { kind: 'done' };
    },
    signal,
    logger,
    metrics,
    health,
    clock,
  });
  try {
    return await Promise.race([supervision, publisher.failed]);
  } finally {
    ending.abort();
    await supervision;
    await publisher.drain(DRAIN_MS);
  }
}

type Measures = PublishObserver & { changed(before: Translated, after: Translated): void };

function measure(metrics: Metrics): Measures {
  const published = counter(metrics, {
    name: 'elastic_dns_agent_events_published_total',
    help: 'Events that the log has taken, by type.',
    labels: ['type'],
  });
  const errors = counter(metrics, {
    name: 'elastic_dns_agent_publish_errors_total',
    help: 'Publications that failed: unavailable ones are tried again, refused ones are dropped.',
    labels: ['why'],
  });
  const buffered = gauge(metrics, {
    name: 'elastic_dns_agent_buffered',
    help: 'Events that the log does not have yet.',
  });
  const snapshots = counter(metrics, {
    name: 'elastic_dns_agent_snapshots_total',
    help: 'Snapshots by what asked for them.',
    labels: ['reason'],
  });
  const containers = gauge(metrics, {
    name: 'elastic_dns_agent_containers',
    help: 'Containers that ask for a name, by state; refused ones get none.',
    labels: ['state'],
  });
  const stateOf = (told: NonNullable<Translated>): InstanceState | 'refused' =>
    told.kind === 'instance' ? told.instance.state : 'refused';
  let lastBuffered = 0;
  return {
    published: (type) => published.inc({ type }),
    failed: (why) => errors.inc({ why }),
    snapshot: (reason) => snapshots.inc({ reason }),
    // By difference: virtual nodes of one process share the gauge.
    buffered: (count) => {
      buffered.inc(count - lastBuffered);
      lastBuffered = count;
    },
    changed: (before, after) => {
      if (before) containers.dec({ state: stateOf(before) });
      if (after) containers.inc({ state: stateOf(after) });
    },
  };
}
