import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startLab, type Lab, type LabNode } from './lab.ts';
import { assertNoneLeft, checkLeaks, listHoldings } from './leaks.ts';
import { processState } from './processes.ts';
import { spawnEtcd, spawnNats } from './servers.ts';

let lab: Lab;
let n1: LabNode;
let n2: LabNode;
let holdings: string[];
beforeAll(async () => {
  holdings = listHoldings();
  lab = await startLab({ nodes: 3 });
  n1 = lab.node('n1');
  n2 = lab.node('n2');
});
afterAll(async () => {
  await lab.stop();
  await assertNoneLeft(holdings);
});
checkLeaks();

interface Container {
  node: LabNode;
  id: string;
  address: string;
}

async function runApp(node: LabNode, network = 'bridge'): Promise<Container> {
  const id = await node.docker.run({ image: lab.image, network });
  const found = await node.docker.inspect(id);
  return { node, id, address: found.NetworkSettings.Networks[network]?.IPAddress ?? '' };
}

/** What the web server of another container says, as seen from inside; rejects when it cannot be reached. */
async function ask(caller: Container, host: string): Promise<string> {
  const argv = ['timeout', '2', 'wget', '-q', '-O', '-', `http://${host}:3000/cgi-bin/who`];
  const { stdout, stderr, exitCode } = await caller.node.docker.exec(caller.id, argv);
  if (exitCode !== 0) throw new Error(`exit code ${exitCode}: ${stderr}`);
  return stdout.trim();
}

const REACHED = { timeout: 10_000 };

test('containers of different nodes meet under their own addresses, on default and on further networks', async () => {
  const callers = [await runApp(n1), await runApp(n1, await n1.createNetwork('shop'))];
  const servers = [await runApp(n2), await runApp(n2, await n2.createNetwork('shop')), await runApp(n1)];
  for (const caller of callers) {
    for (const server of servers) {
      await expect
        .poll(() => ask(caller, server.address), REACHED)
        .toBe(`${server.id.slice(0, 12)} met ${caller.address}`);
    }
  }
});

test('a cut node is out of reach until it is healed', async () => {
  const [caller, server, neighbour] = [await runApp(n1), await runApp(n2), await runApp(n2)];
  await expect.poll(() => ask(caller, server.address), REACHED).toContain(caller.address);
  await lab.cut(n2);
  await expect(ask(caller, server.address)).rejects.toThrow('exit code 143');
  expect(await ask(neighbour, server.address)).toContain(neighbour.address);
  await lab.heal(n2);
  await expect.poll(() => ask(caller, server.address), REACHED).toContain(caller.address);
});

test('names in a container resolve by its hosts file, all addresses of them, and unknown ones fail at once', async () => {
  const [caller, server] = [await runApp(n1), await runApp(n2)];
  const lines = `echo "${server.address} api" >> /etc/hosts; echo "10.9.9.9 api" >> /etc/hosts`;
  await n1.docker.exec(caller.id, ['sh', '-c', lines]);
  const { stdout } = await n1.docker.exec(caller.id, ['getent', 'ahosts', 'api']);
  expect([...new Set(stdout.match(/^\S+/gm))]).toEqual([server.address, '10.9.9.9']);
  await expect.poll(() => ask(caller, 'api'), REACHED).toContain(caller.address);
  expect((await n1.docker.exec(caller.id, ['getent', 'ahosts', 'nobody'])).exitCode).toBe(2);
  expect(await readFile((await n1.docker.inspect(caller.id)).HostsPath, 'utf8')).toContain('10.9.9.9 api');
});

test('health, stop and restart are seen as any engine shows them', async () => {
  const healthCheck = { command: 'test ! -e /tmp/ill' };
  const id = await n1.docker.run({
    image: lab.image,
    name: 'patient',
    labels: { one: 'two words' },
    healthCheck,
  });
  const health = async (): Promise<string | undefined> =>
    (await n1.docker.inspect('patient')).State.Health?.Status;
  await expect.poll(health, REACHED).toBe('healthy');
  await n1.docker.exec(id, ['touch', '/tmp/ill']);
  await expect.poll(health, REACHED).toBe('unhealthy');
  await n1.docker.stop(id);
  expect((await n1.docker.inspect(id)).State).toMatchObject({ Status: 'exited', ExitCode: 0 });
  await n1.docker.start(id);
  expect((await n1.docker.inspect(id)).State.Status).toBe('running');
  await n1.docker.remove(id);
  await expect(n1.docker.inspect(id)).rejects.toThrow(/No such/);
});

