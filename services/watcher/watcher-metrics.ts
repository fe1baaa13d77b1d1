/** What the watcher tells Prometheus. Made by watcher.ts. */
import {
  counter,
  EVENT_TO_HOSTS_BUCKETS_SECONDS,
  gauge,
  histogram,
  type Metrics,
} from '@elastic-dns/runtime';
import type { WriteObserver } from './in-place-file.ts';
import type { WriteProblem } from './write-problem.ts';

export const FILE_KINDS = ['container', 'namespace', 'node'] as const;
export type FileKind = (typeof FILE_KINDS)[number];

export interface WatcherMetrics {
  observerFor(kind: FileKind): WriteObserver;
  problem(problem: WriteProblem): void;
  /** An event of that time is in the files now. */
  arrived(observedAtMs: number, nowMs: number): void;
  standing(standing: { revision: bigint; ageMs: number; files: Record<FileKind, number> }): void;
}

export function watcherMetrics(metrics: Metrics): WatcherMetrics {
  const written = counter(metrics, {
    name: 'elastic_dns_watcher_files_written_total',
    help: 'Hosts files that were changed, by kind.',
    labels: ['kind'],
  });
  const guarded = counter(metrics, {
    name: 'elastic_dns_watcher_guard_retries_total',
    help: 'Writings put off because somebody else was writing the same file.',
    labels: ['kind'],
  });
  const problems = counter(metrics, {
    name: 'elastic_dns_watcher_write_problems_total',
    help: 'Times that a hosts file began to have a problem, by what it was.',
    labels: ['problem'],
  });
  const latency = histogram(metrics, {
    name: 'elastic_dns_event_to_hosts_seconds',
    help: 'From the observation of an event to the hosts files that show it, by the clocks of the two nodes.',
    buckets: EVENT_TO_HOSTS_BUCKETS_SECONDS,
  });
  const revision = gauge(metrics, {
    name: 'elastic_dns_watcher_store_revision',
    help: "Store revision that this node's hosts files show.",
  });
  const age = gauge(metrics, {
    name: 'elastic_dns_watcher_state_age_seconds',
    help: "How long ago the registry was last known to be the store's; 0 while the store is followed.",
  });
  const files = gauge(metrics, {
    name: 'elastic_dns_watcher_files',
    help: 'Hosts files that are kept, by kind.',
    labels: ['kind'],
  });
  return {
    observerFor: (kind) => ({ wrote: () => written.inc({ kind }), guarded: () => guarded.inc({ kind }) }),
    problem: ({ kind }) => problems.inc({ problem: kind }),
    // Two clocks: one that is ahead would make times negative.
    arrived: (observedAtMs, nowMs) => latency.observe(Math.max(0, nowMs - observedAtMs) / 1000),
    standing: (standing) => {
      revision.set(Number(standing.revision));
      age.set(standing.ageMs / 1000);
      for (const kind of FILE_KINDS) files.set({ kind }, standing.files[kind]);
    },
  };
}
