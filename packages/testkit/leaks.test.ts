import { once } from 'node:events';
import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { assertNoneLeft, listHoldings } from './leaks.ts';
import { spawnProcess } from './processes.ts';
import { createRun, removeRun } from './run.ts';

test('names the child process, the server and the folder that were left, and nothing once they are gone', async () => {
  const before = listHoldings();
  const run = createRun();
  const child = await spawnProcess(run, ['sleep', '600']);
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  await expect(assertNoneLeft(before, 50)).rejects.toThrow(
    new RegExp(`TCPServerWrap.*child process sleep.*folder of run ${run.id}`),
  );
  server.close();
  await removeRun(run);
  expect((await child.exited).signal).toBe('SIGKILL');
  await assertNoneLeft(before);
});

test('takes a server that was restarted for the one that was there before', async () => {
  const run = createRun();
  const first = await spawnProcess(run, ['sleep', '600']);
  const before = listHoldings();
  await first.kill();
  await spawnProcess(run, ['sleep', '600']);
  await expect(assertNoneLeft(before)).resolves.toBeUndefined();
  await removeRun(run);
});
