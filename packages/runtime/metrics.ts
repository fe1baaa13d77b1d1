/**
 * Metrics in Prometheus' format. Each process makes one registry (nothing is global, so that tests and several
 * virtual nodes in one process stay apart) and hands it to its parts; health.ts serves it.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry as Metrics } from 'prom-client';

export { Counter, Gauge, Histogram, Metrics };

/**
 * Seconds from an engine's event to a hosts file: fine where the targets are (under 10 ms), then up to the minute in
 * which everything has to have healed.
 */
export const EVENT_TO_HOSTS_BUCKETS_SECONDS = [
  0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];

/** A registry of its own; with the process's own metrics (memory, CPU, event loop) unless told otherwise. */
export function createMetrics(options: { processMetrics?: boolean } = {}): Metrics {
  const metrics = new Metrics();
  if (options.processMetrics ?? true) collectDefaultMetrics({ register: metrics });
  return metrics;
}

export interface MetricOptions<Label extends string> {
  /** `elastic_dns_<what>_<unit>`; counters end in `_total`. */
  name: string;
  /** One sentence. */
  help: string;
  /** From closed sets only: every combination is kept in memory for good (S13). */
  labels?: readonly Label[];
}

/** The counter of that name: made at the first call, the same one after that, so that several roles can share it. */
export function counter<Label extends string>(
  metrics: Metrics,
  options: MetricOptions<Label>,
): Counter<Label> {
  return own(metrics, options.name, Counter<Label>, () => new Counter(configuration(metrics, options)));
}

/** The gauge of that name, in the same way. */
export function gauge<Label extends string>(metrics: Metrics, options: MetricOptions<Label>): Gauge<Label> {
  return own(metrics, options.name, Gauge<Label>, () => new Gauge(configuration(metrics, options)));
}

/** The histogram of that name, in the same way. */
export function histogram<Label extends string>(
  metrics: Metrics,
  options: MetricOptions<Label> & { buckets: readonly number[] },
): Histogram<Label> {
  return own(
    metrics,
    options.name,
    Histogram<Label>,
    () => new Histogram({ ...configuration(metrics, options), buckets: [...options.buckets] }),
  );
}

function configuration<Label extends string>(
  metrics: Metrics,
  { name, help, labels }: MetricOptions<Label>,
): { name: string; help: string; labelNames: Label[]; registers: Metrics[] } {
  return { name, help, labelNames: [...(labels ?? [])], registers: [metrics] };
}

function own<M>(
  metrics: Metrics,
  name: string,
  kind: abstract new (...args: never[]) => M,
  make: () => M,
): M {
  const known: unknown = metrics.getSingleMetric(name);
  if (known === undefined) return make();
  if (known instanceof kind) return known;
  throw new TypeError(`the metric ${name} is of another kind already`);
}
