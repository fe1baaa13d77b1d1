/**
 * `elastic-dns up`: every role in one process. With a container engine in reach it serves this machine's containers;
 * without one it says so and plays the recorded trace (demo.ts).
 */
import type { AgentStatus } from '@elastic-dns/agent';
import type { Engine } from '@elastic-dns/engine';
import { UnavailableError } from '@elastic-dns/model';
import type { WatcherStatus } from '@elastic-dns/watcher';
import { Command, Option } from 'commander';
import { openEngine, openLog, openStore } from './adapters.ts';
import type { Cli } from './cli.ts';
import { playDemo } from './demo.ts';
import { startAgent, startRegistrar, startWatcher } from './roles.ts';
import { serve, type ServiceProcess } from './service-process.ts';

interface Options {
  once?: boolean;
  demo: 'auto' | 'always' | 'never';
}

/** How often `--once` looks whether everything is in place. */
const LOOK_MS = 20;

export function upCommand(cli: Cli): Command {
  return new Command('up')
    .description('run everything in one process, until Ctrl-C')
    .option('--once', 'end when the first hosts files are complete, or the demonstration is over')
    .addOption(
      new Option(
        '--demo <when>',
        'play a recorded trace: auto plays it where no container engine is in reach',
      )
        .choices(['auto', 'always', 'never'])
        .default('auto'),
    )
    .action(
      cli.action(async ({ once = false, demo }: Options) =>
        serve(cli, ['agent', 'registrar', 'watcher'], async (service) => {
          const engine = demo === 'always' ? null : await findEngine(cli, service, demo === 'never');
          if (engine) await serveContainers(cli, service, engine, once);
          else await playDemo(cli, service, once);
        }),
      ),
    );
}

/** The engine of this machine; null when it does not answer and need not. */
async function findEngine(cli: Cli, service: ServiceProcess, isNeeded: boolean): Promise<Engine | null> {
  const { config, logger } = service;
  const engine = openEngine(config);
  try {
    const { name, version } = await engine.info();
    cli.say(
      `serves the containers of ${name} ${version} at ${config.engine.host} as node ${config.node.name}`,
    );
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error;
    if (!isNeeded) {
      await engine.close();
      cli.say(`no container engine answers at ${config.engine.host}: ${error.message}`);
      return null;
    }
    logger.warn(`no container engine answers at ${config.engine.host} yet: ${error.message}`);
  }
  return service.closeAtEnd('the engine', engine);
}

async function serveContainers(
  cli: Cli,
  service: ServiceProcess,
  engine: Engine,
  once: boolean,
): Promise<void> {
  const { config, logger } = service;
  const log = service.closeAtEnd('the log', openLog(config, { managesStream: true, logger }));
  const store = service.closeAtEnd('the store', openStore(config));
  const ending = new AbortController();
  const running = { ...service, signal: AbortSignal.any([service.signal, ending.signal]) };
  let agent: (() => AgentStatus) | undefined;
  let watcher: (() => WatcherStatus) | undefined;
  const roles = [
    startAgent(running, { engine, log }, (status) => (agent = status)),
    startRegistrar(running, { log, store }),
    startWatcher(running, { engine, store }, (status) => (watcher = status)),
  ];
  const inPlace = reportFirst(cli, running, () => isComplete(agent?.(), watcher?.()));
  try {
    await Promise.race([Promise.all(roles), ...(once ? [inPlace] : [])]);
  } finally {
    ending.abort();
    await Promise.all(roles);
  }
}

/** Whether the hosts files say what the agent saw when it started. */
function isComplete(agent: AgentStatus | undefined, watcher: WatcherStatus | undefined): boolean {
  return agent?.engine === true && watcher?.isSettled === true && watcher.snapshot?.epoch === agent.epoch;
}

/** Waits for the first complete hosts files, and says where they are. */
async function reportFirst(
  cli: Cli,
  { config, clock, signal }: ServiceProcess,
  areThere: () => boolean,
): Promise<void> {
  while (!areThere()) {
    if (signal.aborted) return;
    await clock.sleep(LOOK_MS, signal);
  }
  cli.say(`the names are in place; files of namespaces in ${config.watcher.hostsDir}`);
}
