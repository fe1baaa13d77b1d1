/** `elastic-dns list`: what the registry holds, by kind. The rows are what `--json` prints; docs/cli.md describes them. */
import {
  answerService,
  InvalidInputError,
  isAnswerable,
  nodeOf,
  parseLabel,
  qualify,
  type Instance,
  type InstanceRecord,
  type Registry,
} from '@elastic-dns/model';
import { readSnapshot } from '@elastic-dns/registry-store/snapshot';
import { Argument, Command, Option } from 'commander';
import { withStore } from './adapters.ts';
import type { Cli } from './cli.ts';
import { EXIT } from './exit-codes.ts';
import { formatAge, type Column } from './output.ts';

const FILTERS = ['namespace', 'service', 'node', 'state'] as const;
type Filter = Partial<Record<(typeof FILTERS)[number], string>>;

interface Kind<Row> {
  /** Filters that mean something here. */
  filters: readonly (keyof Filter)[];
  rows: (registry: Registry, filter: Filter) => Row[];
  columns: (nowMs: number) => Column<Row>[];
}

function kind<Row>(definition: Kind<Row>): Kind<Row> {
  return definition;
}

const KINDS = {
  namespaces: kind({
    filters: ['namespace'],
    rows: (registry, filter) =>
      group(instances(registry, filter), ({ namespace }) => namespace).map(([namespace, members]) => ({
        namespace,
        services: new Set(members.map(({ service }) => service)).size,
        instances: members.length,
        ready: members.filter(isAnswerable).length,
      })),
    columns: () => [
      { title: 'NAMESPACE', text: (row) => row.namespace },
      { title: 'SERVICES', text: (row) => String(row.services) },
      { title: 'READY', text: (row) => `${row.ready}/${row.instances}` },
    ],
  }),
  services: kind({
    filters: ['namespace', 'service'],
    rows: (registry, filter) =>
      group(instances(registry, filter), ({ service, namespace }) => qualify(service, namespace)).map(
        ([name, members]) => {
          const { namespace = '', service = '' } = members[0] ?? {};
          return {
            namespace,
            service,
            name,
            instances: members.length,
            ready: members.filter(isAnswerable).length,
            addresses: answerService(registry, { namespace }, namespace, service)?.addresses ?? [],
          };
        },
      ),
    columns: () => [
      { title: 'NAMESPACE', text: (row) => row.namespace },
      { title: 'SERVICE', text: (row) => row.service },
      { title: 'READY', text: (row) => `${row.ready}/${row.instances}` },
      { title: 'ADDRESSES', text: (row) => row.addresses.join(' ') || '-', whenNarrow: 'cut' },
    ],
  }),
  instances: kind({
    filters: ['namespace', 'service', 'node', 'state'],
    rows: (registry, filter) =>
      records(registry, filter).map(({ instance, ...record }) => ({
        ...instance,
        node: nodeOf({ instance, ...record }),
        answers: isAnswerable(instance),
        event: record.event,
        logSequence: record.logSequence,
      })),
    columns: (nowMs) => [
      { title: 'NAMESPACE', text: (row) => row.namespace },
      { title: 'SERVICE', text: (row) => row.service },
      { title: 'INSTANCE', text: (row) => row.id, whenNarrow: 'drop' },
      { title: 'STATE', text: (row) => row.state + (row.warnings.length > 0 ? ' !' : '') },
      { title: 'ADDRESS', text: (row) => row.ipv4 ?? row.ipv6 ?? '-' },
      { title: 'NODE', text: (row) => row.node },
      { title: 'VERSION', text: (row) => row.version ?? '-', whenNarrow: 'drop' },
      { title: 'CONTAINER', text: (row) => row.container, whenNarrow: 'cut' },
      { title: 'UP', text: (row) => formatAge(nowMs - row.startedAtMs) },
    ],
  }),
  nodes: kind({
    filters: ['node'],
    rows: (registry, { node: wanted }) =>
      [...registry.records.values()]
        .filter((record) => record.kind === 'node')
        .filter(({ node }) => wanted === undefined || node === wanted)
        .sort(by(({ node }) => node))
        .map(({ node, zone, ipv4, ipv6, latest, observedAtMs }) => {
          const subjects = [...registry.subjectsOf(node)].map((id) => registry.subject(id)?.kind);
          return {
            node,
            zone,
            ipv4,
            ipv6,
            instances: subjects.filter((each) => each === 'instance').length,
            refused: subjects.filter((each) => each === 'refused').length,
            epoch: latest.epoch,
            sequence: latest.sequence,
            observedAtMs,
          };
        }),
    columns: (nowMs) => [
      { title: 'NODE', text: (row) => row.node },
      { title: 'ZONE', text: (row) => row.zone ?? '-' },
      { title: 'ADDRESS', text: (row) => row.ipv4 ?? row.ipv6 ?? '-' },
      { title: 'INSTANCES', text: (row) => String(row.instances) },
      { title: 'REFUSED', text: (row) => String(row.refused) },
      { title: 'LAST EVENT', text: (row) => `${formatAge(nowMs - row.observedAtMs)} ago` },
    ],
  }),
  refused: kind({
    filters: ['node'],
    rows: (registry, { node: wanted }) =>
      [...registry.records.values()]
        .filter((record) => record.kind === 'refused')
        .map((record) => ({ ...record.refusal, node: nodeOf(record), event: record.event }))
        .filter(({ node }) => wanted === undefined || node === wanted)
        .sort(by(({ id }) => id)),
    columns: () => [
      { title: 'NODE', text: (row) => row.node },
      { title: 'CONTAINER', text: (row) => row.container },
      { title: 'REASON', text: (row) => row.reason, whenNarrow: 'cut' },
    ],
  }),
  'set-aside': kind({
    filters: ['node'],
    rows: (registry, { node }) =>
      [...registry.setAside.values()]
        .filter(({ publisher }) => node === undefined || publisher === node)
        .sort((a, b) => a.logSequence - b.logSequence)
        .map(({ logSequence, publisher, code, reason, atMs }) => ({
          logSequence,
          publisher,
          code,
          reason,
          atMs,
        })),
    columns: () => [
      { title: 'SEQUENCE', text: (row) => String(row.logSequence) },
      { title: 'AT', text: (row) => new Date(row.atMs).toISOString(), whenNarrow: 'drop' },
      { title: 'PUBLISHER', text: (row) => row.publisher },
      { title: 'WHY', text: (row) => row.code },
      { title: 'REASON', text: (row) => row.reason, whenNarrow: 'cut' },
    ],
  }),
};
type KindName = keyof typeof KINDS;

