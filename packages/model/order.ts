/**
 * Order within a node (S5): (epoch, sequence), never wall-clock time. Epoch: an agent's incarnation, growing from
 * start to start. Sequence: its own count of events in that epoch, from 1. Both appear in an event's id.
 */
import { accept, quote, refuse, type Result } from './result.ts';
import { parseNode } from './name.ts';

export interface Order {
  epoch: number;
  sequence: number;
}

/** Negative when `a` is older, 0 when it is the same event, positive when it is newer. */
export function compareOrder(a: Order, b: Order): number {
  return a.epoch - b.epoch || a.sequence - b.sequence;
}

export interface EventId extends Order {
  node: string;
}

export function formatEventId(id: EventId): string {
  return `${id.node}/${id.epoch}/${id.sequence}`;
}

const EVENT_ID = /^([^/]+)\/([1-9][0-9]{0,15})\/([1-9][0-9]{0,15})$/;

/** Reads `<node>/<epoch>/<sequence>`. */
export function parseEventId(text: string): Result<EventId> {
  const match = EVENT_ID.exec(text);
  const [, node = '', epoch, sequence] = match ?? [];
  const parsed = parseNode(node);
  const id = { node, epoch: Number(epoch), sequence: Number(sequence) };
  if (!match || !parsed.ok || parsed.value !== node || !isCount(id.epoch) || !isCount(id.sequence)) {
    return refuse(`${quote(text)} is not an event id; it is <node>/<epoch>/<sequence>`);
  }
  return accept(id);
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0;
}
