/**
 * A running container into what the log is told of it: an instance, a refusal with its reason, or nothing. Called by
 * life.ts. Pure. Labels are hostile: whatever they hold, what comes out fits the model's schemas (S12). Rules 7, 9,
 * 10, 14 of docs/rules.md.
 */
import {
  identify,
  instanceId,
  isReachableIPv4,
  isReachableIPv6,
  quote,
  refuse,
  type Container,
  type ContainerNetwork,
  type Identity,
  type Instance,
  type InstanceState,
  type Port,
  type Refusal,
  type Result,
} from '@elastic-dns/model';

/** What the node says of itself. Its addresses are ones that other nodes reach, or null. */
export interface NodeFacts {
  name: string;
  ipv4: string | null;
  ipv6: string | null;
  zone: string | null;
}

export interface TranslateOptions {
  node: NodeFacts;
  /** The network to advertise where a container is on several and names none. */
  network: string | null;
  /** It was sent its stop signal and still runs. */
  isStopping: boolean;
}

/** Null: it asks for no name. */
export type Translated =
  { kind: 'instance'; instance: Instance } | { kind: 'refused'; refusal: Refusal } | null;

/** What the schema of an instance takes. */
const MAX_PORTS = 64;
const MAX_WARNINGS = 8;
const MAX_TEXT = 200;
const MAX_REASON = 500;

export function translate(container: Container, options: TranslateOptions): Translated {
  const identity = identify(container.labels);
  if (identity === null) return null;
  const id = instanceId(options.node.name, container.id);
  const name = printable(container.name, MAX_TEXT);
  const refused = (reason: string): Translated => ({
    kind: 'refused',
    refusal: { id, container: name, reason: printable(reason, MAX_REASON) },
  });
  if (!identity.ok) return refused(identity.reason);
  const place = locate(container, identity.value, options);
  if (!place.ok) return refused(place.reason);
  const { namespace, service, version, application, policy } = identity.value;
  const { ipv4, ipv6, network, ports } = place.value;
  const warnings = [...identity.value.warnings, ...place.value.warnings];
  if (ports.length > MAX_PORTS)
    warnings.push(`it has ${ports.length} ports; the first ${MAX_PORTS} are shown`);
  return {
    kind: 'instance',
    instance: {
      id,
      namespace,
      service,
      version,
      state: options.isStopping ? 'stopping' : stateOf(container),
      ipv4,
      ipv6,
      network: printable(network, MAX_TEXT),
      ports: sortPorts(ports).slice(0, MAX_PORTS),
      container: name,
      application,
      startedAtMs: Math.max(0, Math.floor(container.startedAtMs)),
      policy,
      warnings: warnings.slice(0, MAX_WARNINGS).map((warning) => printable(warning, MAX_TEXT)),
    },
  };
}

/** Rule 9, for a container that runs or is paused. */
function stateOf({ status, health }: Container): InstanceState {
  if (status === 'paused') return 'unready';
  switch (health) {
    case 'none':
    case 'healthy':
      return 'ready';
    case 'starting':
      return 'starting';
    case 'unhealthy':
      return 'unready';
  }
}

/** Where callers reach an instance. */
interface Place {
  ipv4: string | null;
  ipv6: string | null;
  /** The network that the addresses belong to; `host` for the node's own. */
  network: string;
  /** As callers use them at these addresses. */
  ports: Port[];
  warnings: string[];
}

/** Rule 14. */
function locate(
  container: Container,
  identity: Identity,
  { node, network: configured }: TranslateOptions,
): Result<Place> {
  const { name, ipv4, ipv6 } = node;
  if (container.hostNetwork || identity.advertise === 'host') {
    if (ipv4 === null && ipv6 === null) {
      return refuse(
        `it is reached at the address of its node, and node ${name} has none; set node.ipv4 or node.ipv6`,
      );
    }
    const isShared = container.hostNetwork;
    const { ports, warnings } = isShared
      ? { ports: container.ports, warnings: [] }
      : publishedPorts(container);
    return { ok: true, value: { ipv4, ipv6, network: 'host', ports, warnings } };
  }
  const network = chooseNetwork(container.networks, identity.network, configured);
  if (!network.ok) return network;
  const place = {
    ipv4: onlyIf(isReachableIPv4, network.value.ipv4),
    ipv6: onlyIf(isReachableIPv6, network.value.ipv6),
  };
  if (place.ipv4 === null && place.ipv6 === null) {
    return refuse(`it has no address on network ${quote(network.value.name)} that others could reach`);
  }
  return {
    ok: true,
    value: { ...place, network: network.value.name, ports: container.ports, warnings: [] },
  };
}

/** By label, else the configured one, else the only one; ambiguous is refused with the choices. */
function chooseNetwork(
  networks: readonly ContainerNetwork[],
  labelled: string | null,
  configured: string | null,
): Result<ContainerNetwork> {
  const choices = networks.map(({ name }) => quote(name)).join(', ');
  const named = (wanted: string | null): ContainerNetwork | undefined =>
    networks.find(({ name }) => name === wanted);
  const [only] = networks;
  if (!only) {
    return refuse(
      'it has no network of its own (none at all, or that of another container, which would have to carry the labels)',
    );
  }
  if (labelled !== null) {
    const network = named(labelled);
    if (network) return { ok: true, value: network };
    return refuse(`label elastic-dns.network is ${quote(labelled)}, which it is not on; it is on ${choices}`);
  }
  const network = named(configured) ?? (networks.length === 1 ? only : undefined);
  if (network) return { ok: true, value: network };
  return refuse(`it is on several networks; name one with the label elastic-dns.network: ${choices}`);
}

/** At the node's address only published ports answer, under their published numbers. */
function publishedPorts({ ports }: Container): { ports: Port[]; warnings: string[] } {
  const published = ports.filter((port) => port.published !== null);
  const moved = published.filter(({ port, published }) => port !== published);
  const warnings = moved.map(
    ({ port, protocol, published }) =>
      `port ${port}/${protocol} is published as ${published}: callers by hosts file have to use ${published}`,
  );
  if (published.length === 0)
    warnings.push('it advertises its node but publishes no port that others could reach');
  return { ports: published.map((port) => ({ ...port, port: port.published ?? port.port })), warnings };
}

/** The lowest TCP port first: it is the one that is shown where there is room for one only. */
function sortPorts(ports: readonly Port[]): Port[] {
  const rank = { tcp: 0, udp: 1, sctp: 2 };
  return ports.toSorted((a, b) => rank[a.protocol] - rank[b.protocol] || a.port - b.port);
}

function onlyIf(isFit: (text: string) => boolean, text: string | null): string | null {
  return text !== null && isFit(text) ? text : null;
}

/** Foreign text as the schemas take it: printable ASCII, not empty, not too long. */
export function printable(text: string, maxLength: number): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, maxLength) || '?';
}
