/** Where a Docker engine is and what time it has, in the forms that its client and its interface take. Called by docker.ts. */
import { ConfigError } from '@elastic-dns/model';

/**
 * The client's options for a host. All that the client would otherwise take from DOCKER_HOST and its like is set, as
 * those name the user's engine and not this one.
 */
export function addressOf(host: string): object {
  const others = { ca: undefined, cert: undefined, key: undefined, timeout: undefined };
  const unix = /^unix:\/\/(\/.+)$/.exec(host);
  if (unix) return { ...others, protocol: 'http', socketPath: unix[1], host: undefined, port: undefined };
  const url = host.startsWith('tcp://') ? URL.parse(host) : null;
  if (!url?.hostname || !url.port)
    throw new ConfigError(`the engine's host is "${host}"; it is unix:///path or tcp://host:port`);
  return { ...others, protocol: 'http', host: url.hostname, port: url.port, pathPrefix: '/' };
}

/** The engine takes times as seconds with nine digits after the point. */
export function sinceOf(systemTime: string): string {
  const nanos = /\.([0-9]{1,9})/.exec(systemTime)?.[1] ?? '';
  return `${Math.floor(Date.parse(systemTime) / 1000)}.${nanos.padEnd(9, '0')}`;
}
