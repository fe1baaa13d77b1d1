/**
 * The roles as this program runs them: each gets its ports and its part of the configuration. `elastic-dns agent`,
 * `registrar` and `watcher` run one in a process; up.ts runs all.
 */
import { runAgent, type AgentStatus } from '@elastic-dns/agent';
import type { Engine } from '@elastic-dns/engine';
import type { Log } from '@elastic-dns/event-log';
import { ConfigError } from '@elastic-dns/model';
import { runRegistrar } from '@elastic-dns/registrar';
import type { Store } from '@elastic-dns/registry-store';
import { Mirror } from '@elastic-dns/registry-store/mirror';
import { childLogger } from '@elastic-dns/runtime';
import { runWatcher, type WatcherStatus } from '@elastic-dns/watcher';
import { Command } from 'commander';
import { openEngine, openLog, openStore } from './adapters.ts';
import type { Cli } from './cli.ts';
import { serve, type Role, type ServiceProcess } from './service-process.ts';

export async function startAgent(
  { config, logger, metrics, health, clock, signal, folderOf }: ServiceProcess,
  ports: { engine: Engine; log: Log },
  onStatus?: (status: () => AgentStatus) => void,
): Promise<void> {
  await runAgent({
    ...ports,
    node: config.node,
    config: config.agent,
    dataDir: folderOf('agent'),
    logger: childLogger(logger, 'agent'),
    metrics,
    health,
    clock,
    signal,
    ...(onStatus ? { onStatus } : {}),
  });
}

export async function startRegistrar(
  { config, logger, metrics, health, clock, signal }: ServiceProcess,
  ports: { log: Log; store: Store },
): Promise<void> {
  await runRegistrar({
    ...ports,
    candidate: config.node.name,
    leaseTtlMs: config.registrar.leaseTtlMs,
    logger: childLogger(logger, 'registrar'),
    metrics,
    health,
    clock,
    signal,
  });
}

export async function startWatcher(
  { config, logger, metrics, health, clock, signal, folderOf }: ServiceProcess,
  { engine, store }: { engine: Engine | null; store: Store },
  onStatus?: (status: () => WatcherStatus) => void,
): Promise<void> {
  const watcherLogger = childLogger(logger, 'watcher');
  await runWatcher({
    mirror: new Mirror({ store, logger: watcherLogger, clock }),
    engine: config.watcher.containers ? engine : null,
    config: config.watcher,
    dataDir: folderOf('watcher'),
    node: config.node.name,
    logger: watcherLogger,
    metrics,
    health,
    clock,
    signal,
    ...(onStatus ? { onStatus } : {}),
  });
}

/** A role by itself shares log and store with other processes, so they cannot be files of its own. */
function checkShared(service: ServiceProcess, role: Role, kinds: readonly ('log' | 'store')[]): void {
  for (const kind of kinds) {
    if (service.config[kind].kind !== 'embedded') continue;
    throw new ConfigError(
      `\`elastic-dns ${role}\` works with others over a shared ${kind}: set ${kind}.kind to ${kind === 'log' ? 'nats' : 'etcd'}, or run everything in one process with \`elastic-dns up\``,
    );
  }
}

function roleCommand(
  cli: Cli,
  role: Role,
  description: string,
  work: (service: ServiceProcess) => Promise<void>,
): Command {
  return new Command(role).description(description).action(cli.action(async () => serve(cli, [role], work)));
}

export function agentCommand(cli: Cli): Command {
  return roleCommand(
    cli,
    'agent',
    "publish the life of this node's containers, until Ctrl-C",
    async (service) => {
      checkShared(service, 'agent', ['log']);
      const { config, logger } = service;
      const log = service.closeAtEnd('the log', openLog(config, { managesStream: false, logger }));
      await startAgent(service, { log, engine: service.closeAtEnd('the engine', openEngine(config)) });
    },
  );
}

export function registrarCommand(cli: Cli): Command {
  return roleCommand(
    cli,
    'registrar',
    'fold the log into the registry, or wait to take over, until Ctrl-C',
    async (service) => {
      checkShared(service, 'registrar', ['log', 'store']);
      const { config, logger } = service;
      const log = service.closeAtEnd('the log', openLog(config, { managesStream: true, logger }));
      await startRegistrar(service, { log, store: service.closeAtEnd('the store', openStore(config)) });
    },
  );
}

export function watcherCommand(cli: Cli): Command {
  return roleCommand(cli, 'watcher', "keep this node's hosts files, until Ctrl-C", async (service) => {
    checkShared(service, 'watcher', ['store']);
    const { config } = service;
    const store = service.closeAtEnd('the store', openStore(config));
    await startWatcher(service, { store, engine: service.closeAtEnd('the engine', openEngine(config)) });
  });
}
