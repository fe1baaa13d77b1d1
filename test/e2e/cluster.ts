/**
 * A whole fleet for end-to-end tests: the lab's nodes, each with an agent and a watcher of its own, etcd, NATS and two
 * registrars in the control namespace; every role is a process of the bundle, as it ships. And the oracle: what every
 * hosts file has to say, worked out from `docker inspect` alone, sharing no code with what is tested.
 */
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { EtcdStore } from '@elastic-dns/registry-store/etcd';
import { startLab, type Lab, type LabNode } from '@elastic-dns/testkit/lab';
import type { SpawnedProcess } from '@elastic-dns/testkit/processes';
import { spawnEtcd, spawnNats, type TestServer } from '@elastic-dns/testkit/servers';
import { waitUntil } from '@elastic-dns/testkit/wait';

const BUNDLE = fileURLToPath(new URL('../../dist/elastic-dns.mjs', import.meta.url));

/** Name -> addresses, sorted. */
export type Names = Record<string, string[]>;

export interface Member {
  readonly node: LabNode;
  agent: SpawnedProcess;
  watcher: SpawnedProcess;
}

export interface Cluster {
  readonly lab: Lab;
  readonly etcd: TestServer;
  readonly nats: TestServer;
  /** The store as the test itself reaches it. */
  readonly store: EtcdStore;
  readonly members: readonly Member[];
  /** The registrars by their names. */
  readonly registrars: Map<string, SpawnedProcess>;
  startAgent(node: LabNode): Promise<SpawnedProcess>;
  startWatcher(node: LabNode): Promise<SpawnedProcess>;
  startRegistrar(name: string): Promise<SpawnedProcess>;
  /** Runs a command of the CLI in the control namespace. */
  cli(...argv: string[]): Promise<{ stdout: string; stderr: string; exitCode: number | null }>;
  /** Waits until every hosts file says what runs (L1); rejects with the first file that does not. */
  converge(namespaces: readonly string[], timeoutMs?: number): Promise<void>;
  stop(): Promise<void>;
}

export async function startCluster(): Promise<Cluster> {
  const lab = await startLab({ nodes: 3 });
  try {
    const { netns, address: host } = lab.control;
    const [etcd, nats] = await Promise.all([
      spawnEtcd({ netns, host, port: 2379 }),
      spawnNats({ netns, host, port: 4222 }),
    ]);
    return await assemble(lab, etcd, nats);
  } catch (error) {
    await lab.stop();
    throw error;
  }
}

async function assemble(lab: Lab, etcd: TestServer, nats: TestServer): Promise<Cluster> {
  const environment = (dataDir: string, extra: Record<string, string> = {}): Record<string, string> => ({
    ELASTIC_DNS_DATA_DIR: dataDir,
    ELASTIC_DNS_LOG_KIND: 'nats',
    ELASTIC_DNS_LOG_NATS_SERVERS: nats.url,
    ELASTIC_DNS_STORE_KIND: 'etcd',
    ELASTIC_DNS_STORE_ETCD_ENDPOINTS: etcd.url,
    ELASTIC_DNS_REGISTRAR_LEASE_TTL: '2s',
    ELASTIC_DNS_HTTP_PORT: 'off',
    ...extra,
  });
  const onNode = (node: LabNode): Record<string, string> =>
    environment(path.join(node.dir, 'data'), {
      ELASTIC_DNS_NODE_NAME: node.name,
      ELASTIC_DNS_NODE_IPV4: node.address,
      ELASTIC_DNS_ENGINE_HOST: `unix://${node.socket}`,
      ELASTIC_DNS_WATCHER_NODE_HOSTS: path.join(node.dir, 'hosts'),
    });
  const argv = (...words: string[]): string[] => [process.execPath, BUNDLE, ...words];
  const startAgent = (node: LabNode): Promise<SpawnedProcess> =>
    lab.spawn(node, argv('agent'), { name: `agent-${node.name}`, env: onNode(node) });
  const startWatcher = (node: LabNode): Promise<SpawnedProcess> =>
    lab.spawn(node, argv('watcher'), { name: `watcher-${node.name}`, env: onNode(node) });
  const startRegistrar = (name: string): Promise<SpawnedProcess> =>
    lab.spawn(lab.control, argv('registrar'), {
      name,
      env: environment(path.join(lab.run.dir, name), { ELASTIC_DNS_NODE_NAME: name }),
    });

  const proxy = await lab.reach(lab.control, etcd);
  const store = new EtcdStore({ endpoints: [`http://${proxy.host}:${proxy.port}`] });
  const registrars = new Map<string, SpawnedProcess>();
  for (const name of ['r1', 'r2']) registrars.set(name, await startRegistrar(name));
  const members = await Promise.all(
    lab.nodes.map(async (node) => ({
      node,
      agent: await startAgent(node),
      watcher: await startWatcher(node),
    })),
  );
  return {
    lab,
    etcd,
    nats,
    store,
    members,
    registrars,
    startAgent,
    startWatcher,
    startRegistrar,
    cli: (...words) =>
      lab.execute(lab.control, argv(...words), {
        name: 'cli',
        env: environment(path.join(lab.run.dir, 'cli')),
      }),
    converge: (namespaces, timeoutMs = 20_000) => converge(members, namespaces, timeoutMs),
    stop: async () => {
      const processes = [
        ...members.flatMap(({ agent, watcher }) => [agent, watcher]),
        ...registrars.values(),
      ];
      await Promise.all(processes.map((each) => each.stop()));
      await store.close();
      await Promise.all([etcd.remove(), nats.remove()]);
      await lab.stop();
    },
  };
}

