import { expect, test } from 'vitest';
import { counter, createMetrics, gauge, histogram } from './metrics.ts';

test('gives everybody who asks for a name the same metric', async () => {
  const metrics = createMetrics({ processMetrics: false });
  const options = { name: 'elastic_dns_things_total', help: 'Things.', labels: ['kind'] as const };
  counter(metrics, options).inc({ kind: 'a' });
  counter(metrics, options).inc({ kind: 'a' });
  expect(await metrics.metrics()).toContain('elastic_dns_things_total{kind="a"} 2');
});

test('keeps two registries apart', async () => {
  const [one, other] = [createMetrics({ processMetrics: false }), createMetrics({ processMetrics: false })];
  gauge(one, { name: 'elastic_dns_age_seconds', help: 'Age.' }).set(7);
  expect(await one.metrics()).toContain('elastic_dns_age_seconds 7');
  expect(await other.metrics()).not.toContain('elastic_dns_age_seconds');
});

test('refuses a name that another kind of metric has', () => {
  const metrics = createMetrics({ processMetrics: false });
  gauge(metrics, { name: 'elastic_dns_x', help: 'X.' });
  expect(() => histogram(metrics, { name: 'elastic_dns_x', help: 'X.', buckets: [1] })).toThrow(
    'another kind',
  );
});

test('tells of the process itself unless told not to', async () => {
  expect(await createMetrics().metrics()).toContain('process_cpu_seconds_total');
  expect(await createMetrics({ processMetrics: false }).metrics()).not.toContain('process_');
});
