/** The watcher beside a real engine, which makes, rewrites and takes away the files that it writes. */
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { describe, expect, it } from 'vitest';
import { clean } from './clean.ts';
import { beside, commit, expectRight, hostsPathOf, run, setUpBeside, SHOP, stopWatcher } from './fixture.ts';
import { instanceRecord } from './samples.ts';

setUpBeside();

describe("a container's hosts file beside a real engine", () => {
  it("has the names for the container's first command, 30 times out of 30, on the default and a user's network", async () => {
    for (let number = 0; number < 30; number++) {
      const id = await run({
        ...(number % 2 === 0 ? {} : { network: beside.network }),
        command: ['sh', '-c', 'getent ahosts calm && getent ahosts calm.shop'],
      });
      const exitCode = await beside.node.docker.command(['wait', id]);
      expect({ number, exitCode, said: await beside.node.docker.logs(id) }).toMatchObject({
        exitCode: '0',
        said: expect.stringMatching(/^10\.7\.0\.1 +STREAM calm\n[^]*10\.7\.0\.1 +STREAM calm\n/),
      });
    }
  });

  it('gives each caller its view: own names bare, others qualified, none bare without a namespace', async () => {
    await commit([instanceRecord(2, { namespace: 'blog', service: 'calm', ipv4: '10.7.0.2' })]);
    const [shop, blog, stray, ignored] = await Promise.all([
      run(),
      run({ labels: { 'elastic-dns.namespace': 'blog' } }),
      run({ labels: {} }),
      run({ labels: { ...SHOP, 'elastic-dns.ignore': 'true' } }),
    ]);
    await expectRight(shop);
    await expectRight(blog, 'blog');
    await expectRight(stray, null);
    expect((await beside.node.docker.exec(blog, ['getent', 'ahosts', 'calm'])).stdout).toContain('10.7.0.2');
    expect((await beside.node.docker.exec(stray, ['getent', 'ahosts', 'calm'])).exitCode).not.toBe(0);
    expect(readFileSync(await hostsPathOf(ignored), 'utf8')).not.toContain('elastic-dns');
  });

  it('is right again after the container restarts, stops and starts, and is killed and comes back', async () => {
    const id = await run({ restart: 'always' });
    await expectRight(id);
    await beside.node.docker.restart(id);
    await expectRight(id);
    await beside.node.docker.stop(id);
    expect((await beside.node.docker.inspect(id)).State.Running).toBe(false);
    await beside.node.docker.start(id);
    await expectRight(id);
    const { Pid } = (await beside.node.docker.inspect(id)).State;
    process.kill(Pid, 'SIGKILL');
    await waitUntil(async () => ![0, Pid].includes((await beside.node.docker.inspect(id)).State.Pid), {
      what: 'the engine to start it again',
    });
    await expectRight(id);
  });

  it('is right again after the engine restarts', async () => {
    const id = await run({ restart: 'always' });
    await expectRight(id);
    await beside.node.engine.stop();
    expect(beside.node.engine.running()).toBe(false);
    await beside.node.engine.start();
    await expectRight(id, 'shop', 10_000);
  });

  it('is kept while the engine is dead and its containers run on, and afterwards', async () => {
    const id = await run({ restart: 'always' });
    await expectRight(id);
    const file = await hostsPathOf(id);
    await beside.node.engine.kill();
    expect(beside.node.engine.running()).toBe(false);
    await commit([instanceRecord(3, { namespace: 'shop', service: 'late', ipv4: '10.7.0.3' })]);
    await waitUntil(() => readFileSync(file, 'utf8').includes('10.7.0.3 late late.shop '), {
      what: 'the name to come while the engine is dead',
    });
    await beside.node.engine.start();
    await expectRight(id, 'shop', 10_000);
  });

  it('keeps what a process inside has added by hand, and gets back what one has taken out', async () => {
    const id = await run();
    await expectRight(id);
    await beside.node.docker.exec(id, ['sh', '-c', 'echo "10.9.9.9 by-hand" >> /etc/hosts']);
    await commit([instanceRecord(3, { namespace: 'shop', service: 'late', ipv4: '10.7.0.3' })]);
    await expectRight(id);
    expect((await beside.node.docker.exec(id, ['getent', 'ahosts', 'by-hand'])).stdout).toContain('10.9.9.9');
    const harm = 'grep -v elastic-dns /etc/hosts > /tmp/h; cat /tmp/h > /etc/hosts';
    expect((await beside.node.docker.exec(id, ['sh', '-c', harm])).exitCode).toBe(0);
    await expectRight(id);
    expect((await beside.node.docker.exec(id, ['getent', 'ahosts', 'by-hand'])).stdout).toContain('10.9.9.9');
  });

  it('is reported while it is read-only or gone, and right again as soon as it can be', async () => {
    const id = await run();
    await expectRight(id);
    const file = await hostsPathOf(id);
    execFileSync('chattr', ['+i', file]);
    try {
      await commit([instanceRecord(3, { namespace: 'shop', service: 'late', ipv4: '10.7.0.3' })]);
      await waitUntil(() => beside.status().problems[0]?.kind === 'read-only', {
        what: 'the problem to be seen',
      });
      expect(readFileSync(file, 'utf8')).not.toContain('late.shop');
    } finally {
      execFileSync('chattr', ['-i', file]);
    }
    await expectRight(id);
    await waitUntil(() => beside.status().problems.length === 0, { what: 'the problem to be over' });
    const content = readFileSync(file);
    rmSync(file);
    await waitUntil(() => beside.status().problems[0]?.kind === 'missing', { what: 'the loss to be seen' });
    writeFileSync(file, content);
    await waitUntil(() => beside.status().problems.length === 0, { what: 'the loss to be over' });
    rmSync(file);
    await beside.node.docker.restart(id);
    await expectRight(id);
  });

  it('is never one of the node that somebody has mounted over the container’s own', async () => {
    const mine = path.join(beside.folder, 'my-hosts');
    writeFileSync(mine, '127.0.0.1 localhost\n192.0.2.9 printer\n');
    const id = await run({ extra: ['--volume', `${mine}:/etc/hosts`] });
    const other = await run();
    await expectRight(other);
    await commit([instanceRecord(3, { namespace: 'shop', service: 'late', ipv4: '10.7.0.3' })]);
    await expectRight(other);
    expect((await beside.node.docker.inspect(id)).State.Running).toBe(true);
    expect(readFileSync(mine, 'utf8')).toBe('127.0.0.1 localhost\n192.0.2.9 printer\n');
  });

  it('is shared by a container that has joined another one’s network, and written once', async () => {
    const id = await run();
    const joined = await run({ network: `container:${id}`, command: ['sleep', '600'] });
    await expectRight(id);
    expect((await beside.node.docker.exec(joined, ['getent', 'ahosts', 'calm'])).stdout).toContain(
      '10.7.0.1',
    );
    expect(beside.status().containers).toBe(1);
  });

  it('is as the engine made it once clean has run, in containers that run and that do not', async () => {
    const before = await run({ labels: { 'elastic-dns.ignore': 'true' } });
    const [id, stopped] = [await run(), await run()];
    await expectRight(id);
    await expectRight(stopped);
    await beside.node.docker.stop(stopped);
    await stopWatcher();
    const files = [await hostsPathOf(id), await hostsPathOf(stopped)];
    const cleaned = await clean({
      hostsDir: path.join(beside.folder, 'hosts'),
      nodeHosts: null,
      engine: beside.engine,
    });
    expect(cleaned.map(({ path: file }) => file)).toEqual(expect.arrayContaining(files));
    const plain = readFileSync(await hostsPathOf(before), 'utf8').split('\n').length;
    for (const file of files) {
      const text = readFileSync(file, 'utf8');
      expect(text).not.toContain('elastic-dns');
      expect(text).toContain('127.0.0.1\tlocalhost\n');
      expect(text.split('\n').length).toBeLessThanOrEqual(plain);
    }
    expect(
      await clean({ hostsDir: path.join(beside.folder, 'hosts'), nodeHosts: null, engine: beside.engine }),
    ).toEqual([]);
  });
});
