/** `elastic-dns resolve`: the answer that a caller gets, straight from the registry (rules 1-3). */
import {
  InvalidInputError,
  parseLabel,
  parseQuestion,
  qualify,
  quote,
  resolve,
  type Caller,
  type Question,
  type Registry,
} from '@elastic-dns/model';
import { readSnapshot } from '@elastic-dns/registry-store/snapshot';
import { Command } from 'commander';
import { withStore } from './adapters.ts';
import type { Cli } from './cli.ts';
import { EXIT } from './exit-codes.ts';

export function resolveCommand(cli: Cli): Command {
  return new Command('resolve')
    .description('print the addresses that a name has for a caller, one per line')
    .argument('<name>', '"service" (needs --as) or "service.namespace"')
    .option('--as <caller>', 'who asks: a namespace, or a container by its name or id; else a node asks')
    .action(
      cli.action(async (name: string, { as }: { as?: string }) => {
        const question = parseQuestion(name);
        if (!question.ok) throw new InvalidInputError(`the name: ${question.reason}`);
        const { registry } = await withStore(cli.load().config, readSnapshot);
        const caller = as === undefined ? { namespace: null } : findCaller(registry, as);
        checkAsked(registry, caller, question.value);
        const answer = resolve(registry, caller, question.value);
        if (cli.isJson) {
          const { names = [], addresses = [] } = answer ?? {};
          cli.printJson({ ...question.value, caller: caller.namespace, names, addresses });
        } else if (answer) cli.print(answer.addresses.map((address) => `${address}\n`).join(''));
        else cli.say(`no answer: ${describeAbsence(registry, caller, question.value)}`);
        return answer ? EXIT.ok : EXIT.notFound;
      }),
    );
}

/** A namespace of the registry, else a container of it; several of one name have to agree on the namespace. */
function findCaller(registry: Registry, as: string): Caller {
  const label = parseLabel(as);
  if (label.ok && registry.namespaces.has(label.value)) return { namespace: label.value };
  const found = [...registry.records.values()]
    .filter((record) => record.kind === 'instance')
    .map(({ instance }) => instance)
    .filter(({ id, container }) => container === as || id === as || isContainerId(id, as));
  const namespaces = new Set(found.map(({ namespace }) => namespace));
  const [namespace] = namespaces;
  if (namespace === undefined) {
    throw new InvalidInputError(
      `--as ${quote(as)}: the registry has no namespace and no container of that name`,
    );
  }
  if (namespaces.size > 1) {
    const ids = found
      .map(({ id }) => id)
      .sort()
      .join(', ');
    throw new InvalidInputError(`--as ${quote(as)} is several containers, give the id of one: ${ids}`);
  }
  return { namespace };
}

/** The engine's id, in full or the 12 digits that engines show; an instance's id ends with those. */
function isContainerId(id: string, as: string): boolean {
  return /^(?:[0-9a-f]{12}|[0-9a-f]{64})$/.test(as) && id.endsWith(`-${as.slice(0, 12)}`);
}

/** A node has no namespace (rule 3), so a bare name of its is a mistake that can be told. */
function checkAsked(registry: Registry, caller: Caller, { service, namespace }: Question): void {
  if (namespace !== null || caller.namespace !== null) return;
  const having = [...registry.namespaces].filter(([, services]) => services.has(service));
  const names = having.map(([name]) => qualify(service, name)).sort();
  const hint = names.length === 0 ? `${service}.NAMESPACE` : names.slice(0, 5).join(' or ');
  throw new InvalidInputError(
    `${quote(service)} means the caller's own namespace: say --as WHO, or ask for ${hint}`,
  );
}

function describeAbsence(registry: Registry, caller: Caller, { service, namespace }: Question): string {
  const asked = namespace ?? caller.namespace ?? '';
  const services = registry.namespaces.get(asked);
  if (!services) return `nothing is known of namespace ${asked}`;
  const instances = services.get(service);
  if (!instances) return `namespace ${asked} has no service ${service}`;
  const states = [...instances.values()].map(({ instance }) => `${instance.container} is ${instance.state}`);
  return `no instance of ${qualify(service, asked)} is ready: ${states.slice(0, 5).join(', ')}`;
}
