/**
 * The registry as lines of hosts files: rendered once for all callers that see the same, and again only for the services
 * that a change touches. Used by everything here that writes files.
 *
 * A perspective is how a group of callers sees one namespace. Callers with equal perspectives on a namespace share its
 * lines and its text, so costs follow what changed and how many perspectives there are, never how many containers.
 */
import { answerService, qualify, type Caller, type Registry } from '@elastic-dns/model';
import type { LineSource } from './in-place-file.ts';
import { linesOf } from './hosts-text.ts';

/** One service, as the registry names it. */
export interface ServiceName {
  namespace: string;
  service: string;
}

type Perspective = 'own' | 'foreign';

/** A namespace as one perspective shows it. */
interface Block {
  /** Any of those who see it so. */
  caller: Caller;
  lines: Map<string, readonly string[]>;
  /** All lines, services sorted; null: to be put together. */
  text: string | null;
}

const NO_LINES: readonly string[] = [];

export class Renderer {
  readonly #registry: Registry;
  readonly #blocks = new Map<string, Map<Perspective, Block>>();
  /** Sorted; null: to be sorted. */
  #namespaces: readonly string[] | null = null;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** Namespaces that have instances, whatever their state; sorted. */
  get namespaces(): readonly string[] {
    this.#namespaces ??= [...this.#registry.namespaces.keys()].sort();
    return this.#namespaces;
  }

  /** After the registry has changed: renders these services again, and returns those whose lines differ now. */
  update(touched: Iterable<ServiceName>): ServiceName[] {
    return [...touched].filter((name) => {
      const { namespace, service } = name;
      if (
        this.#namespaces &&
        this.#registry.namespaces.has(namespace) !== this.#namespaces.includes(namespace)
      )
        this.#namespaces = null;
      const blocks = [...(this.#blocks.get(namespace)?.values() ?? [])];
      const differs = blocks
        .map((block) => renderService(this.#registry, block, namespace, service))
        .includes(true);
      if (!this.#registry.namespaces.has(namespace)) this.#blocks.delete(namespace);
      // Nobody has asked for it yet, so nobody can say that it is as before.
      return differs || blocks.length === 0;
    });
  }

  /** What a file of this caller holds, by qualified name; stays up to date. */
  sourceFor(caller: Caller): LineSource {
    return {
      keys: () => this.#keysFor(caller),
      linesOf: (key) => {
        const [service = '', namespace = ''] = key.split('.');
        if (!this.#registry.namespaces.has(namespace)) return NO_LINES;
        return this.#block(caller, namespace).lines.get(service) ?? NO_LINES;
      },
    };
  }

  /** Everything that this caller can ask for, as text, namespaces and services sorted. */
  textFor(caller: Caller): string {
    return this.namespaces
      .map((namespace) => {
        const block = this.#block(caller, namespace);
        block.text ??= [...block.lines]
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .flatMap(([, lines]) => lines.map((line) => `${line}\n`))
          .join('');
        return block.text;
      })
      .join('');
  }

  *#keysFor(caller: Caller): Generator<string> {
    for (const namespace of this.namespaces)
      for (const service of this.#block(caller, namespace).lines.keys()) yield qualify(service, namespace);
  }

  #block(caller: Caller, namespace: string): Block {
    let blocks = this.#blocks.get(namespace);
    if (!blocks) this.#blocks.set(namespace, (blocks = new Map<Perspective, Block>()));
    const perspective = perspectiveOf(caller, namespace);
    let block = blocks.get(perspective);
    if (!block) {
      block = { caller, lines: new Map(), text: null };
      for (const service of [...(this.#registry.namespaces.get(namespace)?.keys() ?? [])].sort())
        renderService(this.#registry, block, namespace, service);
      blocks.set(perspective, block);
    }
    return block;
  }
}

function perspectiveOf(caller: Caller, namespace: string): Perspective {
  return caller.namespace === namespace ? 'own' : 'foreign';
}

/** Whether its lines are others now. */
function renderService(registry: Registry, block: Block, namespace: string, service: string): boolean {
  const lines = linesOf(answerService(registry, block.caller, namespace, service));
  const before = block.lines.get(service) ?? NO_LINES;
  if (lines.length === before.length && lines.every((line, index) => line === before[index])) return false;
  if (lines.length === 0) block.lines.delete(service);
  else block.lines.set(service, lines);
  block.text = null;
  return true;
}
