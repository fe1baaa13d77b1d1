/**
 * Samples of the model for tests, here and in other packages: a plain instance and the log entries of a node that
 * speaks of it. Every field can be overridden.
 */
import { encodeEvent, type Event, type EventBody, type LogEntry } from './event.ts';
import { instanceId, type Instance } from './instance.ts';

/** A container id: 64 hex digits that start with the given number. */
export function sampleContainerId(number: number): string {
  return number.toString(16).padStart(12, '0').padEnd(64, 'f');
}

/** Instance `number` of `node`: `api` of `web-front-end`, ready at 10.0.<node's last character>.<number>. */
export function sampleInstance(node: string, number: number, overrides: Partial<Instance> = {}): Instance {
  return {
    id: instanceId(node, sampleContainerId(number)),
    namespace: 'web-front-end',
    service: 'api',
    version: null,
    state: 'ready',
    ipv4: `10.0.${node.charCodeAt(node.length - 1)}.${number % 250}`,
    ipv6: null,
    network: 'bridge',
    ports: [{ port: 3000, protocol: 'tcp', published: null }],
    container: `api-${number}`,
    application: null,
    startedAtMs: 1_000 * number,
    policy: {},
    warnings: [],
    ...overrides,
  };
}

export const EMPTY_SNAPSHOT = { zone: null, ipv4: null, ipv6: null, instances: [], refused: [] };

/** An event of `node` with that sequence in epoch 1 (unless told otherwise). */
export function sampleEvent(node: string, sequence: number, body: EventBody, epoch = 1): Event {
  return {
    ...body,
    id: { node, epoch, sequence },
    observedAtMs: 1_700_000_000_000 + sequence,
    cause: 'test',
  };
}

/** The event as the log would hand it out. */
export function sampleEntry(event: Event, logSequence: number): LogEntry {
  return {
    sequence: logSequence,
    incarnation: 'log-1',
    node: event.id.node,
    data: encodeEvent(event),
    atMs: event.observedAtMs,
  };
}
