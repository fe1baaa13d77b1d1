/** What every process needs: time, retries, logs, metrics, health, start and stop, the data folder. */
export * from './backoff.ts';
export * from './clock.ts';
export * from './data-dir.ts';
export * from './health.ts';
export * from './lifecycle.ts';
export * from './logger.ts';
export * from './metrics.ts';
export * from './supervise.ts';