test('an engine that is killed leaves its containers running, and starts again', async () => {
  const n3 = lab.node('n3');
  const id = await n3.docker.run({ image: lab.image, restart: 'always' });
  const { Pid } = (await n3.docker.inspect(id)).State;
  const killed = n3.engine.pid();
  await n3.engine.kill();
  expect([processState(killed), processState(Pid)]).toEqual(['gone', 'running']);
  await n3.engine.start();
  expect(n3.engine.pid()).not.toBe(killed);
  await expect.poll(async () => (await n3.docker.inspect(id)).State.Running, REACHED).toBe(true);
  await n3.engine.restart();
  await expect.poll(async () => (await n3.docker.inspect(id)).State.Running, REACHED).toBe(true);
});

test('programs run in the namespace of their member, and end with it', async () => {
  const sleeper = await lab.spawn(n1, ['sleep', '600']);
  expect(sleeper.state()).toBe('running');
  const { stdout } = await lab.execute(n1, ['ip', '-o', '-4', 'address']);
  expect(stdout).toContain(`${n1.address}/24`);
  expect((await lab.execute(lab.control, ['false'])).exitCode).toBe(1);
  expect((await sleeper.stop()).signal).toBe('SIGTERM');
});

test('servers in the control namespace are reached from the test and from nodes, through breakable ways', async () => {
  const { netns, address: host } = lab.control;
  await using etcd = await spawnEtcd({ netns, host, port: 2379 });
  await using nats = await spawnNats({ netns, host, port: 4222 });
  await using way = await lab.reach(lab.control, etcd);
  const version = `http://${way.host}:${way.port}/version`;
  expect(await (await fetch(version)).json()).toHaveProperty('etcdserver');
  expect(way.forwarded.toClient).toBeGreaterThan(0);

  await using link = await lab.link({ member: n1, port: 4222 }, { member: lab.control, ...nats });
  const hello = ['sh', '-c', `busybox nc -w 2 ${n1.address} 4222 < /dev/null | head -c 4`];
  expect((await lab.execute(n1, hello)).stdout).toBe('INFO');
  link.refuse();
  expect((await lab.execute(n1, hello)).stdout).toBe('');
  await nats.pause();
  expect(nats.state()).toBe('paused');
});

test('what is published on a node is reached at its address, and no route joins the lab and the host', async () => {
  const id = await n1.docker.run({ image: lab.image, publish: ['8080:3000'] });
  const get = ['timeout', '2', 'busybox', 'wget', '-q', '-O', '-', `http://${n1.address}:8080/cgi-bin/who`];
  await expect.poll(async () => (await lab.execute(n2, get)).stdout, REACHED).toContain(id.slice(0, 12));
  const inside = (await lab.execute(lab.control, ['ip', 'route'])).stdout;
  expect(inside).toContain(`${n1.subnet} via ${n1.address}`);
  expect(inside).not.toContain('default');
  const outside = (await promisify(execFile)('ip', ['route'])).stdout;
  expect(outside).not.toContain(n1.subnet);
  expect(outside).not.toContain('10.77.');
});

test('a stopped lab leaves no engine, container, namespace, mount or folder', async () => {
  const other = await startLab({ nodes: 1 });
  const id = await other.nodes[0]?.docker.run({ image: other.image });
  const contained = (await other.nodes[0]?.docker.inspect(id ?? ''))?.State.Pid ?? 0;
  const engine = other.nodes[0]?.engine.pid() ?? 0;
  expect([processState(engine), processState(contained)]).toEqual(['running', 'running']);
  await other.stop();
  expect([processState(engine), processState(contained)]).toEqual(['gone', 'gone']);
  expect(existsSync(other.control.netns)).toBe(false);
  expect(await readFile('/proc/self/mountinfo', 'utf8')).not.toContain(other.run.id);
  expect(existsSync(other.run.dir)).toBe(false);
});
