import { existsSync, readFileSync } from 'node:fs';
import { glob } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { checkLeaks } from './leaks.ts';
import { processState, spawnProcess } from './processes.ts';
import { createRun, removeRun, sweepDeadRuns } from './run.ts';
import { waitUntil } from './wait.ts';

checkLeaks();

/** Starts a node with a container and a program, says what it has, and waits for its death. */
const CRASHING = `
  import { startLab } from ${JSON.stringify(new URL('lab.ts', import.meta.url).href)};
  const lab = await startLab({ nodes: 1 });
  const [node] = lab.nodes;
  const id = await node.docker.run({ image: lab.image });
  const { State } = await node.docker.inspect(id);
  const child = await lab.spawn(node, ['sleep', '600']);
  console.log(JSON.stringify({ run: lab.run, pids: [node.engine.pid(), State.Pid, child.pid] }));
  setInterval(() => {}, 1000);
`;

async function traces(id: string): Promise<string[]> {
  const found: string[] = [];
  const patterns = [`/run/netns/${id}*`, `/sys/fs/cgroup/${id}`, `/sys/fs/cgroup/*/${id}`, `/tmp/${id}`];
  for await (const file of glob(patterns)) found.push(file);
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return [...found, ...mounts.filter((line) => line.includes(`/${id}/`))];
}

test('a sweep removes all that a killed owner has left, and nothing of a living one', async () => {
  const run = createRun();
  const argv = [process.execPath, '--input-type=module', '--eval', CRASHING];
  const owner = await spawnProcess(run, argv);
  const said = await waitUntil(() => owner.stdout(), {
    what: 'the lab of the owner',
    timeoutMs: 30_000,
    unless: () => (owner.state() === 'gone' ? owner.stderr() : undefined),
  });
  const { run: left, pids } = JSON.parse(said) as { run: { id: string }; pids: number[] };

  await sweepDeadRuns();
  expect(pids.map(processState)).toEqual(['running', 'running', 'running']);
  expect(await traces(left.id)).not.toEqual([]);

  await owner.kill();
  expect(pids.map(processState)).toEqual(['running', 'running', 'running']);
  await sweepDeadRuns();
  expect(pids.map(processState)).toEqual(['gone', 'gone', 'gone']);
  expect(await traces(left.id)).toEqual([]);
  expect(existsSync(run.dir)).toBe(true);
  await removeRun(run);
});
