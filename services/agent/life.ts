/**
 * One container's life as the agent follows it: from what the engine says, what is to be said to the log. Called by
 * observe.ts. Pure: the life goes in and the next one comes out, so that every state can be tried with every event.
 *
 * Two things are known of a container: what was seen of it last, and what the log was told last. Whatever makes the two
 * differ is said, with its cause (S10). Ends (`die`, `destroy`) and stop signals are said at once, from the event alone;
 * what the event does not tell is looked up.
 */
import {
  instanceId,
  isSameInstance,
  quote,
  type Container,
  type EventBody,
  type Instance,
  type InstanceState,
} from '@elastic-dns/model';
import type { EngineEvent } from '@elastic-dns/engine';
import { translate, type NodeFacts, type Translated } from './translate.ts';

export interface Life {
  readonly containerId: string;
  /** As it was seen last, brought up to date by events. Null: has to be looked up before anything is said of it. */
  readonly seen: Container | null;
  /** What the log knows of it: an instance, why it was refused, or nothing (or that it stopped). */
  readonly told: Translated;
  /** The signal that may be ending it; when it was sent by the engine's clock, and when that was heard of by ours. */
  readonly signalled: { signal: number; sentAtMs: number; heardAtMs: number } | null;
  /** When a process in it was last killed for want of memory. */
  readonly outOfMemoryAtMs: number | null;
}

/** Why something is said: in words, and when that was, ms since 1970. */
export interface Cause {
  cause: string;
  observedAtMs: number;
}

/** What is to be published. */
export interface Saying extends Cause {
  body: EventBody;
}

export interface Step {
  life: Life;
  say: Saying | null;
  /** Set when the engine has to be asked, because of this. */
  look: Cause | null;
}

export interface LifeOptions {
  node: NodeFacts;
  /** The network to advertise where a container names none. */
  network: string | null;
}

/**
 * A container that runs on for so long after its stop signal has taken it for something else (a reload). Longer than
 * the time that almost all are given to stop, as one that stops must not come back into the answers (rule 10).
 */
export const STOPPING_LIMIT_MS = 120_000;

/** The start time that an inspect shows is at most this much before the event that tells of the start. */
const SAME_START_MS = 1_000;
/** An end this soon after the memory ran out is its doing. */
const OUT_OF_MEMORY_MS = 5_000;

export function newLife(containerId: string): Life {
  return { containerId, seen: null, told: null, signalled: null, outOfMemoryAtMs: null };
}

/** Nothing that was seen before the engine was out of sight can be relied on. */
export function forgetSeen(life: Life): Life {
  return { ...life, seen: null };
}

/** The life after an event of the engine, which came at `nowMs`. */
export function live(life: Life, event: EngineEvent, nowMs: number, options: LifeOptions): Step {
  const { seen } = life;
  const isUp = seen && isRunning(seen);
  const cause: Cause = { cause: wordsOf(event), observedAtMs: Number(event.atNs / 1_000_000n) };
  const nothing: Step = { life, say: null, look: null };
  const look: Step = { ...nothing, look: cause };
  /** What the event itself tells of a container that runs; of one that does not there is nothing to tell. */
  const change = (changes: Partial<Container>): Step => {
    if (!seen) return look;
    return isUp ? tell({ ...life, seen: { ...seen, ...changes } }, cause, nowMs, options) : nothing;
  };
  switch (event.kind) {
    case 'create':
      return nothing;
    case 'connect':
      // While it is down a start is under way, and the engine's answer comes with it.
      return isUp === true ? look : { ...look, look: { ...cause, cause: 'engine: start' } };
    case 'disconnect':
    case 'rename':
      return isUp === false ? nothing : look;
    case 'start': {
      const sinceMs = cause.observedAtMs - (seen?.startedAtMs ?? 0);
      const isShown = isUp === true && sinceMs >= 0 && sinceMs < SAME_START_MS;
      return { ...(isShown ? nothing : look), life: { ...life, signalled: null } };
    }
    case 'pause':
      return change({ status: 'paused' });
    case 'unpause':
      return change({ status: 'running' });
    case 'health':
      return change({ health: event.health });
    case 'kill': {
      const signal = { signal: event.signal, sentAtMs: cause.observedAtMs, heardAtMs: nowMs };
      const signalled = { ...life, signalled: signal };
      if (!seen) return { ...look, life: signalled };
      return isUp && event.signal === seen.stopSignal ? tell(signalled, cause, nowMs, options) : nothing;
    }
    case 'oom':
      return { ...nothing, life: { ...life, outOfMemoryAtMs: nowMs } };
    case 'die': {
      const hadMemory = life.outOfMemoryAtMs === null || nowMs - life.outOfMemoryAtMs > OUT_OF_MEMORY_MS;
      const how = event.exitCode === null ? 'ended' : `exit code ${event.exitCode}`;
      const end = { ...life, seen: seen && { ...seen, status: 'exited' as const }, signalled: null };
      return tellStopped(end, hadMemory ? how : `${how}, out of memory`, cause, options);
    }
    case 'destroy':
      return tellStopped({ ...life, seen: null }, 'removed', cause, options);
  }
}

