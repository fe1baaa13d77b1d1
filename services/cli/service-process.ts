/**
 * A process that serves until it is told to stop: configuration, data folder, logs, metrics, health, orderly end. The
 * frame that `up` and the single roles fill.
 */
import path from 'node:path';
import {
  createLogger,
  createMetrics,
  Health,
  Lifecycle,
  openDataDir,
  startHealthServer,
  type Clock,
  type Config,
  type Logger,
  type Metrics,
} from '@elastic-dns/runtime';
import type { Cli } from './cli.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';

export type Role = 'agent' | 'registrar' | 'watcher';

/** What the roles of one process share. */
export interface ServiceProcess {
  config: Config;
  logger: Logger;
  metrics: Metrics;
  health: Health;
  clock: Clock;
  /** Aborts when the process is told to stop. */
  signal: AbortSignal;
  /** The folder of a role, which this process holds. */
  folderOf: (role: Role) => string;
  /** Closes it when everything that was started later has stopped. */
  closeAtEnd: <Resource extends { close(): Promise<void> }>(name: string, resource: Resource) => Resource;
}

/**
 * Runs the work as a service. `ConfigError` when the settings cannot work or another process has the data folder: each
 * role's folder is taken, so `up` and a single role keep each other out as well.
 */
export async function serve(
  cli: Cli,
  roles: readonly Role[],
  work: (service: ServiceProcess) => Promise<void>,
): Promise<ExitCode> {
  const { config } = cli.load();
  const { level, format } = config.logging;
  const { clock, signals } = cli.io;
  const logger = createLogger({ level, format, destination: cli.io.stderr });
  const lifecycle = new Lifecycle({ logger, source: signals, clock });
  const folders = new Map(roles.map((role) => [role, path.join(config.dataDir, role)]));
  // The whole folder belongs to the process that has all roles: the embedded log and store lie in it.
  const wanted = roles.length > 1 ? [config.dataDir, ...folders.values()] : [...folders.values()];
  const { failed } = await lifecycle.run(async (signal) => {
    for (const folder of wanted) {
      const dataDir = openDataDir(folder);
      lifecycle.onStop(folder, () => dataDir.release());
    }
    const metrics = createMetrics();
    const health = new Health();
    const { host, port } = config.http;
    if (port !== null) {
      const server = await startHealthServer({ host, port, metrics, health });
      lifecycle.onStop('the health server', () => server.close());
      logger.info(`serves ${server.url}/metrics, /healthz and /readyz`);
    }
    await work({
      config,
      logger,
      metrics,
      health,
      clock,
      signal,
      folderOf: (role) => folders.get(role) ?? path.join(config.dataDir, role),
      closeAtEnd: (name, resource) => {
        lifecycle.onStop(name, () => resource.close());
        return resource;
      },
    });
  });
  return failed.length === 0 ? EXIT.ok : EXIT.failed;
}
