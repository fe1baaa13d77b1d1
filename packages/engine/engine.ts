/**
 * The engine port: what the agent and the watcher need of a container engine. `docker.ts` is the adapter for a
 * real one, `trace.ts` plays a recorded one; `contract.ts` is the suite that both pass.
 */
import type { Container, Health } from '@elastic-dns/model';

/** What happened to a container, in the engine's words. */
export type EngineEvent = {
  /** 64 hex digits. */
  containerId: string;
  /** By the engine's clock, nanoseconds since 1970 (past 2^53, hence a bigint). */
  atNs: bigint;
} & (
  | { kind: 'create' | 'start' | 'pause' | 'unpause' | 'destroy' | 'rename' }
  /** A network was attached or detached; at the first one the container's hosts file is written and its process does not run yet. */
  | { kind: 'connect' | 'disconnect'; network: string }
  /** A signal was sent, which may or may not end it. */
  | { kind: 'kill'; signal: number }
  /** Its process ended. Null: the engine does not know how. */
  | { kind: 'die'; exitCode: number | null }
  /** A process in it was killed for want of memory; a `die` follows when that was its main one. */
  | { kind: 'oom' }
  | { kind: 'health'; health: Health }
);

export interface Engine {
  /**
   * Subscribes; once it resolves, everything that happens from then on comes out of the iteration, in the engine's
   * order. Subscribe first, list second, and nothing is missed. Events that mean nothing to us are left out.
   * The iteration throws `UnavailableError` when the engine goes away (subscribe and list again: the
   * engine keeps only its last 256 events) and ends quietly when `signal` aborts.
   */
  subscribe(signal: AbortSignal): Promise<AsyncIterable<EngineEvent>>;
  /** Every container that is not removed, running or not. `UnavailableError`. */
  list(): Promise<Container[]>;
  /**
   * One container; null when it does not exist any more. While the engine starts or stops a container (a few hundred
   * milliseconds) it holds the answer back, so one that is asked for at `connect` comes together with the
   * `start` event and speaks of the container as it runs. `UnavailableError`.
   */
  inspect(containerId: string): Promise<Container | null>;
  /**
   * What is known of one container at once, also while it is being started: id, name, labels and hosts file are right,
   * the rest may be older than the newest event. Null when it does not exist. `UnavailableError`.
   */
  peek(containerId: string): Promise<Container | null>;
  /** The engine's own name and version, for people. `UnavailableError` when it cannot be reached. */
  info(): Promise<{ name: string; version: string }>;
  /** Ends every iteration quietly and lets go of all connections. Safe to call twice. */
  close(): Promise<void>;
}
