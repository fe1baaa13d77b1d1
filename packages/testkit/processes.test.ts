import { expect, test } from 'vitest';
import { checkLeaks } from './leaks.ts';
import { processState, runProcess, spawnProcess } from './processes.ts';
import { createRun, removeRun, type Run } from './run.ts';

checkLeaks();

async function withRun(body: (run: Run) => Promise<void>): Promise<void> {
  const run = createRun();
  try {
    await body(run);
  } finally {
    await removeRun(run);
  }
}

test('a paused process is in state T with all its threads, then runs again, then is gone', () =>
  withRun(async (run) => {
    const child = await spawnProcess(run, [process.execPath, '--eval', 'setInterval(() => {}, 10)']);
    expect(child.state()).toBe('running');
    await child.pause();
    expect(child.state()).toBe('paused');
    await child.resume();
    expect(child.state()).toBe('running');
    expect(await child.kill()).toEqual({ exitCode: null, signal: 'SIGKILL' });
    expect(processState(child.pid)).toBe('gone');
  }));

test('a process that ignores SIGTERM is killed when its grace is over, also while it is paused', () =>
  withRun(async (run) => {
    const deaf = await spawnProcess(run, [
      'sh',
      '-c',
      "trap '' TERM; echo deaf; while :; do sleep 0.01; done",
    ]);
    await expect.poll(() => deaf.stdout()).toBe('deaf\n');
    await deaf.pause();
    expect((await deaf.stop(50)).signal).toBe('SIGKILL');
  }));

test('a program runs to its end with its outputs apart and its exit code', () =>
  withRun(async (run) => {
    const output = await runProcess(run, ['sh', '-c', 'echo out; echo $WORD >&2; exit 3'], {
      env: { WORD: 'err' },
    });
    expect(output).toEqual({ stdout: 'out\n', stderr: 'err\n', exitCode: 3, signal: null });
  }));

test('a program that does not end is killed, and one that does not exist is an error that names it', () =>
  withRun(async (run) => {
    await expect(runProcess(run, ['sleep', '600'], { timeoutMs: 20 })).rejects.toThrow(
      'sleep 600 did not end',
    );
    await expect(spawnProcess(run, ['/no/such/program'])).rejects.toThrow('cannot start /no/such/program');
  }));
