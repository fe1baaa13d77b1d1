/**
 * The one engine on which the servers of a test run live, found by every test file through the environment.
 * Started by global-setup; by a benchmark or a script of its own with `startTestEngine`.
 */
import { startEngine } from './engine-host.ts';
import { createRun, removeRun, sweepDeadRuns } from './run.ts';

const VARIABLE = 'TESTKIT_ENGINE';

/** Path of its socket. Throws when nobody has started it. */
export function testEngineSocket(): string {
  const socket = process.env[VARIABLE];
  if (socket === undefined) {
    throw new Error(
      'no test engine: run under the vitest projects "server" or "e2e", or call startTestEngine()',
    );
  }
  return socket;
}

/**
 * Starts it unless this process or its parent has, sweeps what crashed runs have left, and returns how to end it: with
 * all its containers, and with what test files of this run have left.
 */
export async function startTestEngine(): Promise<() => Promise<void>> {
  if (process.env[VARIABLE] !== undefined) return async () => undefined;
  await sweepDeadRuns();
  const run = createRun();
  const engine = await startEngine({ run, name: 'e' });
  process.env[VARIABLE] = engine.socket;
  return async () => {
    delete process.env[VARIABLE];
    await engine.remove();
    await removeRun(run);
    await sweepDeadRuns();
  };
}
