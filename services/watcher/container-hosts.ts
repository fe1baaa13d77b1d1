/**
 * The /etc/hosts of every container on this node, as its caller's view. Run by watcher.ts.
 *
 * The engine makes the file just before it tells of the container's first network, some hundred milliseconds before the
 * process runs: written then, it is complete for the container's first command. The engine makes it anew at every start,
 * which comes with the same event, and changes it when networks come and go; events and the periodic look of
 * watcher.ts both lead to in-place-file.ts, which writes what is missing (L1). Containers that joined another one's network
 * have its file too, which is kept once.
 */
import path from 'node:path';
import type { Engine, EngineEvent } from '@elastic-dns/engine';
import { callerOf, qualify, UnavailableError, type Container } from '@elastic-dns/model';
import type { Clock, LoopEnd } from '@elastic-dns/runtime';
import { InPlaceFile, type WriteObserver } from './in-place-file.ts';
import type { Renderer, ServiceName } from './render.ts';
import type { WriteProblem } from './write-problem.ts';

/** Files that nothing seems to have changed are read whole this often all the same. */
const REREAD_MS = 60_000;
/** The engine tells of a network before or after it has changed the file. */
const AFTER_EVENT_MS = 200;

export interface ContainerHostsOptions {
  engine: Engine;
  renderer: Renderer;
  observer: WriteObserver;
  clock: Clock;
  /** There is something to flush. */
  poke: () => void;
}

interface Kept {
  file: InPlaceFile;
  /** When to read it whole again. */
  rereadMs: number;
}

export class ContainerHosts {
  readonly #options: ContainerHostsOptions;
  readonly #kept = new Map<string, Kept>();
  /** Containers that are being looked up, or are kept. */
  readonly #live = new Set<string>();
  /** Containers with events since the list began that is under way: they know better than the list. */
  readonly #told = new Set<string>();
  #isConnected = false;

  constructor(options: ContainerHostsOptions) {
    this.#options = options;
  }

  /** How many containers' files are kept. */
  get size(): number {
    return this.#kept.size;
  }

  /** Whether the engine is in sight, and all of its containers known. */
  get isConnected(): boolean {
    return this.#isConnected;
  }

  get problems(): WriteProblem[] {
    return [...this.#kept.values()].flatMap(({ file }) => file.problem ?? []);
  }

  /**
   * Follows the engine until `signal` aborts. `UnavailableError` when it goes out of sight: its containers may run on, so
   * their files are kept meanwhile.
   */
  async run(signal: AbortSignal, settled: () => void): Promise<LoopEnd> {
    const { engine } = this.#options;
    const ending = new AbortController();
    const session = AbortSignal.any([signal, ending.signal]);
    const failure = Promise.withResolvers<never>();
    const follow = async (events: AsyncIterable<EngineEvent>): Promise<void> => {
      for await (const event of events) this.#take(event, session).catch(failure.reject);
    };
    const list = async (): Promise<never> => {
      this.#told.clear();
      this.#reconcile(await engine.list());
      this.#isConnected = true;
      settled();
      return failure.promise;
    };
    try {
      await Promise.race([failure.promise, follow(await engine.subscribe(session)), list()]);
    } finally {
      this.#isConnected = false;
      ending.abort();
    }
    if (!signal.aborted) throw new UnavailableError("the engine's event stream has ended");
    return { kind: 'done' };
  }

  /** The lines of these services have changed. */
  touch(names: readonly ServiceName[]): void {
    const keys = names.map(({ service, namespace }) => qualify(service, namespace));
    for (const { file } of this.#kept.values()) for (const key of keys) file.touch(key);
  }

  /** Looks for what others have done to the files; the next flush mends it. */
  look(): void {
    const nowMs = this.#options.clock.now();
    for (const kept of this.#kept.values()) {
      kept.file.look();
      if (kept.rereadMs > nowMs) continue;
      kept.file.reread();
      kept.rereadMs = nowMs + REREAD_MS;
    }
  }

  /** Writes what is due; returns when to be called again, null: when something has changed. */
  flush(nowMs: number): number | null {
    let dueMs: number | null = null;
    for (const { file } of this.#kept.values()) {
      const fileDueMs = file.flush(nowMs);
      if (fileDueMs !== null) dueMs = Math.min(dueMs ?? Infinity, fileDueMs);
    }
    return dueMs;
  }

  async #take(event: EngineEvent, session: AbortSignal): Promise<void> {
    const { containerId: id } = event;
    if (!this.#isConnected) this.#told.add(id);
    switch (event.kind) {
      case 'connect':
      case 'start':
        this.#live.add(id);
        if (this.#kept.has(id)) {
          await this.#lookAgain(id, session);
          return;
        }
        // Asked for in passing, as the engine answers anything more only once the container runs.
        this.#keep(await this.#options.engine.peek(id));
        return;
      case 'disconnect':
      case 'rename':
        await this.#lookAgain(id, session);
        return;
      case 'die':
      case 'destroy':
        // The next start makes the file anew.
        this.#drop(id);
        return;
      case 'create':
      case 'pause':
      case 'unpause':
      case 'kill':
      case 'oom':
      case 'health':
        return;
    }
  }

  /** At once, and once more in case the engine changes the file after it has said so. */
  async #lookAgain(id: string, session: AbortSignal): Promise<void> {
    const { clock, poke } = this.#options;
    for (const waitMs of [0, AFTER_EVENT_MS]) {
      await clock.sleep(waitMs, session);
      this.#kept.get(id)?.file.look();
      poke();
    }
  }

  #reconcile(containers: readonly Container[]): void {
    const running = new Map(containers.filter(isRunning).map((container) => [container.id, container]));
    for (const id of this.#live) if (!running.has(id) && !this.#told.has(id)) this.#drop(id);
    for (const [id, container] of running) {
      if (this.#told.has(id)) continue;
      this.#live.add(id);
      this.#keep(container);
    }
  }

  #drop(id: string): void {
    this.#live.delete(id);
    this.#kept.delete(id);
  }

  #keep(container: Container | null): void {
    if (!container || !this.#live.has(container.id) || this.#kept.has(container.id)) return;
    const { renderer, observer, clock, poke } = this.#options;
    const caller = callerOf(container.labels);
    const hostsPath = ownHostsPath(container);
    if (!caller || hostsPath === null) return;
    this.#kept.set(container.id, {
      file: new InPlaceFile(hostsPath, renderer.sourceFor(caller), observer),
      // Spread, so that they do not all come due at once.
      rereadMs: clock.now() + REREAD_MS * (1 + Math.random()),
    });
    poke();
  }
}

function isRunning({ status }: Container): boolean {
  return status === 'running' || status === 'paused' || status === 'restarting';
}

/**
 * The hosts file that the engine has made for this container: it lies in a folder of the container's own. Null for any
 * other, such as a file of the node that somebody has mounted over the container's: it is not ours to write.
 */
export function ownHostsPath({ id, hostsPath }: Container): string | null {
  if (hostsPath === null || path.normalize(hostsPath) !== hostsPath) return null;
  return path.isAbsolute(hostsPath) && hostsPath.split('/').slice(0, -1).includes(id) ? hostsPath : null;
}