export function listCommand(cli: Cli): Command {
  return new Command('list')
    .description('list what the registry holds')
    .addArgument(
      new Argument('[kind]', 'what to list')
        .choices(Object.keys(KINDS))
        .default('services' satisfies KindName),
    )
    .option('--namespace <name>', 'of this namespace only')
    .option('--service <name>', 'of this service only')
    .option('--node <name>', 'of this node only')
    .addOption(
      new Option('--state <state>', 'in this state only').choices([
        'starting',
        'ready',
        'unready',
        'stopping',
      ]),
    )
    .action(
      cli.action(async (name: KindName, filter: Filter) => {
        checkFilter(name, filter);
        const { registry } = await withStore(cli.load().config, readSnapshot);
        print(cli, KINDS[name] as Kind<unknown>, registry, filter, name);
        return EXIT.ok;
      }),
    );
}

function print(
  cli: Cli,
  { rows, columns }: Kind<unknown>,
  registry: Registry,
  filter: Filter,
  name: KindName,
): void {
  const found = rows(registry, filter);
  if (cli.isJson) cli.printJson(found);
  else if (found.length === 0) cli.say(`no ${name}`);
  else cli.printTable(columns(cli.io.clock.now()), found);
}

function checkFilter(name: KindName, filter: Filter): void {
  const { filters }: { filters: readonly (keyof Filter)[] } = KINDS[name];
  for (const [option, value] of Object.entries(filter) as [keyof Filter, string][]) {
    if (!filters.includes(option)) {
      const known = filters.map((each) => `--${each}`).join(', ');
      throw new InvalidInputError(`\`list ${name}\` has no --${option}; it has ${known}`);
    }
    const label = parseLabel(value);
    if (!label.ok) throw new InvalidInputError(`--${option} ${label.reason}`);
    filter[option] = label.value;
  }
}

function records(registry: Registry, { namespace, service, node, state }: Filter): InstanceRecord[] {
  return [...registry.records.values()]
    .filter((record) => record.kind === 'instance')
    .filter(
      (record) =>
        (namespace === undefined || record.instance.namespace === namespace) &&
        (service === undefined || record.instance.service === service) &&
        (state === undefined || record.instance.state === state) &&
        (node === undefined || nodeOf(record) === node),
    )
    .sort(by(({ instance }) => `${instance.namespace} ${instance.service} ${instance.id}`));
}

function instances(registry: Registry, filter: Filter): Instance[] {
  return records(registry, filter).map(({ instance }) => instance);
}

function group<T>(items: readonly T[], keyOf: (item: T) => string): [string, T[]][] {
  return [...Map.groupBy(items, keyOf)];
}

function by<T>(keyOf: (item: T) => string): (a: T, b: T) => number {
  return (a, b) => (keyOf(a) < keyOf(b) ? -1 : 1);
}
