/**
 * Records the trace that `up` plays where it finds no engine: two applications on three nodes, each with a real engine,
 * that are deployed, scaled, crash, fall ill, are stopped and restarted. Run by hand as root, when the port or the story
 * changes:
 *
 *   .tools/bin/node test/record/demo.ts
 */
import { writeFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { createDockerEngine } from '@elastic-dns/engine/docker';
import { startLab, type LabNode } from '@elastic-dns/testkit/lab';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { Recorder } from './recorder.ts';

const TARGET = new URL('../../packages/engine/traces/demo.json', import.meta.url);
const FRONT = 'web-front-end';
const BACK = 'backoffice-workers';

interface Service {
  namespace: string;
  name: string;
  port: number;
  version: string;
  /** It has a health check, which looks for this file. */
  isChecked?: boolean;
  restart?: string;
}

const SERVICES = {
  queue: { namespace: BACK, name: 'queue', port: 6379, version: '7' },
  scheduler: { namespace: BACK, name: 'scheduler', port: 4000, version: '12' },
  worker: { namespace: BACK, name: 'worker', port: 5000, version: '12' },
  mailer: { namespace: BACK, name: 'mailer', port: 2500, version: '12', restart: 'always' },
  backApi: { namespace: BACK, name: 'api', port: 3000, version: '12', isChecked: true },
  web: { namespace: FRONT, name: 'web', port: 80, version: '41', isChecked: true },
  api: { namespace: FRONT, name: 'api', port: 3000, version: '41', isChecked: true },
  webWorker: { namespace: FRONT, name: 'web-worker', port: 8080, version: '41' },
} satisfies Record<string, Service>;

await using lab = await startLab({ nodes: 3 });
const recorder = new Recorder();
const engines = lab.nodes.map((node) => createDockerEngine({ host: node.docker.host }));
for (const [index, node] of lab.nodes.entries()) {
  const engine = engines[index];
  const zone = index < 2 ? 'east' : 'west';
  if (engine) await recorder.follow(engine, { name: `node-${index + 1}`, ipv4: node.address, zone });
  for (const namespace of [FRONT, BACK]) await node.createNetwork(`${namespace}_default`);
}

/** A container that was started, and how to end it. */
class Instance {
  readonly node: LabNode;
  readonly id: string;

  constructor(node: LabNode, id: string) {
    this.node = node;
    this.id = id;
  }

  async stop(): Promise<void> {
    await this.node.docker.stop(this.id);
    await settle();
  }

  async remove(): Promise<void> {
    await this.stop();
    await this.node.docker.remove(this.id);
    await settle();
  }

  /** Ends its process as if it had crashed: the engine has nothing to do with it. */
  async crash(): Promise<void> {
    process.kill((await this.node.docker.inspect(this.id)).State.Pid, 'SIGKILL');
    await settle(1_200);
  }

  async hasHealth(health: string): Promise<void> {
    const look = async (): Promise<boolean> =>
      (await this.node.docker.inspect(this.id)).State.Health?.Status === health;
    await waitUntil(look, { what: `${this.id} to be ${health}` });
    await settle();
  }
}

/** The recorder asks the engine about each event, and the answer should not show the next one. */
async function settle(ms = 150): Promise<void> {
  await pause(ms);
}

const counts = new Map<string, number>();

async function start(at: number, service: Service, version = service.version): Promise<Instance> {
  const node = lab.node(`n${at}`);
  const { namespace, name, port, isChecked = false, restart } = service;
  const count = (counts.get(namespace + name) ?? 0) + 1;
  counts.set(namespace + name, count);
  const labels = {
    'com.docker.compose.project': namespace,
    'com.docker.compose.service': name,
    'elastic-dns.version': version,
  };
  const argv = ['create', '--name', `${namespace}-${name}-${count}`, '--network', `${namespace}_default`];
  for (const [key, value] of Object.entries(labels)) argv.push('--label', `${key}=${value}`);
  argv.push('--expose', String(port));
  if (restart) argv.push('--restart', restart);
  if (isChecked)
    argv.push('--health-cmd', 'test ! -e /tmp/ill', '--health-interval', '250ms', '--health-retries', '1');
  const id = await node.docker.command([...argv, lab.image, 'serve', String(port)]);
  await settle();
  await node.docker.start(id);
  const instance = new Instance(node, id);
  if (isChecked) await instance.hasHealth('healthy');
  else await settle();
  return instance;
}

/** One after the other: the new one is ready before the old one goes. */
async function deploy(running: Instance[], service: Service, version: string): Promise<void> {
  for (const [index, old] of running.entries()) {
    running[index] = await start(Number(old.node.name.slice(1)), service, version);
    await old.remove();
  }
}

const queue = await start(1, SERVICES.queue);
const scheduler = await start(2, SERVICES.scheduler);
const workers = [await start(2, SERVICES.worker), await start(3, SERVICES.worker)];
const mailer = await start(3, SERVICES.mailer);
const backApi = [await start(3, SERVICES.backApi), await start(1, SERVICES.backApi)];
const web = [await start(1, SERVICES.web), await start(2, SERVICES.web)];
const api = [await start(1, SERVICES.api), await start(2, SERVICES.api), await start(3, SERVICES.api)];
const webWorkers = [await start(2, SERVICES.webWorker), await start(3, SERVICES.webWorker)];

await deploy(api, SERVICES.api, '42');
await deploy(web, SERVICES.web, '42');
await deploy(webWorkers, SERVICES.webWorker, '42');

// more to do: the workers are scaled up
for (const at of [1, 1, 2, 3]) workers.push(await start(at, SERVICES.worker));

// one of the APIs falls ill and recovers
const [, ill] = api;
await ill?.node.docker.exec(ill.id, ['touch', '/tmp/ill']);
await ill?.hasHealth('unhealthy');
await settle(1_000);
await ill?.node.docker.exec(ill.id, ['rm', '/tmp/ill']);
await ill?.hasHealth('healthy');

// a crash that the engine mends, and one that it does not
await mailer.crash();
await webWorkers[0]?.crash();

// maintenance of the queue, the scheduler is stopped for a while, and an API is restarted
await queue.node.docker.command(['pause', queue.id]);
await settle(800);
await queue.node.docker.command(['unpause', queue.id]);
await settle();
await scheduler.stop();
await settle(1_000);
await scheduler.node.docker.start(scheduler.id);
await settle();
await api[2]?.node.docker.restart(api[2].id);
await api[2]?.hasHealth('healthy');

// the crashed one is replaced, and the next deploy follows
await webWorkers[0]?.node.docker.remove(webWorkers[0].id);
webWorkers[0] = await start(1, SERVICES.webWorker, '42');
await deploy(api, SERVICES.api, '43');
await deploy(web, SERVICES.web, '43');

// the work is done: back to two workers
for (const worker of workers.splice(2)) await worker.remove();

// the evening's visitors: more of the front end for a while
const evening = [
  await start(3, SERVICES.web, '43'),
  await start(1, SERVICES.web, '43'),
  await start(2, SERVICES.api, '43'),
];
await deploy(backApi, SERVICES.backApi, '13');
await deploy(workers, SERVICES.worker, '13');
await deploy(webWorkers, SERVICES.webWorker, '43');
for (const instance of evening) await instance.remove();

const trace = await recorder.finish();
await Promise.all(engines.map((engine) => engine.close()));
await writeFile(TARGET, JSON.stringify(trace));
console.log(`${trace.steps.length} events in ${trace.steps.at(-1)?.atMs} ms`);
