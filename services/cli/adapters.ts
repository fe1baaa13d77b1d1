/**
 * From the configuration to the adapters: the one place that knows which log, store and engine there are. Used by the
 * roles and by the commands that read.
 */
import { createDockerEngine } from '@elastic-dns/engine/docker';
import type { Engine } from '@elastic-dns/engine';
import type { Log } from '@elastic-dns/event-log';
import { EmbeddedLog } from '@elastic-dns/event-log/embedded';
import { NatsLog } from '@elastic-dns/event-log/nats';
import { UnavailableError } from '@elastic-dns/model';
import type { Store } from '@elastic-dns/registry-store';
import { EmbeddedStore } from '@elastic-dns/registry-store/embedded';
import { EtcdStore } from '@elastic-dns/registry-store/etcd';
import { isDataDir, type Config, type Logger } from '@elastic-dns/runtime';

export interface LogUse {
  /** May make the stream; the roles that only publish or look may not. */
  managesStream: boolean;
  /** Gets what happens to the connection. */
  logger?: Logger;
}

/** The embedded log is in the data folder, which the caller has taken. `ConfigError` when the settings cannot work. */
export function openLog({ log, dataDir }: Config, { managesStream, logger }: LogUse): Log {
  const { maxAgeMs, maxBytes } = log;
  switch (log.kind) {
    case 'embedded':
      return new EmbeddedLog({ folder: dataDir, maxAgeMs, maxBytes });
    case 'nats': {
      const { manageStream, replicas, servers, ...access } = log.nats;
      return new NatsLog({
        servers,
        replicas,
        maxAgeMs,
        maxBytes,
        ...given(access),
        manageStream: manageStream && managesStream,
        onNotice: ({ kind, message }) => {
          logger?.[kind === 'connected' || kind === 'stream-created' ? 'info' : 'warn']({ kind }, message);
        },
      });
    }
  }
}

/** The embedded store is in the data folder, which the caller has taken. `ConfigError` when the settings cannot work. */
export function openStore({ store, dataDir }: Config): Store {
  switch (store.kind) {
    case 'embedded':
      return new EmbeddedStore({ folder: dataDir });
    case 'etcd': {
      const { endpoints, ...access } = store.etcd;
      return new EtcdStore({ endpoints, ...given(access) });
    }
  }
}

/** `ConfigError` when the address cannot be an engine's; connects when it is first used. */
export function openEngine({ engine }: Config): Engine {
  return createDockerEngine({ host: engine.host });
}

/** For commands that read beside the processes that write: the embedded log of another process, or the cluster's. */
export async function withLog<T>(config: Config, use: (log: Log) => Promise<T>): Promise<T> {
  if (config.log.kind === 'embedded') checkDataDir(config);
  return closing(openLog(config, { managesStream: false }), use);
}

/** The same for the registry. */
export async function withStore<T>(config: Config, use: (store: Store) => Promise<T>): Promise<T> {
  if (config.store.kind === 'embedded') checkDataDir(config);
  return closing(openStore(config), use);
}

async function closing<Resource extends { close(): Promise<void> }, T>(
  resource: Resource,
  use: (resource: Resource) => Promise<T>,
): Promise<T> {
  try {
    return await use(resource);
  } finally {
    await resource.close();
  }
}

/** Looking where nothing has run must not leave anything behind. */
function checkDataDir({ dataDir }: Config): void {
  if (isDataDir(dataDir)) return;
  throw new UnavailableError(`nothing has run in ${dataDir} yet: is it the dataDir of \`elastic-dns up\`?`);
}

/** Without what is not set: the adapters' options are absent then, not null. */
function given<T extends object>(settings: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}
