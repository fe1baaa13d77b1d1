/**
 * view: what a caller gets, the one place where the rules of answers are. Watchers render it into hosts files, the
 * CLI prints it. Pure. Rules 1-3, 5, 9 and 10 of docs/rules.md.
 */
import { isAnswerable, type Instance } from './instance.ts';
import { qualify, type Question } from './name.ts';
import type { InstanceRecord } from './record.ts';
import type { Registry } from './registry.ts';

/** Who asks. */
export interface Caller {
  /** Null: the node itself, which has no namespace and no bare names. */
  namespace: string | null;
}

/** One service as a caller sees it: every name that it answers to, and its addresses in order. */
export interface Answer {
  names: string[];
  addresses: string[];
}

/** One service's answer; null when nothing of it may be answered. */
export function answerService(
  registry: Registry,
  caller: Caller,
  namespace: string,
  service: string,
): Answer | null {
  // Instances of the node's own network share its address; an answer names it once.
  const addresses = [...new Set(answerableInstances(registry, namespace, service).flatMap(addressesOf))];
  if (addresses.length === 0) return null;
  // Rules 1 and 3: the bare name is the own namespace's and nobody else's; rule 2: the qualified one is everybody's.
  const names = namespace === caller.namespace ? [service] : [];
  return { names: [...names, qualify(service, namespace)], addresses };
}

/** Everything that a caller can ask for, sorted by name. */
export function view(registry: Registry, caller: Caller): Answer[] {
  const answers: Answer[] = [];
  for (const namespace of [...registry.namespaces.keys()].toSorted()) {
    for (const service of [...(registry.namespaces.get(namespace)?.keys() ?? [])].toSorted()) {
      const answer = answerService(registry, caller, namespace, service);
      if (answer) answers.push(answer);
    }
  }
  return answers;
}

/** The answer to one question; null when there is none. */
export function resolve(registry: Registry, caller: Caller, question: Question): Answer | null {
  const namespace = question.namespace ?? caller.namespace;
  return namespace === null ? null : answerService(registry, caller, namespace, question.service);
}

/** Rules 9 and 10; sorted by id, so that equal registries give equal answers. */
function answerableInstances(registry: Registry, namespace: string, service: string): Instance[] {
  return [...registry.instances(namespace, service).values()]
    .map((record: InstanceRecord) => record.instance)
    .filter(isAnswerable)
    .toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

function addressesOf(instance: Instance): string[] {
  return [instance.ipv4, instance.ipv6].filter((address) => address !== null);
}
