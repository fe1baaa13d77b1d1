/** What every process needs: configuration, time, retries, logs, metrics, health, start and stop, the data folder. */
export * from './backoff.ts';
export * from './clock.ts';
export * from './config.ts';
export { describeConfig, describeDefault, ENV_PREFIX, type SettingRow } from './config-schema.ts';
export * from './data-dir.ts';
export * from './folder.ts';
export * from './health.ts';
export { type HostFacts } from './host-facts.ts';
export * from './lifecycle.ts';
export * from './logger.ts';
export * from './metrics.ts';
export * from './supervise.ts';
