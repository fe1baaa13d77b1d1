/**
 * The main job on three nodes: real engines, NATS, etcd, two registrars. After every step every hosts file (of the nodes,
 * of the namespaces, in the containers) has to say what runs, as `docker inspect` tells it (L1).
 */
import { waitUntil } from '@elastic-dns/testkit/wait';
import type { LabNode } from '@elastic-dns/testkit/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startCluster, type Cluster } from './cluster.ts';
import { ask, BACK, FRONT, makeRun, meet, namesIn, namesOf, short } from './workload.ts';

let cluster: Cluster;
let n1: LabNode;
let n2: LabNode;
let n3: LabNode;
let run: ReturnType<typeof makeRun>;
/** The containers that are there all the time. */
const ids: Record<string, string> = {};

beforeAll(async () => {
  cluster = await startCluster();
  run = makeRun(cluster);
  [n1, n2, n3] = [cluster.lab.node('n1'), cluster.lab.node('n2'), cluster.lab.node('n3')];
});

afterAll(async () => {
  await cluster?.stop();
});

const converge = (): Promise<void> => cluster.converge([FRONT, BACK]);

describe('three nodes, two applications', () => {
  it('every container finds the others by name, across nodes and applications', async () => {
    ids['web'] = await run(n1, FRONT, 'web');
    ids['api1'] = await run(n1, FRONT, 'api');
    ids['api2'] = await run(n2, FRONT, 'api');
    ids['scheduler'] = await run(n3, BACK, 'scheduler');
    ids['queue'] = await run(n2, BACK, 'queue');
    await converge();
    const apis = [short(ids['api1']), short(ids['api2'])];
    expect(apis).toContain(await ask(n1, ids['web'], 'api'));
    expect(apis).toContain(await ask(n2, ids['queue'], `api.${FRONT}`));
    expect(await ask(n1, ids['web'], `scheduler.${BACK}`)).toBe(short(ids['scheduler']));
    expect(await ask(n3, ids['scheduler'], 'queue')).toBe(short(ids['queue']));
    // The connection arrives under the caller's own address: nothing stands in between.
    const [web] = Object.values((await n1.docker.inspect(ids['web'])).NetworkSettings.Networks);
    expect((await meet(n1, ids['web'], `scheduler.${BACK}`)).met).toBe(web?.IPAddress);
  });

  it('rule 3: services of the same name in two namespaces never mix', async () => {
    ids['back-api'] = await run(n3, BACK, 'api');
    await converge();
    const front = [short(ids['api1'] ?? ''), short(ids['api2'] ?? '')];
    for (let turn = 0; turn < 5; turn++) {
      expect(front).toContain(await ask(n1, ids['web'] ?? '', 'api'));
      expect(await ask(n3, ids['scheduler'] ?? '', 'api')).toBe(short(ids['back-api']));
      expect(await ask(n3, ids['scheduler'] ?? '', `api.${BACK}`)).toBe(short(ids['back-api']));
    }
  });

  it('rule 3: a bare name of another namespace does not resolve', async () => {
    const { exitCode } = await n1.docker.exec(ids['web'] ?? '', ['getent', 'ahosts', 'scheduler']);
    expect(exitCode).not.toBe(0);
  });

  it('scales up and down', async () => {
    const more = await Promise.all(
      [n1, n2, n3].flatMap((node) => [run(node, FRONT, 'api'), run(node, FRONT, 'api')]),
    );
    await converge();
    const { stdout } = await n1.docker.exec(ids['web'] ?? '', ['getent', 'ahostsv4', 'api']);
    expect(new Set(stdout.split('\n').filter((line) => line.includes('STREAM'))).size).toBe(8);
    await Promise.all(more.map((id, index) => ([n1, n1, n2, n2, n3, n3][index] ?? n1).docker.remove(id)));
    await converge();
  });

  it('rule 10: a container that was told to stop leaves the answers before it is gone', async () => {
    // Ignores SIGTERM, so that it stays alive until the grace period is over.
    const slow = await run(n2, FRONT, 'slow', {
      command: ['sh', '-c', 'trap "" TERM; while :; do sleep 1; done'],
    });
    await converge();
    const stopping = n2.docker.stop(slow, 15);
    await waitUntil(async () => !(await namesIn(n1, ids['web'] ?? '')).includes('slow'), {
      what: 'the name to leave',
    });
    expect((await n2.docker.inspect(slow)).State.Running).toBe(true);
    await n2.docker.kill(slow);
    await stopping;
    await converge();
  });

  it('follows a stop, a kill -9 and a restart', async () => {
    await n2.docker.stop(ids['api2'] ?? '');
    await converge();
    await n1.docker.kill(ids['api1'] ?? '', 'KILL');
    await converge();
    expect(await namesIn(n1, ids['web'] ?? '')).not.toContain('api');
    await n1.docker.start(ids['api1'] ?? '');
    await n2.docker.start(ids['api2'] ?? '');
    await converge();
    await n1.docker.restart(ids['web'] ?? '');
    await converge();
    expect([short(ids['api1'] ?? ''), short(ids['api2'] ?? '')]).toContain(
      await ask(n1, ids['web'] ?? '', 'api'),
    );
  });

  it('rule 9: follows health', async () => {
    const checked = await run(n3, FRONT, 'checked', { healthCheck: { command: 'test ! -e /tmp/ill' } });
    const names = (): Promise<string[]> => namesIn(n1, ids['web'] ?? '');
    await waitUntil(async () => (await names()).includes('checked'), {
      what: 'the healthy one to be answered',
    });
    await converge();
    await n3.docker.exec(checked, ['touch', '/tmp/ill']);
    await waitUntil(async () => !(await names()).includes('checked'), { what: 'the unhealthy one to leave' });
    expect((await n3.docker.inspect(checked)).State.Health?.Status).toBe('unhealthy');
    await n3.docker.exec(checked, ['rm', '/tmp/ill']);
    await waitUntil(async () => (await names()).includes('checked'), { what: 'it to come back' });
    await n3.docker.remove(checked);
    await converge();
  });

  it('serves containers of a user-defined network and of the host network', async () => {
    const network = await n2.createNetwork('front-net');
    const inNet = await run(n2, FRONT, 'netted', { network });
    const onHost = await run(n3, FRONT, 'hosted', { network: 'host', command: ['serve', '3000'] });
    await converge();
    expect(await ask(n1, ids['web'] ?? '', 'netted')).toBe(short(inNet));
    expect(await ask(n1, ids['web'] ?? '', 'hosted')).not.toBe('');
    await Promise.all([n2.docker.remove(inNet), n3.docker.remove(onHost)]);
    await converge();
  });

  it('hostile labels reach no key and no file; the containers are listed as refused and the rest works', async () => {
    const hostile = [
      'a\n10.9.9.9 bank',
      'a#b',
      '..',
      'a/b',
      'localhost',
      'x'.repeat(300),
      'a b',
      '\u202eipa',
      '<b>',
    ];
    const containers = await Promise.all(hostile.map((service) => run(n1, FRONT, service)));
    const names = await Promise.all(hostile.map((namespace) => run(n2, namespace, 'api')));
    const good = await run(n1, FRONT, 'good');
    const refused = await waitUntil(
      async () => {
        const { stdout } = await cluster.cli('list', 'refused', '--json');
        const parsed = JSON.parse(stdout) as { reason: string; id: string }[];
        return parsed.length === hostile.length * 2 ? parsed : null;
      },
      { what: 'all of them to be refused' },
    );
    for (const { reason } of refused ?? []) expect(reason).toMatch(/^[\x20-\x7e]+$/);
    await waitUntil(async () => (await namesIn(n1, ids['web'] ?? '')).includes('good'), {
      what: 'the good one',
    });
    const file = (await n1.docker.exec(ids['web'] ?? '', ['cat', '/etc/hosts'])).stdout;
    for (const text of ['10.9.9.9', 'bank', '<b>', 'xxxx']) expect(file).not.toContain(text);
    const keys: string[] = [];
    for await (const page of cluster.store.read({ from: '/dns/', to: '/dns0' }))
      keys.push(...page.entries.map(({ key }) => key));
    for (const key of keys) expect(key).toMatch(/^\/dns(?:\/[a-z0-9_-]+){3}$/);
    expect(keys.join('\n')).toContain('/dns/web-front-end/good/');
    await n1.docker.remove(...containers, good);
    await n2.docker.remove(...names);
    await converge();
  });

  it("a container's first command finds the names", async () => {
    for (let turn = 0; turn < 10; turn++) {
      const node = [n1, n2, n3][turn % 3] ?? n1;
      const id = await run(node, FRONT, 'job', {
        command: ['sh', '-c', `getent ahostsv4 api && getent ahostsv4 scheduler.${BACK}`],
      });
      await waitUntil(async () => !(await node.docker.inspect(id)).State.Running, { what: 'the job to end' });
      expect({
        code: (await node.docker.inspect(id)).State.ExitCode,
        logs: await node.docker.logs(id),
      }).toMatchObject({ code: 0 });
      await node.docker.remove(id);
    }
    await converge();
  });

  it('shows the same to people: list, resolve and events', async () => {
    const list = JSON.parse((await cluster.cli('list', 'services', '--json')).stdout) as {
      namespace: string;
      service: string;
    }[];
    expect(list.map(({ namespace, service }) => `${service}.${namespace}`)).toEqual(
      expect.arrayContaining([`api.${FRONT}`, `api.${BACK}`, `scheduler.${BACK}`]),
    );
    const answer = JSON.parse((await cluster.cli('resolve', 'api', '--as', FRONT, '--json')).stdout) as {
      addresses: string[];
    };
    expect(answer.addresses.toSorted()).toEqual((await namesOf(n1, ids['web'] ?? ''))['api']);
    expect((await cluster.cli('resolve', 'scheduler', '--as', FRONT)).exitCode).toBe(3);
    const events = (await cluster.cli('events', '--node', 'n1', '--json')).stdout.trim().split('\n');
    expect(events.length).toBeGreaterThan(10);
  });
});
