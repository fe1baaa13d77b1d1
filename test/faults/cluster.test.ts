/**
 * The main job on three nodes while parts of it are killed: afterwards every hosts file has to say what runs (L1), and
 * meanwhile what it said before (S7).
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { waitUntil } from '@elastic-dns/testkit/wait';
import type { LabNode } from '@elastic-dns/testkit/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readNames, startCluster, type Cluster } from '../e2e/cluster.ts';
import { ask, BACK, fileOf, FRONT, makeRun, namesIn } from '../e2e/workload.ts';

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
  ids['web'] = await run(n1, FRONT, 'web');
  ids['api'] = await run(n2, FRONT, 'api');
  ids['queue'] = await run(n2, BACK, 'queue');
  ids['scheduler'] = await run(n3, BACK, 'scheduler');
  await converge();
});

afterAll(async () => {
  await cluster?.stop();
});

const converge = (): Promise<void> => cluster.converge([FRONT, BACK]);

describe('three nodes with faults', () => {
  it('S3: the leader is killed in the middle of a burst, and the spare takes over', async () => {
    const leader = await leaderName();
    const burst = Promise.all(
      [n1, n2, n3].flatMap((node) => Array.from({ length: 4 }, () => run(node, BACK, 'burst'))),
    );
    const process = cluster.registrars.get(leader);
    await process?.kill();
    expect(process?.state()).toBe('gone');
    const started = await burst;
    await converge();
    expect(await leaderName()).not.toBe(leader);
    cluster.registrars.set(leader, await cluster.startRegistrar(leader));
    await Promise.all(
      started.map((id, index) => ([n1, n2, n3][Math.floor(index / 4)] ?? n1).docker.remove(id)),
    );
    await converge();
  });

  it('the engine restarts', async () => {
    const before = n2.engine.pid();
    await n2.engine.restart();
    expect(n2.engine.pid()).not.toBe(before);
    await converge();
    await n2.docker.start(ids['api'] ?? '');
    await n2.docker.start(ids['queue'] ?? '');
    await converge();
    expect(await ask(n2, ids['queue'] ?? '', `api.${FRONT}`)).not.toBe('');
  });

  it('agents and watchers are killed while containers change, and catch up', async () => {
    const member = cluster.members.find(({ node }) => node === n3);
    if (!member) throw new Error('n3 is gone');
    await Promise.all([member.agent.kill(), member.watcher.kill()]);
    expect([member.agent.state(), member.watcher.state()]).toEqual(['gone', 'gone']);
    await n3.docker.stop(ids['scheduler'] ?? '');
    const added = await run(n3, BACK, 'added');
    member.agent = await cluster.startAgent(n3);
    member.watcher = await cluster.startWatcher(n3);
    await converge();
    await n3.docker.start(ids['scheduler'] ?? '');
    await n3.docker.remove(added);
    await converge();
  });

  it('S7: with NATS, etcd and the registrars gone every hosts file stays as it is, also through a restart of the watchers', async () => {
    const web = ids['web'] ?? '';
    const before = await fileOf(n1, web);
    const filesBefore = await readAll();
    expect(filesBefore.filter((text) => text.includes('api.'))).toHaveLength(filesBefore.length);
    await Promise.all([cluster.etcd.kill(), cluster.nats.kill()]);
    for (const registrar of cluster.registrars.values()) await registrar.kill();
    expect([cluster.etcd.state(), cluster.nats.state()]).toEqual(['gone', 'gone']);
    for (const member of cluster.members) {
      await member.watcher.stop();
      member.watcher = await cluster.startWatcher(member.node);
    }
    // The engine wipes the file at a restart: only a watcher that knows the names can bring them back.
    await n1.docker.restart(web);
    await waitUntil(async () => (await namesIn(n1, web)).includes('api'), {
      what: 'the names from the last good state',
    });
    expect(readNames(await fileOf(n1, web))).toEqual(readNames(before));
    expect(cluster.members.map(({ watcher }) => watcher.state())).toEqual(['running', 'running', 'running']);
    expect(await readAll()).toEqual(filesBefore);
    await Promise.all([cluster.etcd.start(), cluster.nats.start()]);
    for (const name of cluster.registrars.keys())
      cluster.registrars.set(name, await cluster.startRegistrar(name));
    const added = await run(n2, FRONT, 'after-the-outage');
    await cluster.converge([FRONT, BACK], 60_000);
    await n2.docker.remove(added);
    await converge();
  });
});

/** Every hosts file of the cluster but that of `web`, byte for byte. */
async function readAll(): Promise<string[]> {
  const files = [n1, n2, n3].flatMap(({ dir }) =>
    [path.join('data', 'hosts', FRONT), path.join('data', 'hosts', BACK), 'hosts'].map((file) =>
      path.join(dir, file),
    ),
  );
  const containers = await Promise.all([
    fileOf(n2, ids['api'] ?? ''),
    fileOf(n2, ids['queue'] ?? ''),
    fileOf(n3, ids['scheduler'] ?? ''),
  ]);
  return [...files.map((file) => readFileSync(file, 'latin1')), ...containers];
}

/** Who holds the leader's key. */
async function leaderName(): Promise<string> {
  return waitUntil(async () => (await cluster.store.get('/elastic-dns/leader'))?.value ?? '', {
    what: 'a leader',
  });
}
