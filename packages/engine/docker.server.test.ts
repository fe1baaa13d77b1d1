import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { UnavailableError, type Container } from '@elastic-dns/model';
import { startLab, type Lab, type LabNode } from '@elastic-dns/testkit/lab';
import { assertNoneLeft, checkLeaks, listHoldings } from '@elastic-dns/testkit/leaks';
import { pauseProcess, processState, readProcess, resumeProcess } from '@elastic-dns/testkit/processes';
import { engineContract, follow, type Action, type Followed } from './contract.ts';
import { createDockerEngine } from './docker.ts';
import type { Engine } from './engine.ts';

const WAIT = { timeout: 20_000, interval: 20 };

let lab: Lab;
let node: LabNode;
let holdings: string[];
beforeAll(async () => {
  holdings = listHoldings();
  lab = await startLab({ nodes: 1 });
  node = lab.node('n1');
});
afterAll(async () => {
  await lab.stop();
  await assertNoneLeft(holdings);
});
checkLeaks();

engineContract('Docker', async () => {
  const { docker } = node;
  const engine = createDockerEngine({ host: docker.host });
  const run = (number: number): Promise<string> =>
    docker.run({
      image: lab.image,
      name: `web-${number}`,
      labels: { tier: 'front' },
      healthCheck: { command: 'test ! -e /tmp/broken' },
      extra: ['--expose', '80'],
    });
  const act = async (id: string, action: Action): Promise<void> => {
    switch (action) {
      case 'reload':
        return docker.kill(id, 'SIGHUP');
      case 'break':
        return void (await docker.exec(id, ['touch', '/tmp/broken']));
      case 'mend':
        return void (await docker.exec(id, ['rm', '/tmp/broken']));
      case 'pause':
      case 'unpause':
        return void (await docker.command([action, id]));
      case 'rename': {
        const { Name } = await docker.inspect(id);
        return void (await docker.command(['rename', id, Name.replace('/web', 'renamed')]));
      }
      case 'stop':
        return docker.stop(id, 10);
      case 'crash':
        return docker.kill(id);
      case 'start':
        return docker.start(id);
      case 'remove':
        return docker.remove(id);
    }
  };
  return { engine, run, act, close: () => engine.close() };
});

