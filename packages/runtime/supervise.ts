/**
 * Keeps a loop going: a loop does its work until it ends or throws, and the supervisor decides what comes next. Every
 * role runs its loops under it; the loops themselves never retry and never log why they ended.
 */
import { ConfigError, ElasticDnsError, InvalidInputError } from '@elastic-dns/model';
import { Backoff, type BackoffOptions } from './backoff.ts';
import { systemClock, type Clock } from './clock.ts';
import type { Health } from './health.ts';
import type { Logger } from './logger.ts';
import { counter, type Metrics } from './metrics.ts';

/** Why a loop ended. `done`: its work is finished for good. `again`: it has to start anew, for this reason. */
export type LoopEnd = { kind: 'done' } | { kind: 'again'; why: string };

/**
 * Works until `signal` aborts, then resolves (with whatever) or rejects. Calls `settled` when it has got going, as
 * often as it likes: the next failure is then a first one again.
 */
export type Loop = (signal: AbortSignal, settled: () => void) => Promise<LoopEnd>;

/** Why supervision ended. */
export type SupervisionEnd = { kind: 'done' } | { kind: 'aborted' };

export interface SupervisionOptions {
  /** Names the loop in logs, in the metric `elastic_dns_loop_restarts_total{loop,cause}` and in `/healthz`. */
  name: string;
  loop: Loop;
  signal: AbortSignal;
  logger: Logger;
  metrics?: Metrics;
  /** Gets the liveness check `loop <name>`, which fails once the loop has been given up. */
  health?: Health;
  clock?: Clock;
  /** Wait before a restart. Default 100 ms to 10 s. */
  backoff?: BackoffOptions;
}

/**
 * Runs the loop until it is done or the signal aborts. `ConfigError` and `InvalidInputError` end it, as no restart
 * can mend them: they reject. Everything else restarts it after a wait; what is no ElasticDnsError is a bug and is
 * logged as one, but does not take the other roles of the process down with it.
 */
export async function supervise(options: SupervisionOptions): Promise<SupervisionEnd> {
  const { name, loop, signal, logger, metrics, health, clock = systemClock } = options;
  const backoff = new Backoff(options.backoff ?? { minMs: 100, maxMs: 10_000 });
  const repeats = new Repeats();
  const restarts =
    metrics &&
    counter(metrics, {
      name: 'elastic_dns_loop_restarts_total',
      help: 'Restarts of a loop, by what ended it.',
      labels: ['loop', 'cause'],
    });
  let givenUp: string | null = null;
  health?.addLiveness(`loop ${name}`, () =>
    givenUp === null ? { ok: true, why: 'running' } : { ok: false, why: givenUp },
  );
  const settled = (): void => {
    backoff.reset();
    if (repeats.forget()) logger.info({ loop: name }, `${name}: works again`);
  };

  while (!signal.aborted) {
    const ended = await runOnce(loop, signal, settled);
    if (signal.aborted) break;
    if (ended.kind === 'done') return { kind: 'done' };
    if (ended.kind === 'failed' && isFinal(ended.error)) {
      givenUp = ended.error.message;
      throw ended.error;
    }
    const cause = causeOf(ended);
    restarts?.inc({ loop: name, cause });
    const waitMs = backoff.nextMs();
    const count = repeats.note(`${cause}: ${describe(ended)}`);
    if (count !== null) {
      const seen = count === 1 ? '' : ` (${count} times in a row)`;
      const entry = {
        loop: name,
        cause,
        inMs: Math.round(waitMs),
        ...(ended.kind === 'failed' && cause === 'UNEXPECTED' ? { err: ended.error } : {}),
      };
      logger[cause === 'UNEXPECTED' ? 'error' : 'warn'](
        entry,
        `${name}: ${describe(ended)}${seen}; starts again`,
      );
    }
    await clock.sleep(waitMs, signal);
  }
  return { kind: 'aborted' };
}

type Ended = LoopEnd | { kind: 'failed'; error: unknown };

async function runOnce(loop: Loop, signal: AbortSignal, settled: () => void): Promise<Ended> {
  try {
    return await loop(signal, settled);
  } catch (error) {
    return { kind: 'failed', error };
  }
}

function isFinal(error: unknown): error is ConfigError | InvalidInputError {
  return error instanceof ConfigError || error instanceof InvalidInputError;
}

function causeOf(ended: Exclude<Ended, { kind: 'done' }>): string {
  if (ended.kind === 'again') return 'AGAIN';
  return ended.error instanceof ElasticDnsError ? ended.error.code : 'UNEXPECTED';
}

function describe(ended: Exclude<Ended, { kind: 'done' }>): string {
  if (ended.kind === 'again') return ended.why;
  return ended.error instanceof Error ? ended.error.message : String(ended.error);
}

/** Which of many equal failures in a row are worth a line: the 1st, 2nd, 4th, 8th ... */
class Repeats {
  #what: string | null = null;
  #count = 0;

  /** Its number in the row when it is to be logged, else null. */
  note(what: string): number | null {
    this.#count = what === this.#what ? this.#count + 1 : 1;
    this.#what = what;
    return Number.isInteger(Math.log2(this.#count)) ? this.#count : null;
  }

  /** Begins anew; true when there was anything to forget. */
  forget(): boolean {
    const had = this.#what !== null;
    this.#what = null;
    return had;
  }
}
