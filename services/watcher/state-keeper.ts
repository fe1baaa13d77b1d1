/**
 * Saves the last good state as it changes: at most once in a while, and at the end. A loop of watcher.ts. A disk that
 * takes nothing costs the next start its state and nothing else, so it is only reported.
 */
import { systemClock, type Clock, type Logger } from '@elastic-dns/runtime';
import type { Mirror } from '@elastic-dns/registry-store/mirror';
import { StateJournal } from './state-journal.ts';

/** Between two savings while things change. */
const INTERVAL_MS = 1_000;
/** While nothing changes: says on disk that the state was still the store's. */
const REFRESH_MS = 60_000;

export interface StateKeeperOptions {
  folder: string;
  mirror: Mirror;
  logger: Logger;
  clock?: Clock;
}

export class StateKeeper {
  readonly #mirror: Mirror;
  readonly #journal: StateJournal;
  readonly #logger: Logger;
  readonly #clock: Clock;
  #hasChanged = false;
  #savedMs = 0;
  #isFailing = false;

  constructor({ folder, mirror, logger, clock = systemClock }: StateKeeperOptions) {
    this.#mirror = mirror;
    this.#journal = new StateJournal(folder, mirror.registry);
    this.#logger = logger;
    this.#clock = clock;
  }

  /** Gives the mirror the last good state, if there is one, and notes what changes from then on. Before it is started. */
  begin(): void {
    try {
      const state = this.#journal.load();
      if (state) this.#mirror.seed(state);
    } catch (error) {
      this.#logger.warn({ err: error }, 'the last good state cannot be read; starting without it');
    }
    this.#mirror.onChange((change) => {
      this.#journal.note(change);
      this.#hasChanged = true;
    });
  }

  /** Until `signal` aborts; then saves what is left. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#clock.sleep(INTERVAL_MS, signal);
      const isOld = this.#mirror.state === 'live' && this.#clock.now() - this.#savedMs >= REFRESH_MS;
      if (this.#hasChanged || isOld) await this.#save();
    }
    await this.#journal.close();
  }

  async #save(): Promise<void> {
    const { state, sinceMs } = this.#mirror;
    this.#hasChanged = false;
    this.#savedMs = this.#clock.now();
    try {
      // A mirror that is not live any more has the state of when it last was.
      await this.#journal.save(() => ({
        revision: this.#mirror.revision,
        atMs: state === 'live' ? this.#clock.now() : sinceMs,
      }));
      if (this.#isFailing) this.#logger.info('the last good state is saved again');
      this.#isFailing = false;
    } catch (error) {
      this.#hasChanged = true;
      if (!this.#isFailing) this.#logger.warn({ err: error }, 'the last good state cannot be saved');
      this.#isFailing = true;
    }
  }
}
