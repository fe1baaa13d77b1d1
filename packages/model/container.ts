/**
 * A container as an engine describes it, and what its labels say. The engine's adapters make it, the agent
 * translates it into an instance, the watcher learns from it who the caller is. Labels are hostile input.
 */
import { accept, quote, refuse, type Result } from './result.ts';
import { parseLabel, parseVersion } from './name.ts';
import type { Policy, Port } from './instance.ts';
import type { Caller } from './view.ts';

export interface ContainerNetwork {
  /** The engine's name of the network. */
  name: string;
  ipv4: string | null;
  ipv6: string | null;
}

/** `none`: the image declares no HEALTHCHECK. */
export type Health = 'none' | 'starting' | 'healthy' | 'unhealthy';

export interface Container {
  /** 64 hex digits. */
  id: string;
  name: string;
  labels: Record<string, string>;
  status: 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead';
  health: Health;
  /** Ms since 1970 by the engine's clock; 0 when it never started. */
  startedAtMs: number;
  /** Uses the node's own network stack. */
  hostNetwork: boolean;
  networks: ContainerNetwork[];
  ports: Port[];
  /** Signal number that asks it to stop. */
  stopSignal: number;
  /** The file on the node that is its /etc/hosts; null when it has none of its own. */
  hostsPath: string | null;
}

/** What a container says of itself. */
export interface Identity {
  namespace: string;
  service: string;
  version: string | null;
  application: string | null;
  /** Name of the network to advertise. */
  network: string | null;
  advertise: 'container' | 'host';
  policy: Policy;
  /** What was asked for and does not fit; the default is used instead. */
  warnings: string[];
}

/** More than these are not told; the schema of an instance takes no more. */
const MAX_WARNINGS = 7;

const PREFIX = 'elastic-dns.';
const COMPOSE_PROJECT = 'com.docker.compose.project';
const COMPOSE_SERVICE = 'com.docker.compose.service';
const SWARM_STACK = 'com.docker.stack.namespace';
const SWARM_SERVICE = 'com.docker.swarm.service.name';

/** Labels of ours; others that start with `elastic-dns.` are warned about, as they are most likely mistyped. */
export const LABELS = [
  'namespace',
  'service',
  'version',
  'application',
  'network',
  'advertise',
  'load-balancing',
  'dns-behaviour',
  'visibility',
  'publish-not-ready',
  'ignore',
] as const;
type LabelName = (typeof LABELS)[number];

/**
 * Who a container is, by its labels. Null: it asks for no name (no service label, or `elastic-dns.ignore`). A refusal: it
 * asks for one that it cannot have (rule 7).
 */
export function identify(labels: Record<string, string>): Result<Identity> | null {
  const warnings: string[] = [];
  const own = (name: LabelName): string | undefined => labels[PREFIX + name];
  const choose = <T extends string>(name: LabelName, choices: readonly T[]): T | undefined => {
    const text = own(name);
    const choice = choices.find((candidate) => candidate === text?.toLowerCase());
    if (text !== undefined && choice === undefined) {
      warnings.push(`label ${PREFIX}${name} is ${quote(text)}; it can be ${choices.join(' or ')}`);
    }
    return choice;
  };

  if (choose('ignore', ['true', 'false']) === 'true') return null;
  const serviceText =
    own('service') ?? swarmService(labels[SWARM_SERVICE], labels[SWARM_STACK]) ?? labels[COMPOSE_SERVICE];
  if (serviceText === undefined) return null;
  const service = parseLabel(serviceText);
  if (!service.ok) return refuse(`service ${service.reason}`);
  const namespaceText = namespaceLabel(labels);
  if (namespaceText === undefined)
    return refuse(`it has a service but no namespace; give it the label ${PREFIX}namespace`);
  const namespace = parseLabel(namespaceText);
  if (!namespace.ok) return refuse(`namespace ${namespace.reason}`);
  const version = own('version') === undefined ? accept(null) : parseVersion(own('version') ?? '');
  if (!version.ok) return refuse(`version ${version.reason}`);

  for (const label of Object.keys(labels)) {
    if (label.startsWith(PREFIX) && !LABELS.some((known) => PREFIX + known === label)) {
      warnings.push(`label ${quote(label)} is not known; known are ${PREFIX}{${LABELS.join(',')}}`);
    }
  }
  const publishNotReady = choose('publish-not-ready', ['true', 'false'] as const);
  const policy: Policy = {
    loadBalancing: choose('load-balancing', ['roundrobin', 'sticky', 'closest'] as const),
    dnsBehaviour: choose('dns-behaviour', ['versioned', 'non-versioned'] as const),
    visibility: choose('visibility', ['public', 'private'] as const),
    publishNotReady: publishNotReady && publishNotReady === 'true',
  };
  return accept({
    namespace: namespace.value,
    service: service.value,
    version: version.value,
    application: displayText(own('application')),
    network: own('network') ?? null,
    advertise: choose('advertise', ['container', 'host'] as const) ?? 'container',
    policy: Object.fromEntries(Object.entries(policy).filter(([, value]) => value !== undefined)),
    warnings: warnings.slice(0, MAX_WARNINGS).map((warning) => warning.slice(0, 200)),
  });
}

/**
 * Who asks, when a container does. Every container is a caller, also one that asks for no name itself; without a usable
 * namespace it has no bare names. Null: `elastic-dns.ignore`, it is left alone.
 */
export function callerOf(labels: Record<string, string>): Caller | null {
  if (labels[`${PREFIX}ignore`]?.toLowerCase() === 'true') return null;
  const namespace = parseLabel(namespaceLabel(labels) ?? '');
  return { namespace: namespace.ok ? namespace.value : null };
}

function namespaceLabel(labels: Record<string, string>): string | undefined {
  return labels[`${PREFIX}namespace`] ?? labels[SWARM_STACK] ?? labels[COMPOSE_PROJECT];
}

/** `docker stack deploy` names a service `<stack>_<service>`; people ask for `<service>`. */
function swarmService(name: string | undefined, stack: string | undefined): string | undefined {
  return stack !== undefined && name?.startsWith(`${stack}_`) === true ? name.slice(stack.length + 1) : name;
}

/** Printable ASCII of at most 200 characters, or nothing. */
function displayText(text: string | undefined): string | null {
  const shown = text?.replace(/[^\x20-\x7e]/g, '?').slice(0, 200) ?? '';
  return shown === '' ? null : shown;
}
