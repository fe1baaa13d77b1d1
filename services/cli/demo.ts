/**
 * What `up` does on a machine without a container engine: plays a recorded trace of three servers through the same log,
 * registrar, store and watchers, and shows what each server's hosts file says as it goes. It has a folder of its
 * own and touches nothing else.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { runAgent } from '@elastic-dns/agent';
import { TracePlayer, type TraceStep } from '@elastic-dns/engine/trace';
import { demoTrace } from '@elastic-dns/engine/demo-trace';
import { EmbeddedLog } from '@elastic-dns/event-log/embedded';
import { runRegistrar } from '@elastic-dns/registrar';
import { EmbeddedStore } from '@elastic-dns/registry-store/embedded';
import { Mirror } from '@elastic-dns/registry-store/mirror';
import { parseHosts, runWatcher, type WatcherStatus } from '@elastic-dns/watcher';
import { openDataDir } from '@elastic-dns/runtime';
import type { Cli } from './cli.ts';
import type { ServiceProcess } from './service-process.ts';

/** How often the hosts files are read for what has changed in them. */
const LOOK_MS = 100;

/** A virtual server: its hosts file and what that said last. */
interface Shown {
  node: string;
  hosts: string;
  names: Map<string, string>;
}

/** Ends when the signal aborts, or with `once` when everything has been played and is in the files. */
export async function playDemo(cli: Cli, service: ServiceProcess, once: boolean): Promise<void> {
  const { config, metrics, health, clock } = service;
  // The show is what is to be seen; what goes wrong is told all the same.
  const logger = service.logger.child({ demo: true }, { level: 'warn' });
  const folder = path.join(config.dataDir, 'demo');
  rmSync(folder, { recursive: true, force: true });
  // Taken like any data folder, so that `list --data-dir` and the others read it.
  const taken = openDataDir(folder);
  service.closeAtEnd(folder, { close: async () => taken.release() });
  const player = new TracePlayer(demoTrace, { clock });
  const { nodes, steps } = demoTrace;
  cli.say(
    `plays a recorded trace instead: ${steps.length} engine events of ${nodes.length} servers; files in ${folder}`,
  );

  const log = service.closeAtEnd('the log', new EmbeddedLog({ folder }));
  const store = service.closeAtEnd('the store', new EmbeddedStore({ folder }));
  const ending = new AbortController();
  const signal = AbortSignal.any([service.signal, ending.signal]);
  const common = { metrics, health, clock, signal };
  const watchers: (() => WatcherStatus)[] = [];
  const mirrors: Mirror[] = [];
  const shown: Shown[] = [];
  const roles = [
    runRegistrar({
      log,
      store,
      candidate: 'demo',
      leaseTtlMs: config.registrar.leaseTtlMs,
      logger,
      ...common,
    }),
  ];
  for (const { name, ipv4, zone } of nodes) {
    const dataDir = path.join(folder, name);
    const hosts = path.join(dataDir, 'hosts');
    mkdirSync(dataDir);
    writeFileSync(hosts, '127.0.0.1 localhost\n');
    shown.push({ node: name, hosts, names: new Map() });
    const engine = player.engines.get(name);
    if (!engine) throw new Error(`the trace has no engine for ${name}`);
    const mirror = new Mirror({ store, logger, clock });
    mirrors.push(mirror);
    const nodeLogger = logger.child({ node: name });
    roles.push(
      runAgent({
        engine,
        log,
        node: { name, ipv4, ipv6: null, zone },
        config: config.agent,
        dataDir,
        logger: nodeLogger,
        ...common,
      }).then(() => undefined),
      runWatcher({
        mirror,
        engine: null,
        config: { ...config.watcher, hostsDir: path.join(dataDir, 'namespaces'), nodeHosts: hosts },
        dataDir,
        node: name,
        logger: nodeLogger,
        ...common,
        onStatus: (status) => watchers.push(status),
      }),
    );
  }
  const isSettled = async (): Promise<boolean> => {
    const { last } = await log.info();
    return (
      mirrors.every(({ registry }) => registry.cursor?.sequence === last) &&
      watchers.every((status) => status().isSettled)
    );
  };
  const show = async (): Promise<void> => {
    const nameOf = nameContainers();
    let isOver = false;
    const playing = player
      .run(signal, (step) => cli.print(`${stamp(clock.now())}  ${describeStep(step, nameOf(step))}\n`))
      .finally(() => (isOver = true));
    while (!signal.aborted) {
      // Asked before the files are read: what is settled then is in them.
      const isLast = isOver && (await isSettled());
      for (const line of describeChanges(shown)) cli.print(`${stamp(clock.now())}    ${line}\n`);
      if (isLast) break;
      await clock.sleep(LOOK_MS, signal);
    }
    if (!(await playing)) return;
    for (const { node, hosts } of shown)
      cli.print(`\n${hosts} (what ${node} resolves)\n${indent(readFileSync(hosts, 'utf8'))}`);
    // The heart of it: the same bare name means something else in each application.
    const namespaces = path.join(folder, nodes[0]?.name ?? '', 'namespaces');
    for (const namespace of readdirSync(namespaces)) {
      const file = path.join(namespaces, namespace);
      cli.print(`\n${file} (what containers of ${namespace} resolve)\n${indent(readFileSync(file, 'utf8'))}`);
    }
    cli.print(`\nLook around: npx elastic-dns list --data-dir ${folder}\n`);
    cli.say(once ? 'the trace has been played' : 'the trace has been played; Ctrl-C ends');
    if (once) ending.abort();
  };
  roles.push(show());
  try {
    await Promise.all(roles);
  } finally {
    ending.abort();
    await Promise.allSettled(roles);
  }
}

function stamp(nowMs: number): string {
  return new Date(nowMs).toISOString().slice(11, 23);
}

/** Containers by what people call them: known from their first event. */
function nameContainers(): (step: TraceStep) => string {
  const names = new Map<string, string>();
  return ({ container, set }) => {
    const version = set?.labels?.['elastic-dns.version'];
    if (set?.name !== undefined)
      names.set(container, `${set.name}${version === undefined ? '' : ` (version ${version})`}`);
    return names.get(container) ?? container;
  };
}

function describeStep({ node, event }: TraceStep, name: string): string {
  const { kind, ...details } = event;
  const more = Object.values(details).join(' ');
  return `${node}: engine says ${kind}${more === '' ? '' : ` ${more}`}: ${name}`;
}

/** What the hosts files say now that they did not say before: one line a name, with the servers that say so. */
function describeChanges(shown: readonly Shown[]): string[] {
  const changes = new Map<string, string[]>();
  for (const each of shown) {
    const names = new Map(
      parseHosts(readFileSync(each.hosts, 'utf8')).flatMap(({ names: [name = ''], addresses }) =>
        name === 'localhost' ? [] : [[name, addresses.join(' ')] as const],
      ),
    );
    for (const name of new Set([...names.keys(), ...each.names.keys()])) {
      const addresses = names.get(name) ?? 'no longer there';
      if (addresses === (each.names.get(name) ?? 'no longer there')) continue;
      const change = `${name} -> ${addresses}`;
      changes.set(change, [...(changes.get(change) ?? []), each.node]);
    }
    each.names = names;
  }
  return [...changes].map(([change, nodes]) => `${change}   (hosts of ${nodes.join(', ')})`);
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, '    ');
}
