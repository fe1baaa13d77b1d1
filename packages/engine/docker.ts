/**
 * The engine port on a Docker engine. Made by the command line for the agent and the watcher. Every answer has a
 * deadline, and the event stream a heart beat, since an engine that hangs closes nothing. What the client and
 * the engine throw is translated in one place, `translate`.
 */
import { Agent } from 'node:http';
import { Readable } from 'node:stream';
import Docker from 'dockerode';
import { ConfigError, UnavailableError, type Container } from '@elastic-dns/model';
import { addressOf, sinceOf } from './docker-address.ts';
import {
  containerOfInspect,
  containerOfSummary,
  type InspectAnswer,
  type SummaryAnswer,
} from './docker-container.ts';
import { EVENT_FILTERS, parseDockerEvent } from './docker-event.ts';
import type { Engine, EngineEvent } from './engine.ts';

export interface DockerEngineOptions {
  /** `unix:///var/run/docker.sock` (default) or `tcp://127.0.0.1:2375`. */
  host?: string;
  /** Between two heart beats of a subscription. Default 5 s. */
  pingIntervalMs?: number;
  /** For a heart beat; two that fail in a row mean that the engine is gone. Default 2 s. */
  pingDeadlineMs?: number;
  /** For an answer. Long, as an engine holds answers back while it starts many containers. Default 20 s. */
  deadlineMs?: number;
}

const DEFAULT_HOST = 'unix:///var/run/docker.sock';
/** Containers that a list inspects at a time: enough to keep the engine busy, few enough to leave it to others. */
const LIST_CONCURRENCY = 8;
/** Events that wait for their reader; more mean that it hangs (S13). The engine itself drops beyond 1,024. */
const MAX_WAITING_EVENTS = 20_000;
/** A process that stood still for this long has most likely missed events: the engine waits 100 ms for a full reader. */
const STANDSTILL_MS = 10_000;

/** Connects when it is first asked for something. `ConfigError` for a host that cannot be one. */
export function createDockerEngine(options: DockerEngineOptions = {}): Engine {
  return new DockerEngine(options);
}

interface EngineInfo {
  Name: string;
  ServerVersion: string;
  DockerRootDir: string;
  /** With nanoseconds: `2026-11-22T16:23:57.133074481Z`. */
  SystemTime: string;
}

class DockerEngine implements Engine {
  readonly #host: string;
  readonly #docker: Docker;
  readonly #connections = new Agent({ keepAlive: true });
  readonly #closing = new AbortController();
  readonly #pingIntervalMs: number;
  readonly #pingDeadlineMs: number;
  readonly #deadlineMs: number;
  /** Known from the first answer on; an engine that comes back may have another. */
  #dataRoot: string | null = null;

  constructor(options: DockerEngineOptions) {
    this.#host = options.host ?? DEFAULT_HOST;
    this.#docker = makeClient(addressOf(this.#host), this.#connections);
    this.#pingIntervalMs = options.pingIntervalMs ?? 5_000;
    this.#pingDeadlineMs = options.pingDeadlineMs ?? 2_000;
    this.#deadlineMs = options.deadlineMs ?? 20_000;
  }

