/**
 * Docker's event stream, one line of JSON at a time, into the port's events. Called by docker.ts. Pure; a line that
 * means nothing to us, or that nobody could read, is null.
 */
import type { Health } from '@elastic-dns/model';
import type { EngineEvent } from './engine.ts';

/**
 * What to ask the engine for. By name, so that the `exec` events of health checks (three for each check) are not
 * even sent; `health_status` stands for all of its values.
 */
export const EVENT_FILTERS = {
  type: ['container', 'network'],
  event: [
    'create',
    'start',
    'pause',
    'unpause',
    'kill',
    'oom',
    'die',
    'destroy',
    'rename',
    'health_status',
    'connect',
    'disconnect',
  ],
};

interface DockerEvent {
  Type?: string;
  Action?: string;
  Actor?: { ID?: string; Attributes?: Record<string, string> };
}

const CONTAINER_ID = /^[0-9a-f]{64}$/;
/**
 * Over 2^53, so it is read from the text. In a label the same words have their quotes escaped, so they do not match.
 */
const TIME_NANO = /"timeNano":([0-9]+)/;

/** Reads one line of `GET /events`. */
export function parseDockerEvent(line: string): EngineEvent | null {
  let message: DockerEvent;
  try {
    message = JSON.parse(line) as DockerEvent;
  } catch {
    return null;
  }
  const { Type: type, Action: action = '', Actor: actor } = message;
  const attributes = actor?.Attributes ?? {};
  const containerId = (type === 'network' ? attributes['container'] : actor?.ID) ?? '';
  const nanos = TIME_NANO.exec(line)?.[1];
  if (!CONTAINER_ID.test(containerId) || nanos === undefined) return null;
  const base = { containerId, atNs: BigInt(nanos) };
  if (type === 'network') {
    if (action !== 'connect' && action !== 'disconnect') return null;
    return { ...base, kind: action, network: attributes['name'] ?? '' };
  }
  const [kind = '', detail = ''] = action.split(': ');
  switch (kind) {
    case 'create':
    case 'start':
    case 'pause':
    case 'unpause':
    case 'destroy':
    case 'rename':
    case 'oom':
      return { ...base, kind };
    case 'kill': {
      const signal = Number(attributes['signal']);
      return Number.isInteger(signal) ? { ...base, kind, signal } : null;
    }
    case 'die': {
      const text = attributes['exitCode'] ?? '';
      return { ...base, kind, exitCode: /^-?[0-9]+$/.test(text) ? Number(text) : null };
    }
    case 'health_status':
      return isHealth(detail) ? { ...base, kind: 'health', health: detail } : null;
    default:
      return null;
  }
}

/** Whether it is the health of a container that has a health check. */
export function isHealth(text: string): text is Exclude<Health, 'none'> {
  return text === 'starting' || text === 'healthy' || text === 'unhealthy';
}
