import {
  CompactedError,
  ConfigError,
  ConflictError,
  FencedError,
  InvalidInputError,
  LeaseLostError,
  UnavailableError,
} from '@elastic-dns/model';
import { beforeEach, describe, expect, test } from 'vitest';
import { VirtualClock } from './clock.ts';
import { Health } from './health.ts';
import { createLogger } from './logger.ts';
import { createMetrics } from './metrics.ts';
import { supervise, type Loop, type SupervisionEnd } from './supervise.ts';

let clock: VirtualClock;
let controller: AbortController;
let lines: { level: number; msg: string; cause?: string; inMs?: number; err?: { stack: string } }[];
const metrics = createMetrics({ processMetrics: false });
const health = new Health();

beforeEach(() => {
  clock = new VirtualClock();
  controller = new AbortController();
  lines = [];
  metrics.clear();
});

function run(loop: Loop, random = () => 0): Promise<SupervisionEnd> {
  const destination = { write: (line: string) => lines.push(JSON.parse(line) as (typeof lines)[number]) };
  return supervise({
    name: 'follow',
    loop,
    signal: controller.signal,
    logger: createLogger({ destination, format: 'json' }),
    metrics,
    health,
    clock,
    backoff: { minMs: 100, maxMs: 1000, random },
  });
}

async function restarts(cause: string): Promise<number> {
  const metric = await metrics.getSingleMetric('elastic_dns_loop_restarts_total')?.get();
  return metric?.values.find(({ labels }) => labels['cause'] === cause)?.value ?? 0;
}

describe('a loop that fails', () => {
  test.each([UnavailableError, ConflictError, CompactedError, LeaseLostError, FencedError])(
    'starts again after a wait on %o',
    async (Failure) => {
      let runs = 0;
      const supervision = run(async () => {
        if (++runs === 1) throw new Failure('no');
        return { kind: 'done' };
      });
      await clock.advance(99);
      expect(runs).toBe(1);
      await clock.advance(1);
      expect(await supervision).toEqual({ kind: 'done' });
      expect(runs).toBe(2);
      expect(await restarts(new Failure('').code)).toBe(1);
    },
  );

  test.each([ConfigError, InvalidInputError])(
    'is given up on %o, and is dead in /healthz',
    async (Failure) => {
      let runs = 0;
      const supervision = run(async () => {
        runs++;
        throw new Failure('wrong for good');
      });
      await expect(supervision).rejects.toThrow('wrong for good');
      expect(runs).toBe(1);
      expect(health.alive()).toEqual({
        ok: false,
        checks: { 'loop follow': { ok: false, why: 'wrong for good' } },
      });
    },
  );

  test('starts again on a bug as well, and shows where it is', async () => {
    let runs = 0;
    const supervision = run(async () => {
      if (++runs === 1) throw new TypeError('undefined is not a function');
      return { kind: 'done' };
    });
    await clock.advance(100);
    await supervision;
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({ level: 50, cause: 'UNEXPECTED' });
    expect(lines[0]?.err?.stack).toContain('supervise.test.ts');
    expect(await restarts('UNEXPECTED')).toBe(1);
  });

  test('starts again when it says that it has to', async () => {
    let runs = 0;
    const supervision = run(async () =>
      ++runs === 1 ? { kind: 'again', why: 'the stream ended' } : { kind: 'done' },
    );
    await clock.advance(100);
    await supervision;
    expect(lines[0]?.msg).toContain('the stream ended');
    expect(await restarts('AGAIN')).toBe(1);
  });
});

test('waits longer from failure to failure, and shortly again after it had settled', async () => {
  let runs = 0;
  const supervision = run(
    async (_signal, settled) => {
      if (++runs === 4) return { kind: 'done' };
      if (runs === 3) settled();
      throw new UnavailableError(`failure ${runs}`);
    },
    () => 0.5,
  );
  await clock.advance(1000);
  await supervision;
  const waits = lines.map(({ inMs }) => inMs).filter((inMs) => inMs !== undefined);
  expect(waits).toEqual([150, 250, 150]);
});

describe('the end', () => {
  test('comes at once when the signal aborts during a wait', async () => {
    const supervision = run(async () => {
      throw new UnavailableError('no');
    });
    await clock.advance(0);
    controller.abort();
    expect(await supervision).toEqual({ kind: 'aborted' });
  });

  test('is an abort, however the loop ends after the signal', async () => {
    const supervision = run(async (signal) => {
      await clock.sleep(1000, signal);
      throw new ConfigError('on the way out');
    });
    controller.abort();
    expect(await supervision).toEqual({ kind: 'aborted' });
    expect(lines).toEqual([]);
  });

  test('comes without a run when the signal has aborted before', async () => {
    controller.abort();
    let runs = 0;
    await run(async () => {
      runs++;
      return { kind: 'done' };
    });
    expect(runs).toBe(0);
  });
});

describe('the log', () => {
  test('tells the same failure at growing intervals, and another one at once', async () => {
    let runs = 0;
    const supervision = run(async () => {
      runs++;
      if (runs > 20) return { kind: 'done' };
      throw runs === 20 ? new ConflictError('another') : new UnavailableError('no answer');
    });
    await clock.advance(100 * 20);
    await supervision;
    const told = lines.map(({ msg }) => msg);
    expect(told).toHaveLength(6);
    expect(told.map((msg) => /\((\d+) times/.exec(msg)?.[1] ?? '1')).toEqual(['1', '2', '4', '8', '16', '1']);
    expect(told[5]).toContain('another');
    expect(await restarts('UNAVAILABLE')).toBe(19);
  });

  test('says once that it works again, and a failure after that is a first one', async () => {
    let runs = 0;
    const supervision = run(async (_signal, settled) => {
      if (++runs === 4) return { kind: 'done' };
      if (runs === 3) {
        settled();
        settled();
      }
      throw new UnavailableError('no answer');
    });
    await clock.advance(1000);
    await supervision;
    expect(lines.map(({ msg }) => msg.replace(/;.*/, ''))).toEqual([
      'follow: no answer',
      'follow: no answer (2 times in a row)',
      'follow: works again',
      'follow: no answer',
    ]);
  });
});