/** The life after the engine was asked at `nowMs`, because of `cause`; null: there is no such container. */
export function look(
  life: Life,
  container: Container | null,
  cause: Cause,
  nowMs: number,
  options: LifeOptions,
): Step {
  if (!container) return tellStopped({ ...life, seen: null }, 'removed', cause, options);
  const told = life.told?.kind === 'instance' ? life.told.instance : null;
  // It runs but has no start time: the engine could give no more than its short description. What was told is better.
  if (told && isRunning(container) && container.startedAtMs === 0) return { life, say: null, look: null };
  // What was asked for before a start has been answered with it.
  const observedAtMs = Math.max(cause.observedAtMs, container.startedAtMs);
  return tell({ ...life, seen: container }, { ...cause, observedAtMs }, nowMs, options);
}

/** Says what is different between what was seen and what was told. */
function tell(life: Life, cause: Cause, nowMs: number, options: LifeOptions): Step {
  const { seen, told, signalled } = life;
  if (!seen || !isRunning(seen)) return tellStopped(life, seen?.status ?? 'removed', cause, options);
  const isStopping =
    signalled?.signal === seen.stopSignal &&
    // A signal from before the start was for the run before, whose end was not told.
    signalled.sentAtMs >= seen.startedAtMs &&
    nowMs - signalled.heardAtMs < STOPPING_LIMIT_MS;
  const translated = translate(seen, { ...options, isStopping });
  if (!translated) return tellStopped(life, 'asks for no name', cause, options);
  const next: Life = { ...life, signalled: isStopping ? signalled : null };
  if (isSame(told, translated)) return { life: next, say: null, look: null };
  const say = { ...cause, body: bodyOf(told, translated) };
  return { life: { ...next, told: translated }, say, look: null };
}

function tellStopped(life: Life, reason: string, cause: Cause, { node }: LifeOptions): Step {
  if (!life.told) return { life, say: null, look: null };
  const id = instanceId(node.name, life.containerId);
  const body: EventBody = { type: 'instance.stopped', data: { id, reason } };
  return { life: { ...life, told: null }, say: { ...cause, body }, look: null };
}

const TYPES = {
  starting: 'instance.started',
  ready: 'instance.ready',
  unready: 'instance.unready',
  stopping: 'instance.stopping',
} as const satisfies Record<InstanceState, EventBody['type']>;

function bodyOf(told: Translated, translated: NonNullable<Translated>): EventBody {
  if (translated.kind === 'refused') return { type: 'instance.refused', data: translated.refusal };
  const { instance } = translated;
  const isFirst = told?.kind !== 'instance' || isAnotherRun(told.instance, instance);
  const type = isFirst && instance.state !== 'stopping' ? 'instance.started' : TYPES[instance.state];
  return { type, data: { instance } };
}

function isSame(told: Translated, translated: NonNullable<Translated>): boolean {
  if (told?.kind === 'instance' && translated.kind === 'instance')
    return isSameInstance(told.instance, translated.instance);
  if (told?.kind === 'refused' && translated.kind === 'refused')
    return JSON.stringify(told.refusal) === JSON.stringify(translated.refusal);
  return false;
}

function isRunning({ status }: Container): boolean {
  return status === 'running' || status === 'paused';
}

function isAnotherRun(instance: Instance, { startedAtMs }: { startedAtMs: number }): boolean {
  return instance.startedAtMs !== startedAtMs;
}

function wordsOf(event: EngineEvent): string {
  switch (event.kind) {
    case 'connect':
    case 'disconnect':
      return `engine: ${event.kind} ${quote(event.network)}`;
    case 'kill':
      return `engine: kill with signal ${event.signal}`;
    case 'die':
      return event.exitCode === null ? 'engine: die' : `engine: die with exit code ${event.exitCode}`;
    case 'health':
      return `engine: health ${event.health}`;
    case 'create':
    case 'start':
    case 'pause':
    case 'unpause':
    case 'destroy':
    case 'rename':
    case 'oom':
      return `engine: ${event.kind}`;
  }
}

/** Whether the engine's description of a container shows what an event says, so that it need not be asked again. */
export function isShown(event: EngineEvent, container: Container): boolean {
  const isOn = (name: string): boolean => container.networks.some((network) => network.name === name);
  if (event.kind === 'start') return isRunning(container);
  if (event.kind === 'connect')
    return isOn(event.network) || (container.hostNetwork && event.network === 'host');
  if (event.kind === 'disconnect') return !isOn(event.network);
  return event.kind === 'kill';
}
