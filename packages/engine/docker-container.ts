/**
 * Docker's two descriptions of a container, the full one (inspect) and the one of `docker ps`, into the model's.
 * Called by docker.ts. Pure. Only what engines from 20.10 on have in common is read.
 */
import { constants } from 'node:os';
import type { Container, ContainerNetwork, Health, Port } from '@elastic-dns/model';
import { isHealth } from './docker-event.ts';

interface Endpoint {
  IPAddress?: string;
  GlobalIPv6Address?: string;
}

type Bindings = Record<string, { HostIp?: string; HostPort?: string }[] | null>;

/** The fields of `GET /containers/<id>/json` that are read. */
export interface InspectAnswer {
  Id: string;
  Name: string;
  HostsPath?: string;
  State: { Status: string; StartedAt?: string; Health?: { Status?: string } | null };
  Config: {
    Labels?: Record<string, string> | null;
    ExposedPorts?: Record<string, unknown> | null;
    Healthcheck?: { Test?: string[] | null } | null;
    StopSignal?: string;
  };
  HostConfig: { NetworkMode?: string };
  NetworkSettings: { Networks?: Record<string, Endpoint> | null; Ports?: Bindings | null };
}

/** The fields of an entry of `GET /containers/json` that are read. */
export interface SummaryAnswer {
  Id: string;
  Names?: string[];
  Labels?: Record<string, string> | null;
  State: string;
  /** For people: `Up 5 minutes (healthy)`. */
  Status?: string;
  Ports?: { IP?: string; PrivatePort: number; PublicPort?: number; Type: string }[] | null;
  HostConfig?: { NetworkMode?: string };
  NetworkSettings?: { Networks?: Record<string, Endpoint> | null };
}

