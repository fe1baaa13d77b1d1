/** `elastic-dns events`: the log's events, newest last. */
import type { Log } from '@elastic-dns/event-log';
import {
  decodeEvent,
  formatEventId,
  idsOf,
  InvalidInputError,
  parseLabel,
  parseNode,
  qualify,
  type Decoded,
  type Event,
  type LogEntry,
} from '@elastic-dns/model';
import { createLogger, Lifecycle } from '@elastic-dns/runtime';
import { Command } from 'commander';
import { withLog } from './adapters.ts';
import type { Cli } from './cli.ts';
import { EXIT } from './exit-codes.ts';
import { printable } from './output.ts';

interface Options {
  follow?: true;
  namespace?: string;
  service?: string;
  node?: string;
  from?: number;
  limit: number;
}

interface Shown {
  entry: LogEntry;
  decoded: Decoded;
}

export function eventsCommand(cli: Cli): Command {
  return new Command('events')
    .description('print events of the log, oldest first; with --json one object per line')
    .option('-f, --follow', 'go on printing what comes, until Ctrl-C')
    .option('--namespace <name>', 'about containers of this namespace only', label('--namespace'))
    .option('--service <name>', 'about containers of this service only', label('--service'))
    .option('--node <name>', 'published by this node only', label('--node', parseNode))
    .option('--from <sequence>', 'begin here instead of with the newest', count('--from'))
    .option(
      '--limit <count>',
      'the newest so many; with --from the first so many, or all with --follow',
      count('--limit'),
      20,
    )
    .action(
      cli.action(async (options: Options) => {
        const { config } = cli.load();
        const logger = createLogger({ level: 'silent' });
        const lifecycle = new Lifecycle({ logger, source: cli.io.signals, clock: cli.io.clock });
        await lifecycle.run(async (signal) =>
          withLog(config, async (log) => printEvents(cli, log, options, signal)),
        );
        return EXIT.ok;
      }),
    );
}

function label(option: string, parse = parseLabel): (text: string) => string {
  return (text) => {
    const result = parse(text);
    if (!result.ok) throw new InvalidInputError(`${option} ${result.reason}`);
    return result.value;
  };
}

function count(option: string): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^[0-9]+$/.test(text) && Number.isSafeInteger(value) && value > 0) return value;
    throw new InvalidInputError(`${option} has to be a whole number from 1`);
  };
}

async function printEvents(cli: Cli, log: Log, options: Options, signal: AbortSignal): Promise<void> {
  const { follow = false, limit, from, node } = options;
  const { first, last } = await log.info();
  const match = createMatcher(options);
  const isFiltered = (options.namespace ?? options.service ?? node) !== undefined;
  let next = from ?? (isFiltered ? first : Math.max(first, last - limit + 1));

  async function* matching(isFollowing: boolean): AsyncGenerator<Shown> {
    const reading = log.read({
      from: next,
      follow: isFollowing,
      signal,
      ...(node === undefined ? {} : { node }),
    });
    for await (const batch of reading) {
      for (const entry of batch) {
        next = entry.sequence + 1;
        const decoded = decodeEvent(entry);
        if (match(decoded)) yield { entry, decoded };
      }
    }
  }

  // What is there by now: all of it from a given place on, else the newest.
  const newest: Shown[] = [];
  let printed = 0;
  for await (const shown of matching(false)) {
    if (from === undefined) {
      newest.push(shown);
      if (newest.length > limit) newest.shift();
    } else {
      printEvent(cli, shown);
      if (++printed === limit && !follow) return;
    }
  }
  for (const shown of newest) printEvent(cli, shown);
  if (printed + newest.length === 0 && !follow && !cli.isJson) cli.say('no events');
  if (follow) for await (const shown of matching(true)) printEvent(cli, shown);
}

/**
 * Whether an event is about a container of the namespace and the service. A `stopped` names its container by id alone,
 * so the matcher remembers what earlier events said of it, from the first to the last event of each.
 */
function createMatcher({ namespace, service }: Options): (decoded: Decoded) => boolean {
  const matching = new Set<string>();
  return (decoded) => {
    if (namespace === undefined && service === undefined) return true;
    if (!decoded.ok) return false;
    const { event } = decoded;
    const isMatch = (instance: { namespace: string; service: string }): boolean =>
      (namespace === undefined || instance.namespace === namespace) &&
      (service === undefined || instance.service === service);
    switch (event.type) {
      case 'node.snapshot': {
        const found = event.data.instances.filter(isMatch);
        for (const { id } of found) matching.add(id);
        return found.length > 0;
      }
      case 'instance.started':
      case 'instance.ready':
      case 'instance.unready':
      case 'instance.stopping':
        if (isMatch(event.data.instance)) matching.add(event.data.instance.id);
        return isMatch(event.data.instance);
      case 'instance.stopped':
        return matching.delete(event.data.id);
      case 'instance.refused':
        return false;
    }
  };
}

function printEvent(cli: Cli, { entry, decoded }: Shown): void {
  const { sequence, incarnation, node, atMs } = entry;
  if (cli.isJson) {
    const place = { sequence, incarnation, node, atMs };
    if (decoded.ok) {
      const { id, type, observedAtMs, cause, data } = decoded.event;
      cli.printJsonLine({ ...place, id: formatEventId(id), type, observedAtMs, cause, data });
    } else cli.printJsonLine({ ...place, setAside: { code: decoded.code, reason: decoded.reason } });
    return;
  }
  const time = new Date(atMs).toISOString().replace('T', ' ').replace('Z', '');
  const [type, text] = decoded.ok
    ? [decoded.event.type, `${describe(decoded.event)} (${decoded.event.cause})`]
    : ['set aside', `${decoded.code}: ${decoded.reason}`];
  cli.print(
    `${String(sequence).padStart(7)}  ${time}  ${printable(node).padEnd(12)}  ${type.padEnd(17)}  ${printable(text)}\n`,
  );
}

/** What it is about, in a few words. */
function describe(event: Event): string {
  switch (event.type) {
    case 'node.snapshot': {
      const { instances, refused } = event.data;
      return `${instances.length} instances, ${refused.length} refused`;
    }
    case 'instance.started':
    case 'instance.ready':
    case 'instance.unready':
    case 'instance.stopping': {
      const { service, namespace, id, state, ipv4, ipv6 } = event.data.instance;
      return `${qualify(service, namespace)} ${id} ${state} ${ipv4 ?? ipv6 ?? ''}`;
    }
    case 'instance.stopped':
      return `${idsOf(event).join()} ${event.data.reason}`;
    case 'instance.refused':
      return `${event.data.container} ${event.data.reason}`;
  }
}