describe('the Docker engine', () => {
  let engine: Engine;
  let followed: Followed;
  beforeEach(async () => {
    engine = createDockerEngine({ host: node.docker.host, pingIntervalMs: 200, pingDeadlineMs: 1_000 });
    followed = await follow(engine);
  });
  afterEach(async () => {
    followed.stop();
    await engine.close();
    if (!node.engine.running()) await node.engine.start();
    await node.docker.remove(...(await node.docker.list()));
  });

  const inspect = async (id: string): Promise<Container> => {
    const container = await engine.inspect(id);
    if (!container) throw new Error(`${id} is gone`);
    return container;
  };

  test('shows a container of the host network without a network, and with a hosts file of its own', async () => {
    const id = await node.docker.run({ image: lab.image, network: 'host' });
    const container = await inspect(id);
    expect(container).toMatchObject({ hostNetwork: true, networks: [] });
    expect(readFileSync(container.hostsPath ?? '', 'utf8')).toContain('localhost');
    expect(await engine.peek(id)).toMatchObject({
      hostNetwork: true,
      networks: [],
      hostsPath: container.hostsPath,
    });
  });

  test('shows each network of a container, as networks come and go at run time', async () => {
    const [a, b] = [await node.createNetwork('net-a'), await node.createNetwork('net-b')];
    const id = await node.docker.run({ image: lab.image, network: b });
    expect((await inspect(id)).networks.map(({ name }) => name)).toEqual([b]);
    await node.docker.command(['network', 'connect', a, id]);
    await vi.waitFor(
      () => expect(followed.words(id)).toEqual(['create', 'connect', 'start', 'connect']),
      WAIT,
    );
    const { networks } = await inspect(id);
    expect(networks.map(({ name }) => name)).toEqual([a, b]);
    expect(new Set(networks.map(({ ipv4 }) => ipv4)).size).toBe(2);
    await node.docker.command(['network', 'disconnect', b, id]);
    await vi.waitFor(() => expect(followed.words(id).at(-1)).toBe('disconnect'), WAIT);
    expect((await inspect(id)).networks.map(({ name }) => name)).toEqual([a]);
    const networkEvents = followed.events.flatMap((event) =>
      'network' in event ? [`${event.kind} ${event.network}`] : [],
    );
    // The engine tells of a disconnection at run time twice.
    expect([...new Set(networkEvents)]).toEqual([`connect ${b}`, `connect ${a}`, `disconnect ${b}`]);
    await node.docker.remove(id);
    await node.docker.command(['network', 'rm', a, b]);
  });

  test('shows global IPv6 addresses', async () => {
    await node.docker.command(['network', 'create', '--ipv6', '--subnet', 'fd00:1234::/64', 'six']);
    const id = await node.docker.run({ image: lab.image, network: 'six' });
    expect((await inspect(id)).networks).toEqual([
      { name: 'six', ipv4: expect.stringMatching(/^10\./) as string, ipv6: 'fd00:1234::2' },
    ]);
    await node.docker.remove(id);
    await node.docker.command(['network', 'rm', 'six']);
  });

  test('shows a container that has joined the network of another without network and hosts file', async () => {
    const owner = await node.docker.run({ image: lab.image });
    const id = await node.docker.run({
      image: lab.image,
      network: `container:${owner}`,
      command: ['sleep', '60'],
    });
    expect(await inspect(id)).toMatchObject({ hostNetwork: false, networks: [], hostsPath: null });
    expect(await engine.peek(id)).toMatchObject({ networks: [], hostsPath: null });
  });

  test('shows exposed and published ports, and not those that are published on loopback only', async () => {
    const id = await node.docker.run({
      image: lab.image,
      publish: ['8080:80', '127.0.0.1:9090:90', '5353:53/udp'],
      extra: ['--expose', '3000'],
    });
    const { ports } = await inspect(id);
    expect(ports.toSorted((a, b) => a.port - b.port)).toEqual([
      { port: 53, protocol: 'udp', published: 5353 },
      { port: 80, protocol: 'tcp', published: 8080 },
      { port: 90, protocol: 'tcp', published: null },
      { port: 3000, protocol: 'tcp', published: null },
    ]);
  });

  test('shows the stop signal by number', async () => {
    const id = await node.docker.run({ image: lab.image, stopSignal: 'SIGRTMIN+3' });
    expect(await inspect(id)).toMatchObject({ stopSignal: 37 });
    expect(await inspect(await node.docker.run({ image: lab.image, stopSignal: 'SIGQUIT' }))).toMatchObject({
      stopSignal: 3,
    });
  });

  test('tells that memory ran out before it tells of the end', async () => {
    const id = await node.docker.run({
      image: lab.image,
      extra: ['--memory', '8m'],
      command: ['sh', '-c', 'x=a; while :; do x=$x$x; done'],
    });
    await vi.waitFor(() => expect(followed.words(id)).toContain('die 137'), WAIT);
    expect(followed.words(id).slice(0, 5)).toEqual(['create', 'connect', 'start', 'oom', 'die 137']);
  });

  test('knows the hosts file of a container before its first start', async () => {
    const id = await node.docker.command(['create', lab.image]);
    const { hostsPath } = await inspect(id);
    await node.docker.start(id);
    expect((await node.docker.inspect(id)).HostsPath).toBe(hostsPath);
    expect(hostsPath).toContain(id);
  });

  test('fails a subscription when the engine is killed, and works again after it is back', async () => {
    await node.engine.kill();
    expect(node.engine.running()).toBe(false);
    expect(await followed.ended).toBeInstanceOf(UnavailableError);
    await expect(engine.list()).rejects.toBeInstanceOf(UnavailableError);
    await expect(engine.subscribe(new AbortController().signal)).rejects.toBeInstanceOf(UnavailableError);
    await node.engine.start();
    const again = await follow(engine);
    const id = await node.docker.run({ image: lab.image });
    await vi.waitFor(() => expect(again.words(id)).toEqual(['create', 'connect', 'start']), WAIT);
    again.stop();
  });

  test('lists what is true after more events than the engine keeps have been missed', async () => {
    followed.stop();
    const [kept, gone] = [
      await node.docker.run({ image: lab.image }),
      await node.docker.run({ image: lab.image }),
    ];
    await node.docker.command(['kill', '--signal', 'SIGCONT', ...Array<string>(260).fill(kept)]);
    await node.docker.remove(gone);
    const late = await follow(engine);
    expect((await engine.list()).map(({ id, status }) => [id, status])).toEqual([[kept, 'running']]);
    expect(late.events).toEqual([]);
    late.stop();
  });

  test('fails a subscription when the engine stands still without closing anything', async () => {
    await pauseProcess(node.engine.pid());
    try {
      expect(await followed.ended).toBeInstanceOf(UnavailableError);
      expect(processState(node.engine.pid())).toBe('paused');
    } finally {
      await resumeProcess(node.engine.pid());
    }
    const again = await follow(engine);
    expect(await engine.list()).toEqual([]);
    again.stop();
  });

  test('lists all others, and what it knows of it, when the engine hangs on one container', async () => {
    const impatient = createDockerEngine({ host: node.docker.host, deadlineMs: 700 });
    const healthy = await node.docker.run({ image: lab.image });
    const hung = await node.docker.command(['create', '--label', 'tier=back', lab.image]);
    const containerd = childOf(node.engine.pid(), 'containerd');
    await impatient.info();
    await pauseProcess(containerd);
    const starting = node.docker.start(hung);
    try {
      const hangs = async (): Promise<void> => {
        await expect(impatient.inspect(hung)).rejects.toThrow(UnavailableError);
      };
      await vi.waitFor(hangs, WAIT);
      const listed = new Map((await impatient.list()).map((container) => [container.id, container]));
      expect(listed.get(healthy)).toEqual(await impatient.inspect(healthy));
      expect(listed.get(hung)).toMatchObject({ status: 'created', labels: { tier: 'back' } });
      expect(listed.get(hung)?.hostsPath).toContain(hung);
    } finally {
      await resumeProcess(containerd);
      await starting;
      await impatient.close();
    }
  });
});

function childOf(pid: number, command: string): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  const children = threads.flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  );
  const found = children.find((child) => readProcess(child)?.command === command);
  if (found === undefined) throw new Error(`process ${pid} has no child ${command}`);
  return found;
}
