/**
 * From start to exit: turns SIGINT and SIGTERM into one abort, then stops everything in the reverse order of its
 * start. Made by a composition root, once per process.
 */
import type { Logger } from './logger.ts';
import { systemClock, type Clock } from './clock.ts';

/** Exit code of a process that was told twice to stop and did not wait for the orderly end. */
export const EXIT_INTERRUPTED = 130;

/** The part of `process` that is needed here. */
export interface SignalSource {
  on(signal: 'SIGINT' | 'SIGTERM', listener: (signal: NodeJS.Signals) => void): unknown;
  off(signal: 'SIGINT' | 'SIGTERM', listener: (signal: NodeJS.Signals) => void): unknown;
  exit(code: number): void;
}

export interface LifecycleOptions {
  logger: Logger;
  /** How long the work, and each stopper that names no time of its own, may take to stop. Default 5 s. */
  deadlineMs?: number;
  /** Default: this process. */
  source?: SignalSource;
  clock?: Clock;
}

interface Stopper {
  name: string;
  stop: () => Promise<void> | void;
  deadlineMs: number;
}

/** `failed`: what did not stop in time or threw while stopping; empty after an orderly end. */
export interface LifecycleEnd {
  failed: string[];
}

export class Lifecycle {
  readonly #logger: Logger;
  readonly #deadlineMs: number;
  readonly #source: SignalSource;
  readonly #clock: Clock;
  readonly #controller = new AbortController();
  readonly #stoppers: Stopper[] = [];

  constructor(options: LifecycleOptions) {
    this.#logger = options.logger;
    this.#deadlineMs = options.deadlineMs ?? 5000;
    this.#source = options.source ?? process;
    this.#clock = options.clock ?? systemClock;
  }

  /** Aborts at the first SIGINT or SIGTERM, at `stop()`, and when the work ends or fails. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Says how to stop what has just been started. Last started, first stopped. */
  onStop(name: string, stop: () => Promise<void> | void, deadlineMs: number = this.#deadlineMs): void {
    this.#stoppers.push({ name, stop, deadlineMs });
  }

  /** Asks for an orderly end, as a signal does. */
  stop(): void {
    this.#controller.abort();
  }

  /**
   * Runs the work, which ends by itself or soon after the signal has aborted; then stops everything. Resolves when all
   * is stopped or has had its time; rejects with the work's error, after stopping as well.
   */
  async run(work: (signal: AbortSignal) => Promise<void>): Promise<LifecycleEnd> {
    const onSignal = (name: NodeJS.Signals): void => {
      if (this.signal.aborted) {
        this.#source.exit(EXIT_INTERRUPTED);
        return;
      }
      this.#logger.info(`${name}: stopping; once more to exit at once`);
      this.stop();
    };
    this.#source.on('SIGINT', onSignal);
    this.#source.on('SIGTERM', onSignal);
    try {
      const working = work(this.signal);
      const failed = (await this.#workOrDeadline(working)) ? [] : ['work'];
      this.stop();
      return { failed: [...failed, ...(await this.#stopAll())] };
    } catch (error) {
      this.stop();
      await this.#stopAll();
      throw error;
    } finally {
      this.#source.off('SIGINT', onSignal);
      this.#source.off('SIGTERM', onSignal);
    }
  }

  /** False when the work went on for longer than it may after the abort. */
  async #workOrDeadline(working: Promise<void>): Promise<boolean> {
    const finished = new AbortController();
    const end = working.then(() => true).finally(() => finished.abort());
    const overdue = (async () => {
      await aborted(AbortSignal.any([this.signal, finished.signal]));
      await this.#clock.sleep(this.#deadlineMs, finished.signal);
      return finished.signal.aborted;
    })();
    // The work may have ended in the moment in which its time ran out; then its own outcome counts.
    const inTime = (await Promise.race([end, overdue])) || (finished.signal.aborted && (await end));
    if (!inTime) {
      this.#logger.error(`the work did not stop within ${this.#deadlineMs} ms`);
      end.catch((error: unknown) =>
        this.#logger.error({ err: error }, 'the work failed after its time was up'),
      );
    }
    return inTime;
  }

  async #stopAll(): Promise<string[]> {
    const failed: string[] = [];
    for (let stopper = this.#stoppers.pop(); stopper; stopper = this.#stoppers.pop()) {
      if (!(await this.#stopOne(stopper))) failed.push(stopper.name);
    }
    return failed;
  }

  async #stopOne({ name, stop, deadlineMs }: Stopper): Promise<boolean> {
    const finished = new AbortController();
    const stopping = (async () => {
      try {
        await stop();
        return true;
      } catch (error) {
        this.#logger.error({ err: error }, `${name}: failed to stop`);
        return false;
      } finally {
        finished.abort();
      }
    })();
    const overdue = this.#clock.sleep(deadlineMs, finished.signal).then(() => null);
    const stopped = await Promise.race([stopping, overdue]);
    if (stopped === null && !finished.signal.aborted) {
      this.#logger.error(`${name}: did not stop within ${deadlineMs} ms`);
      return false;
    }
    return await stopping;
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
