/** For the tests of commands: a data folder with events in its log and the registry that they add up to in its store. */
import type { Log } from '@elastic-dns/event-log';
import { EmbeddedLog } from '@elastic-dns/event-log/embedded';
import type { Store } from '@elastic-dns/registry-store';
import { EmbeddedStore } from '@elastic-dns/registry-store/embedded';
import {
  encodeEvent,
  encodeRecord,
  fold,
  formatEventId,
  instanceId,
  Registry,
  type EventBody,
  type Instance,
} from '@elastic-dns/model';
import { EMPTY_SNAPSHOT, sampleContainerId, sampleEvent, sampleInstance } from '@elastic-dns/model/samples';
import { openDataDir, VirtualClock } from '@elastic-dns/runtime';
import { EventEmitter } from 'node:events';
import { run } from './run.ts';

export const NOW_MS = 1_700_000_100_000;

/** Node, what happened there; sequences are counted per node. A text is published as it is. */
export type Happening = [node: string, body: EventBody | string];

const api = (node: string, number: number, overrides: Partial<Instance> = {}): Instance =>
  sampleInstance(node, number, overrides);
const scheduler = (node: string, number: number, overrides: Partial<Instance> = {}): Instance =>
  sampleInstance(node, number, {
    namespace: 'backoffice',
    service: 'scheduler',
    container: `scheduler-${number}`,
    ...overrides,
  });

/** Two applications on two nodes: of five instances three are ready, one is gone, one container is refused. */
export const HAPPENINGS: Happening[] = [
  ['node-a', { type: 'node.snapshot', data: { ...EMPTY_SNAPSHOT, zone: 'west', ipv4: '192.0.2.1' } }],
  ['node-a', { type: 'instance.ready', data: { instance: api('node-a', 1) } }],
  [
    'node-b',
    { type: 'node.snapshot', data: { ...EMPTY_SNAPSHOT, instances: [api('node-b', 2, { version: 'v7' })] } },
  ],
  ['node-b', { type: 'instance.started', data: { instance: api('node-b', 3, { state: 'starting' }) } }],
  [
    'node-b',
    { type: 'instance.ready', data: { instance: scheduler('node-b', 4, { warnings: ['two networks'] }) } },
  ],
  [
    'node-a',
    {
      type: 'instance.unready',
      data: { instance: scheduler('node-a', 5, { service: 'web', state: 'unready' }) },
    },
  ],
  ['node-a', { type: 'instance.ready', data: { instance: scheduler('node-a', 6) } }],
  [
    'node-a',
    {
      type: 'instance.refused',
      data: {
        id: instanceId('node-a', sampleContainerId(7)),
        container: 'evil',
        reason: 'service "a b" is not a name',
      },
    },
  ],
  [
    'node-a',
    {
      type: 'instance.stopped',
      data: { id: instanceId('node-a', sampleContainerId(6)), reason: 'exited with 0' },
    },
  ],
  ['node-b', '{"not": "an event", "\u202e": "\u001b[2J"}'],
];

/** Writes what happened into the folder's log and store, as the roles would, and lets go of the folder. */
export async function fillDataDir(
  folder: string,
  happenings: readonly Happening[] = HAPPENINGS,
): Promise<void> {
  openDataDir(folder).release();
  const log = new EmbeddedLog({ folder });
  const store = new EmbeddedStore({ folder });
  try {
    await fill(log, store, happenings);
  } finally {
    await store.close();
    await log.close();
  }
}

/** Publishes to an empty log, and commits what that adds up to to an empty store. */
export async function fill(
  log: Log,
  store: Store,
  happenings: readonly Happening[] = HAPPENINGS,
): Promise<void> {
  await publishTo(log, happenings);
  const registry = new Registry();
  for await (const batch of log.read({ from: 1, follow: false })) {
    for (const entry of batch) {
      const { change } = fold(registry, entry);
      registry.apply(change);
      await store.commit({
        puts: [...change.puts.values()].map(encodeRecord),
        deletes: [...change.deletes],
      });
    }
  }
}

/** Adds to the folder's log only; sequences begin after `published` earlier ones of any node. */
export async function publish(
  folder: string,
  happenings: readonly Happening[],
  published = 0,
): Promise<void> {
  const log = new EmbeddedLog({ folder });
  try {
    await publishTo(log, happenings, published);
  } finally {
    await log.close();
  }
}

async function publishTo(log: Log, happenings: readonly Happening[], published = 0): Promise<void> {
  for (const [index, [node, body]] of happenings.entries()) {
    const sequence = published + index + 1;
    const id = formatEventId({ node, epoch: 1, sequence });
    const [type, data] =
      typeof body === 'string'
        ? ['instance.ready', body]
        : [body.type, encodeEvent(sampleEvent(node, sequence, body))];
    await log.publish({ node, type, id, data });
  }
}

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** A run of the command line that is under way. */
export interface Running {
  /** What it has printed so far. */
  printed: { stdout: string; stderr: string };
  /** As Ctrl-C does. */
  interrupt: () => void;
  outcome: Promise<Outcome>;
}

/** Starts the command line in this process, with nothing of the machine's own settings. */
export function startCli(argv: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const printed = { stdout: '', stderr: '' };
  const signals = Object.assign(new EventEmitter(), { exit: () => undefined });
  const running = run(argv, {
    stdout: { write: (text) => (printed.stdout += text) },
    stderr: { write: (text) => (printed.stderr += text) },
    env: { ELASTIC_DNS_NODE_NAME: 'node-a', ...env },
    signals,
    clock: new VirtualClock(NOW_MS),
  });
  return {
    printed,
    interrupt: () => void signals.emit('SIGINT', 'SIGINT'),
    outcome: running.then((code) => ({ code, ...printed })),
  };
}

export async function runCli(argv: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  return startCli(argv, env).outcome;
}
