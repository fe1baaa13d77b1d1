/** What defaults are worked out from: this machine's name, addresses, user. Read once per process by config.ts. */
import { readFileSync } from 'node:fs';
import { homedir, hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { isReachableIPv4, isReachableIPv6 } from '@elastic-dns/model';

export interface HostFacts {
  /** First label of the host name, lower case. */
  name: string;
  /** Address of the interface that the default route leaves by; null when there is none. */
  ipv4: string | null;
  ipv6: string | null;
  dataDir: string;
  /** The environment's DOCKER_HOST. */
  dockerHost: string | null;
}

export function readHostFacts(env: NodeJS.ProcessEnv): HostFacts {
  const routes4 = readRoutes('/proc/net/route', parseRoutes4);
  const routes6 = readRoutes('/proc/net/ipv6_route', parseRoutes6);
  const interfaces = networkInterfaces();
  const isRoot = process.getuid?.() === 0;
  const stateHome = env['XDG_STATE_HOME'] || join(homedir(), '.local', 'state');
  return {
    name: hostname().split('.')[0]?.toLowerCase() ?? '',
    ipv4: chooseAddress(interfaces, routes4, 'IPv4'),
    ipv6: chooseAddress(interfaces, routes6, 'IPv6'),
    dataDir: isRoot ? '/var/lib/elastic-dns' : join(stateHome, 'elastic-dns'),
    dockerHost: env['DOCKER_HOST'] || null,
  };
}

/** A default route: the interface it leaves by, and its metric (the smallest is used). */
export interface DefaultRoute {
  interface: string;
  metric: number;
}

function readRoutes(path: string, parse: (text: string) => DefaultRoute[]): DefaultRoute[] {
  try {
    return parse(readFileSync(path, 'utf8'));
  } catch {
    return []; // no Linux, or no such protocol: then nothing is found, and it can be set
  }
}

/** Reads the kernel's table of IPv4 routes: interface, destination, gateway, flags, -, -, metric, mask; in hex. */
export function parseRoutes4(text: string): DefaultRoute[] {
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1] === '00000000' && fields[7] === '00000000')
    .map((fields) => ({ interface: fields[0] ?? '', metric: Number(fields[6]) }));
}

/** Reads the kernel's table of IPv6 routes: destination, its length, ..., metric (sixth) ..., interface (last). */
export function parseRoutes6(text: string): DefaultRoute[] {
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => /^0{32}$/.test(fields[0] ?? '') && fields[1] === '00' && fields[9] !== 'lo')
    .map((fields) => ({ interface: fields[9] ?? '', metric: Number.parseInt(fields[5] ?? '', 16) }));
}

/** The first address that others can reach on the interface of the best route that has one. */
export function chooseAddress(
  interfaces: NodeJS.Dict<{ address: string; family: string }[]>,
  routes: DefaultRoute[],
  family: 'IPv4' | 'IPv6',
): string | null {
  const isReachable = family === 'IPv4' ? isReachableIPv4 : isReachableIPv6;
  for (const route of routes.toSorted((a, b) => a.metric - b.metric)) {
    const found = interfaces[route.interface]?.find(
      (candidate) => candidate.family === family && isReachable(candidate.address),
    );
    if (found) return found.address;
  }
  return null;
}
