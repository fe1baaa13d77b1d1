/**
 * The registrar: folds the log into the registry and commits it to the store. One leads at a time, spares wait in the
 * campaign. Run by the CLI's `registrar` and `up`.
 */
import type { Log } from '@elastic-dns/event-log';
import { LEADER_KEY, type CursorRecord, type Outcome } from '@elastic-dns/model';
import type { Leadership, Store } from '@elastic-dns/registry-store';
import { readSnapshot } from '@elastic-dns/registry-store/snapshot';
import {
  Backoff,
  counter,
  gauge,
  histogram,
  supervise,
  systemClock,
  type CheckResult,
  type Clock,
  type Health,
  type LoopEnd,
  type Logger,
  type Metrics,
} from '@elastic-dns/runtime';
import { Committer, type CommitObserver } from './commit.ts';
import { alignCursor, consume } from './consume.ts';

/** How often the log is asked how far ahead it is; for the lag metric only. */
const LAG_INTERVAL_MS = 5_000;
/** While the store does not answer a commit, it is tried again this often at least. */
const COMMIT_RETRY = { minMs: 20, maxMs: 1_000 };

export interface RegistrarOptions {
  log: Log;
  store: Store;
  /** Names this process among the candidates; shown to people. */
  candidate: string;
  /** How long a silent leader keeps the spares waiting. */
  leaseTtlMs: number;
  logger: Logger;
  metrics: Metrics;
  health: Health;
  clock?: Clock;
  signal: AbortSignal;
}

type Observed = CommitObserver & {
  leads(isLeader: boolean): void;
  folded(outcome: Outcome): void;
  cursor(cursor: CursorRecord): void;
  lag(events: number): void;
};

/** Runs until `signal` aborts. `ConfigError` when a newer program wrote the registry. */
export async function runRegistrar(options: RegistrarOptions): Promise<void> {
  const { log, store, candidate, leaseTtlMs, logger, metrics, health, signal, clock = systemClock } = options;
  const observed = observe(metrics, logger);
  let standing: CheckResult = { ok: true, why: 'campaigns' };
  health.addReadiness('registrar', () => standing);
  const loop = async (loopSignal: AbortSignal, settled: () => void): Promise<LoopEnd> => {
    standing = { ...standing, why: standing.ok ? 'spare: waits for the leadership' : standing.why };
    const leadership = await store.campaign({
      key: LEADER_KEY,
      candidate,
      ttlMs: leaseTtlMs,
      signal: loopSignal,
    });
    observed.leads(true);
    logger.info({ fencingRevision: String(leadership.token) }, 'leads');
    try {
      await lead(options, leadership, clock, observed, () => {
        standing = { ok: true, why: 'leads' };
        settled();
      });
      leadership.lost.throwIfAborted();
      return { kind: 'done' };
    } catch (error) {
      standing = { ok: false, why: error instanceof Error ? error.message : String(error) };
      throw error;
    } finally {
      observed.leads(false);
      await leadership.resign();
    }
  };
  await Promise.all([
    supervise({ name: 'registrar', loop, signal, logger, metrics, health, clock }),
    watchLag(log, clock, observed, signal),
  ]);
}

async function lead(
  { log, store, logger, signal }: RegistrarOptions,
  leadership: Leadership,
  clock: Clock,
  observed: Observed,
  settled: () => void,
): Promise<void> {
  const { registry, cursorRevision } = await readSnapshot(store, (reason) =>
    logger.warn({ reason }, 'a value in the store is no record; it is left alone'),
  );
  const start = alignCursor(registry, await log.info(), logger);
  logger.info({ records: registry.records.size, cursor: start.sequence }, 'loaded the registry');
  observed.cursor(start);
  settled();
  const committer = new Committer({
    store,
    leadership,
    cursorRevision,
    clock,
    backoff: new Backoff(COMMIT_RETRY),
    observer: observed,
  });
  await consume({
    log,
    registry,
    committer,
    onFolded: (outcome) => observed.folded(outcome),
    onCommitted: (cursor) => observed.cursor(cursor),
    signal: AbortSignal.any([signal, leadership.lost]),
  });
}

function observe(metrics: Metrics, logger: Logger): Observed {
  const events = counter(metrics, {
    name: 'elastic_dns_registrar_events_total',
    help: 'Log entries that were folded and committed, by what became of them.',
    labels: ['outcome'],
  });
  const setAside = counter(metrics, {
    name: 'elastic_dns_registrar_events_set_aside_total',
    help: 'Events that could not be folded, by reason.',
    labels: ['code'],
  });
  const leader = gauge(metrics, {
    name: 'elastic_dns_registrar_leader',
    help: '1 while this process leads.',
  });
  const position = gauge(metrics, {
    name: 'elastic_dns_registrar_cursor',
    help: 'Log sequence up to which the registry is committed.',
  });
  const lag = gauge(metrics, {
    name: 'elastic_dns_registrar_log_lag_events',
    help: 'Events in the log behind the cursor; as of the last look, at most 5 s ago.',
  });
  const commitSeconds = histogram(metrics, {
    name: 'elastic_dns_registrar_commit_seconds',
    help: 'Time of one commit to the store.',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5],
  });
  const operations = counter(metrics, {
    name: 'elastic_dns_registrar_operations_total',
    help: 'Puts and deletes that were committed.',
  });
  const retries = counter(metrics, {
    name: 'elastic_dns_registrar_commit_retries_total',
    help: 'Commits that got no answer and were looked into.',
  });
  let cursorSequence = 0;
  leader.set(0);
  return {
    leads: (isLeader) => leader.set(isLeader ? 1 : 0),
    folded: (outcome) => {
      events.inc({ outcome: outcome.kind });
      if (outcome.kind !== 'set-aside') return;
      const { code, reason, publisher, logSequence } = outcome.record;
      setAside.inc({ code });
      logger.warn({ code, reason, publisher, logSequence }, 'set an event aside');
    },
    cursor: ({ sequence }) => {
      cursorSequence = sequence;
      position.set(sequence);
    },
    lag: (last) => lag.set(Math.max(0, last - cursorSequence)),
    committed: (count, seconds) => {
      operations.inc(count);
      commitSeconds.observe(seconds);
    },
    retried: (error) => {
      retries.inc();
      logger.warn({ error: error.message }, 'a commit got no answer; finding out what became of it');
    },
  };
}

/** Keeps the lag metric fresh; an unreachable log leaves it as it is. */
async function watchLag(log: Log, clock: Clock, observed: Observed, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await log.info().then(
      ({ last }) => observed.lag(last),
      () => undefined,
    );
    await clock.sleep(LAG_INTERVAL_MS, signal);
  }
}
