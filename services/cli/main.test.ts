/** The command as a process of its own: what run() in this process cannot show. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { runProcess, spawnProcess, type Output } from '@elastic-dns/testkit/processes';
import { createRun, removeRun, type Run } from '@elastic-dns/testkit/run';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { fillDataDir, publish, HAPPENINGS } from './fixture.ts';

checkLeaks();

const MAIN = new URL('main.ts', import.meta.url).pathname;
const RUNTIME = new URL('../../packages/runtime/index.ts', import.meta.url).href;

let run: Run;
let folder: string;
beforeEach(async () => {
  run = createRun();
  folder = mkdtempSync(join(tmpdir(), 'elastic-dns-main-'));
  await fillDataDir(folder);
});
afterEach(async () => {
  await removeRun(run);
  rmSync(folder, { recursive: true });
});

const argvOf = (...argv: string[]): string[] => [process.execPath, MAIN, ...argv, '--data-dir', folder];
const elasticDns = (...argv: string[]): Promise<Output> => runProcess(run, argvOf(...argv));

test('reads the folder while another process has it', async () => {
  const hold = `const { openDataDir } = await import('${RUNTIME}');
    openDataDir(process.argv[1]); console.log('taken'); setInterval(() => {}, 1000);`;
  const holder = await spawnProcess(run, [process.execPath, '--input-type=module', '-e', hold, folder]);
  try {
    await waitUntil(() => holder.stdout() === 'taken\n', { what: 'the other process to take the folder' });
    const { exitCode, stdout, stderr } = await elasticDns('resolve', 'scheduler.backoffice');
    expect([exitCode, stdout, stderr]).toEqual([0, '10.0.98.4\n', '']);
    expect(holder.state()).toBe('running');
  } finally {
    await holder.kill();
  }
});

test('exits with the code that the command came to', async () => {
  expect((await elasticDns('resolve', 'web.backoffice')).exitCode).toBe(3);
  expect((await elasticDns('resolve')).exitCode).toBe(2);
});

test('ends in order when it is interrupted while it follows', async () => {
  const following = await spawnProcess(run, argvOf('events', '--follow'));
  await waitUntil(() => following.stdout().split('\n').length > HAPPENINGS.length, { what: 'the events' });
  process.kill(following.pid, 'SIGINT');
  expect(await following.exited).toEqual({ exitCode: 0, signal: null });
  expect(following.stderr()).toBe('');
});

test('ends without a word when its reader has seen enough', async () => {
  const command = `"$@" | head -n 1; echo done`;
  const piped = await spawnProcess(run, [
    'sh',
    '-c',
    command,
    'sh',
    ...argvOf('events', '--follow', '--limit', '1'),
  ]);
  await waitUntil(() => piped.stdout().includes('\n'), { what: 'the newest event' });
  // The reader has gone; the next event finds nobody.
  await publish(folder, HAPPENINGS.slice(0, 1), HAPPENINGS.length);
  expect(await piped.exited).toEqual({ exitCode: 0, signal: null });
  expect(piped.stdout().split('\n').slice(1)).toEqual(['done', '']);
  expect(piped.stderr()).toBe('');
});

test('fails when its output cannot be written', async () => {
  const argv = ['sh', '-c', '"$@" > /dev/full', 'sh', ...argvOf('list', '--json')];
  const { exitCode, stderr } = await runProcess(run, argv);
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining('could not be written')]);
});