/** One running container, as the engine tells of it. */
interface Running {
  id: string;
  node: LabNode;
  namespace: string;
  service: string;
  address: string;
  isReady: boolean;
}

interface Inspected {
  Id: string;
  Config: { Labels: Record<string, string> | null };
  State: { Running: boolean; Paused: boolean; Health?: { Status: string } };
  HostConfig: { NetworkMode: string };
  NetworkSettings: { Networks: Record<string, { IPAddress: string }> };
}

/** Every running container of the cluster that has Compose's labels. */
export async function inspectAll(nodes: readonly LabNode[]): Promise<Running[]> {
  const lists = await Promise.all(
    nodes.map(async (node) => {
      const ids = (await node.docker.command(['ps', '--quiet', '--no-trunc']))
        .split('\n')
        .filter((id) => id !== '');
      if (ids.length === 0) return [];
      const all = JSON.parse(await node.docker.command(['inspect', ...ids])) as Inspected[];
      return all.flatMap((container): Running[] => {
        const labels = container.Config.Labels ?? {};
        const namespace = labels['com.docker.compose.project'];
        const service = labels['com.docker.compose.service'];
        const [network] = Object.values(container.NetworkSettings.Networks);
        const address = container.HostConfig.NetworkMode === 'host' ? node.address : network?.IPAddress;
        if (namespace === undefined || service === undefined || address === undefined || address === '')
          return [];
        const { Running: runs, Paused: paused, Health: health } = container.State;
        const isReady = runs && !paused && (health === undefined || health.Status === 'healthy');
        return [{ id: container.Id, node, namespace, service, address, isReady }];
      });
    }),
  );
  return lists.flat();
}

/** What a caller of that namespace (null: the node) has to see. */
export function expectedNames(running: readonly Running[], caller: string | null): Names {
  const names: Names = {};
  for (const { namespace, service, address, isReady } of running) {
    if (!isReady) continue;
    const own = namespace === caller ? [service] : [];
    for (const name of [...own, `${service}.${namespace}`])
      names[name] = [...(names[name] ?? []), address].toSorted();
  }
  return names;
}

/** What a hosts file says, without what it says of the machine itself (a container of the host network has those lines). */
export function readNames(text: string): Names {
  const names: Names = {};
  for (const line of text.split('\n')) {
    const [address = '', ...words] = (line.split('#')[0] ?? '').trim().split(/\s+/);
    if (/^127\.|^::1$|^f[ef]0/.test(address)) continue;
    for (const name of words) {
      names[name] = [...(names[name] ?? []), address].toSorted();
    }
  }
  return names;
}

async function converge(
  members: readonly Member[],
  namespaces: readonly string[],
  timeoutMs: number,
): Promise<void> {
  const nodes = members.map(({ node }) => node);
  await waitUntil(
    async () => {
      const running = await inspectAll(nodes);
      for (const { node } of members) {
        const hostsDir = path.join(node.dir, 'data', 'hosts');
        for (const namespace of namespaces) {
          compare(
            `${node.name} hosts/${namespace}`,
            readText(path.join(hostsDir, namespace)),
            expectedNames(running, namespace),
          );
        }
        compare(`${node.name} hosts`, readText(path.join(node.dir, 'hosts')), expectedNames(running, null));
      }
      await Promise.all(
        running.map(async ({ id, node, namespace, service }) => {
          const text = (await node.docker.exec(id, ['cat', '/etc/hosts'])).stdout;
          // The engine's own line: the container's address and host name, which is the start of its id here.
          const foreign = new RegExp(`^.*\\s${id.slice(0, 12)}$`, 'gm');
          compare(
            `${node.name} ${service}.${namespace} ${id.slice(0, 12)}`,
            text.replace(foreign, ''),
            expectedNames(running, namespace),
          );
        }),
      );
      return true;
    },
    { what: 'every hosts file to say what runs', timeoutMs, intervalMs: 50 },
  );
}

function compare(what: string, text: string, expected: Names): void {
  const [found, wanted] = [sorted(readNames(text)), sorted(expected)];
  if (found !== wanted) throw new Error(`${what} says ${found}, not ${wanted}`);
}

function sorted(names: Names): string {
  return JSON.stringify(Object.fromEntries(Object.entries(names).toSorted(([a], [b]) => (a < b ? -1 : 1))));
}

/** Empty where the file is not there: an absent file says nothing. */
function readText(file: string): string {
  const folder = path.dirname(file);
  try {
    return readdirSync(folder).includes(path.basename(file)) ? readFileSync(file, 'utf8') : '';
  } catch {
    return '';
  }
}