  async subscribe(signal: AbortSignal): Promise<AsyncIterable<EngineEvent>> {
    // The engine answers before it has subscribed. Asked for all since now by its own clock, it replays what came
    // between from its memory, so nothing is lost.
    const { SystemTime } = await this.#readInfo();
    const source = await this.#within('GET /events', this.#deadlineMs, async (abortSignal) => {
      const request = { since: sinceOf(SystemTime), filters: EVENT_FILTERS, abortSignal };
      return (await this.#docker.getEvents(request as unknown as Docker.GetEventsOptions)) as Readable;
    });
    return this.#follow(source, signal);
  }

  #follow(source: Readable, signal: AbortSignal): Readable {
    const events = new Readable({
      objectMode: true,
      highWaterMark: MAX_WAITING_EVENTS,
      read: () => undefined,
    });
    let hasEnded = false;
    const fail = (why: string, cause?: unknown): void => {
      if (!hasEnded) events.destroy(new UnavailableError(`the engine at ${this.#host} ${why}`, { cause }));
    };
    const endings = [signal, this.#closing.signal];
    const stopBeating = this.#beat(fail);
    const letGo = (): void => {
      hasEnded = true;
      stopBeating();
      source.destroy();
      for (const ending of endings) ending.removeEventListener('abort', end);
    };
    const end = (): void => {
      letGo();
      events.push(null);
    };
    for (const ending of endings) ending.addEventListener('abort', end, { once: true });
    if (endings.some((ending) => ending.aborted)) end();
    events.once('close', letGo);
    // The reader gets the error from the iteration, whenever it gets there.
    events.on('error', () => undefined);

    let rest = '';
    source.setEncoding('utf8');
    source.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const event of lines.map(parseDockerEvent)) {
        if (event && !events.push(event)) return fail('has sent more events than were read');
      }
    });
    source.on('error', (error) => fail('broke off its event stream', error));
    source.on('close', () => fail('closed its event stream'));
    return events;
  }

  /** Asks for signs of life until told to stop, which is what it returns; without one it fails, once. */
  #beat(fail: (why: string, cause?: unknown) => void): () => void {
    const ping = (): Promise<unknown> =>
      this.#within('GET /_ping', this.#pingDeadlineMs, (abortSignal) =>
        (this.#docker.ping as (options: object) => Promise<unknown>)({ abortSignal }),
      );
    let hasStopped = false;
    let timer: NodeJS.Timeout;
    const wait = (): void => {
      if (hasStopped) return;
      const dueAtMs = performance.now() + this.#pingIntervalMs;
      timer = setTimeout(() => void tick(dueAtMs), this.#pingIntervalMs);
    };
    const tick = async (dueAtMs: number): Promise<void> => {
      const lateMs = performance.now() - dueAtMs;
      if (lateMs > STANDSTILL_MS) return fail(`was not listened to for ${Math.round(lateMs / 1000)} s`);
      try {
        await ping().catch(ping);
      } catch (error) {
        return fail('does not answer', error);
      }
      wait();
    };
    wait();
    return () => {
      hasStopped = true;
      clearTimeout(timer);
    };
  }

  async list(): Promise<Container[]> {
    const dataRoot = await this.#readDataRoot();
    const summaries = await this.#listSummaries({ all: true });
    const containers: Container[] = [];
    const waiting = summaries.values();
    const inspectInTurn = async (): Promise<void> => {
      for (const summary of waiting) {
        const container = await this.#inspectOrSummarize(summary, dataRoot);
        if (container) containers.push(container);
      }
    };
    await Promise.all(Array.from({ length: LIST_CONCURRENCY }, inspectInTurn));
    return containers;
  }

  /** An engine can hang on one container and serve all others: that one must not hide them. */
  async #inspectOrSummarize(summary: SummaryAnswer, dataRoot: string): Promise<Container | null> {
    try {
      return await this.inspect(summary.Id);
    } catch (error) {
      if (!(error instanceof DeadlineError) && codeOf((error as Error).cause) !== 500) throw error;
      return containerOfSummary(summary, dataRoot);
    }
  }

  async inspect(containerId: string): Promise<Container | null> {
    const dataRoot = await this.#readDataRoot();
    const answer = await this.#within(`inspect ${containerId}`, this.#deadlineMs, async (abortSignal) => {
      try {
        return (await this.#docker
          .getContainer(containerId)
          .inspect({ abortSignal } as object)) as InspectAnswer;
      } catch (error) {
        if (codeOf(error) === 404) return null;
        throw error;
      }
    });
    return answer && containerOfInspect(answer, dataRoot);
  }

  async peek(containerId: string): Promise<Container | null> {
    const dataRoot = await this.#readDataRoot();
    const [summary] = await this.#listSummaries({ all: true, filters: { id: [containerId] } });
    return summary ? containerOfSummary(summary, dataRoot) : null;
  }

  async info(): Promise<{ name: string; version: string }> {
    const { Name, ServerVersion } = await this.#readInfo();
    return { name: `Docker on ${Name}`, version: ServerVersion };
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#connections.destroy();
  }

  #listSummaries(options: object): Promise<SummaryAnswer[]> {
    return this.#within(
      'GET /containers/json',
      this.#deadlineMs,
      (abortSignal) =>
        this.#docker.listContainers({ ...options, abortSignal }) as Promise<unknown> as Promise<
          SummaryAnswer[]
        >,
    );
  }

  async #readInfo(): Promise<EngineInfo> {
    const info = await this.#within(
      'GET /info',
      this.#deadlineMs,
      () => this.#docker.info() as Promise<EngineInfo>,
    );
    this.#dataRoot = info.DockerRootDir;
    return info;
  }

  async #readDataRoot(): Promise<string> {
    return this.#dataRoot ?? (await this.#readInfo()).DockerRootDir;
  }

  /**
   * The outcome of a request, or an `UnavailableError` after `deadlineMs`. The race is needed beside the abort: the
   * client never settles when an answer breaks off in the middle.
   */
  async #within<T>(
    what: string,
    deadlineMs: number,
    request: (abortSignal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const closed = new UnavailableError(`the connection to the engine at ${this.#host} is closed`);
    if (this.#closing.signal.aborted) throw closed;
    const abort = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    let stop: (() => void) | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () =>
          reject(
            new DeadlineError(`the engine at ${this.#host} has not answered ${what} in ${deadlineMs} ms`),
          ),
        deadlineMs,
      );
      stop = () => reject(closed);
      this.#closing.signal.addEventListener('abort', stop, { once: true });
    });
    try {
      return await Promise.race([late, request(abort.signal)]);
    } catch (error) {
      abort.abort();
      throw this.#translate(what, error);
    } finally {
      clearTimeout(timer);
      if (stop) this.#closing.signal.removeEventListener('abort', stop);
    }
  }

  #translate(what: string, error: unknown): UnavailableError {
    if (error instanceof UnavailableError) return error;
    const why = error instanceof Error ? error.message : String(error);
    return new UnavailableError(`the engine at ${this.#host} failed ${what}: ${why}`, { cause: error });
  }
}

/** An answer that did not come in time, which for one container alone is something else than an engine that is gone. */
class DeadlineError extends UnavailableError {}

/** The status of the engine's answer, where there was one. */
function codeOf(error: unknown): number | undefined {
  return (error as { statusCode?: number } | undefined)?.statusCode;
}

/** The client reads DOCKER_HOST and its like even when all that they say is overruled. */
function makeClient(address: object, connections: Agent): Docker {
  try {
    return new Docker({ ...address, agent: connections } as Docker.DockerOptions);
  } catch (cause) {
    throw new ConfigError('DOCKER_HOST and DOCKER_CERT_PATH in the environment cannot be used', { cause });
  }
}