/** `dataRoot`: the engine's own folder, which tells where a hosts file will be before the first start. */
export function containerOfInspect(answer: InspectAnswer, dataRoot: string): Container {
  const mode = answer.HostConfig.NetworkMode ?? '';
  return {
    id: answer.Id,
    name: answer.Name.replace(/^\//, ''),
    labels: answer.Config.Labels ?? {},
    status: statusOf(answer.State.Status),
    health: healthOf(answer),
    startedAtMs: timeOf(answer.State.StartedAt),
    hostNetwork: mode === 'host',
    networks: networksOf(answer.NetworkSettings.Networks),
    ports: portsOf(answer.Config.ExposedPorts ?? {}, answer.NetworkSettings.Ports ?? {}),
    stopSignal: signalNumber(answer.Config.StopSignal ?? ''),
    hostsPath: isJoined(mode) ? null : answer.HostsPath || hostsPathOf(dataRoot, answer.Id),
  };
}

/**
 * The same from the short description, which the engine gives at once but which has no start time, no stop signal
 * and no ports that are not published.
 */
export function containerOfSummary(answer: SummaryAnswer, dataRoot: string): Container {
  const mode = answer.HostConfig?.NetworkMode ?? '';
  // With links there are further names, of the form `/other/alias`.
  const name = answer.Names?.find((candidate) => candidate.lastIndexOf('/') === 0) ?? answer.Names?.[0] ?? '';
  const ports = (answer.Ports ?? []).map(({ PrivatePort, PublicPort, IP, Type }) => ({
    port: PrivatePort,
    protocol: Type,
    published: PublicPort !== undefined && isReachableBinding(IP ?? '') ? PublicPort : null,
  }));
  return {
    id: answer.Id,
    name: name.replace(/^\//, ''),
    labels: answer.Labels ?? {},
    status: statusOf(answer.State),
    health: healthOfText(answer.Status ?? ''),
    startedAtMs: 0,
    hostNetwork: mode === 'host',
    networks: networksOf(answer.NetworkSettings?.Networks),
    ports: mergePorts(ports.filter(isPort)),
    stopSignal: constants.signals.SIGTERM,
    hostsPath: isJoined(mode) ? null : hostsPathOf(dataRoot, answer.Id),
  };
}

/**
 * A container that has joined another one's network has no network and no hosts file of its own: both are the
 * other's, under the other's name. An address belongs to one instance.
 */
function isJoined(networkMode: string): boolean {
  return networkMode.startsWith('container:');
}

function hostsPathOf(dataRoot: string, id: string): string {
  return `${dataRoot}/containers/${id}/hosts`;
}

function statusOf(text: string): Container['status'] {
  switch (text) {
    case 'created':
    case 'running':
    case 'paused':
    case 'restarting':
    case 'removing':
    case 'exited':
      return text;
    default:
      return 'dead';
  }
}

/** Until its first start a container with a health check has no health, and `starting` is what it will have. */
function healthOf({ State, Config }: InspectAnswer): Health {
  const status = State.Health?.Status ?? '';
  if (isHealth(status)) return status;
  const test = Config.Healthcheck?.Test?.[0];
  return test === undefined || test === 'NONE' ? 'none' : 'starting';
}

function healthOfText(status: string): Health {
  const text = /\((?:health: )?([a-z]+)\)$/.exec(status)?.[1] ?? '';
  return isHealth(text) ? text : 'none';
}

/** The engine's time with nanoseconds; the year 1 stands for never. */
function timeOf(text: string | undefined): number {
  const ms = Date.parse(text ?? '');
  return ms > 0 ? ms : 0;
}

/** Sorted by name. The entries `host` and `none` stand for having none. */
function networksOf(endpoints: Record<string, Endpoint> | null | undefined): ContainerNetwork[] {
  return Object.entries(endpoints ?? {})
    .filter(([name]) => name !== 'host' && name !== 'none')
    .map(([name, endpoint]) => ({
      name,
      ipv4: endpoint.IPAddress || null,
      ipv6: endpoint.GlobalIPv6Address || null,
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function portsOf(exposed: Record<string, unknown>, bindings: Bindings): Port[] {
  const ports = [...Object.keys(exposed), ...Object.keys(bindings)].map((key) => {
    const [port = '', protocol = 'tcp'] = key.split('/');
    const binding = bindings[key]?.find(({ HostIp = '' }) => isReachableBinding(HostIp));
    return { port: Number(port), protocol, published: Number(binding?.HostPort) || null };
  });
  return mergePorts(ports.filter(isPort));
}

/** One entry for each port and protocol; the one that is published, if any is. */
function mergePorts(ports: readonly Port[]): Port[] {
  const merged = new Map<string, Port>();
  for (const port of ports) {
    const key = `${port.port}/${port.protocol}`;
    if ((merged.get(key)?.published ?? null) === null) merged.set(key, port);
  }
  return [...merged.values()];
}

function isPort(port: { port: number; protocol: string; published: number | null }): port is Port {
  const isKnown = port.protocol === 'tcp' || port.protocol === 'udp' || port.protocol === 'sctp';
  return isKnown && Number.isInteger(port.port) && port.port > 0 && port.port < 65_536;
}

/** A port that is published on the node's loopback only leads nowhere from another node. */
function isReachableBinding(hostIp: string): boolean {
  return !hostIp.startsWith('127.') && hostIp !== '::1';
}

/** The first of the real-time signals, as programs see it on Linux. */
const SIGRTMIN = 34;

/** `SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`; SIGTERM when it says nothing that is known, as the engine does. */
export function signalNumber(text: string): number {
  const name = text.toUpperCase().replace(/^SIG/, '');
  if (/^[0-9]+$/.test(name)) return Number(name);
  const realTime = /^RTMIN(?:\+([0-9]+))?$/.exec(name);
  if (realTime) return SIGRTMIN + Number(realTime[1] ?? 0);
  const fromTop = /^RTMAX(?:-([0-9]+))?$/.exec(name);
  if (fromTop) return 64 - Number(fromTop[1] ?? 0);
  return Object.hasOwn(constants.signals, `SIG${name}`)
    ? constants.signals[`SIG${name}` as NodeJS.Signals]
    : constants.signals.SIGTERM;
}
