/**
 * Several servers on one machine: each node has a network namespace and a container engine of its own, and containers
 * of different nodes reach each other directly, under their own addresses. Called by tests of kind `e2e` and by tests
 * that need an engine with networks. Needs root.
 *
 *   const lab = await startLab({ nodes: 3 });
 *   const [n1, n2] = lab.nodes;
 *   const id = await n1.docker.run({ image: lab.image, command: ['httpd', '-f', '-p', '3000'] });
 *   const agent = await lab.spawn(n1, [process.execPath, 'main.ts'], { env: {...} });
 *   const etcd = await spawnEtcd({ netns: lab.control.netns, host: lab.control.address, port: 2379 });
 *   const proxy = await lab.reach(lab.control, etcd);      // for a client in the test itself
 *   await lab.cut(n2); ...; await lab.heal(n2);
 *   await lab.stop();
 */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Docker } from './docker.ts';
import { startEngine, type Engine } from './engine-host.ts';
import { startFaultProxy, type FaultProxy } from './fault-proxy.ts';
import { ensureImage } from './images.ts';
import { CONTROL_ADDRESS, LabNetwork, planNode, type LabMember, type NodePlan } from './lab-network.ts';
import {
  runProcess,
  spawnProcess,
  type Output,
  type SpawnedProcess,
  type SpawnOptions,
} from './processes.ts';
import { createRun, removeRun, sweepDeadRuns, type Run } from './run.ts';
import { waitUntil } from './wait.ts';

export type { LabMember } from './lab-network.ts';

export interface LabOptions {
  /** How many, 1 to 9; they are called `n1`, `n2`, ... */
  nodes: number;
  /** Further words for every node's dockerd, such as `--live-restore`. */
  engineFlags?: readonly string[];
}

export interface LabNode extends LabMember {
  readonly engine: Engine;
  /** Path of the engine's socket, to be used from anywhere on this machine. */
  readonly socket: string;
  readonly docker: Docker;
  /** A folder of the node's own, for data and for its hosts file. */
  readonly dir: string;
  /** Holds the address of every container of the node. */
  readonly subnet: string;
  /** A bridge network such as Compose makes, whose containers all other nodes reach; gives its name back. */
  createNetwork(name: string, labels?: Record<string, string>): Promise<string>;
}

export interface Lab {
  readonly run: Run;
  readonly nodes: readonly LabNode[];
  /** Where etcd, NATS, registrars and operators live; it has no engine. */
  readonly control: LabMember;
  /** The image `app` (see images), present on every node. */
  readonly image: string;
  /** Throws when there is no such node. */
  node(name: string): LabNode;
  /** Takes a member off the network; its containers still reach each other. */
  cut(member: LabMember): Promise<void>;
  heal(member: LabMember): Promise<void>;
  /** Starts a program in the member's network namespace; the lab ends it at the latest. */
  spawn(member: LabMember, argv: readonly string[], options?: SpawnOptions): Promise<SpawnedProcess>;
  /** Runs a program to its end there; a non-zero exit code is an answer. */
  execute(member: LabMember, argv: readonly string[], options?: SpawnOptions): Promise<Output>;
  /** A way from this process to what listens at an address that the member can reach: on loopback, and breakable. */
  reach(member: LabMember, target: { host: string; port: number }): Promise<FaultProxy>;
  /** A breakable way between members: what connects to `port` of `from` ends at the target, as seen by `to`. */
  link(
    from: { member: LabMember; port: number },
    to: { member: LabMember; host: string; port: number },
  ): Promise<FaultProxy>;
  /** Ends and removes everything of the lab. Safe to repeat. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts the nodes side by side; about as fast as one. Sweeps what crashed runs have left, first. */
export async function startLab(options: LabOptions): Promise<Lab> {
  await sweepDeadRuns();
  const run = createRun();
  try {
    const plans = Array.from({ length: options.nodes }, (_, i) => planNode(i + 1));
    const network = new LabNetwork(run);
    const members = await network.build(plans);
    const nodes = await Promise.all(plans.map((plan) => startNode(run, plan, members, options)));
    const [image = ''] = await Promise.all(nodes.map((node) => ensureImage(node.docker, 'app')));
    return labOf(run, network, memberOf(members, 'control'), nodes, image);
  } catch (error) {
    await removeRun(run);
    throw error;
  }
}

function labOf(
  run: Run,
  network: LabNetwork,
  control: LabMember,
  nodes: readonly LabNode[],
  image: string,
): Lab {
  const proxies: FaultProxy[] = [];
  let relays = 0;

  /** A relay in the member's namespace; resolves when it listens, with how to end it. */
  const relay = async (member: LabMember, from: string, to: string): Promise<() => Promise<unknown>> => {
    const program = fileURLToPath(new URL('relay.ts', import.meta.url));
    const argv = [process.execPath, program, from, to];
    const child = await spawnProcess(run, argv, { name: 'relay', netns: member.netns });
    await waitUntil(() => child.stdout().includes('listening'), {
      what: `the relay from ${from} to ${to} to listen`,
      unless: () => (child.state() === 'gone' ? child.stderr() : undefined),
    });
    return () => child.kill();
  };
  const socketPath = (): string => path.join(run.dir, `r${++relays}.sock`);
  const spawn: Lab['spawn'] = (member, argv, spawning) =>
    spawnProcess(run, argv, { ...spawning, netns: member.netns });

  const stop = async (): Promise<void> => {
    await Promise.all(proxies.splice(0).map((proxy) => proxy.close()));
    await Promise.all(nodes.map((node) => node.engine.remove()));
    await removeRun(run);
  };

  return {
    run,
    nodes,
    control,
    image,
    node(name) {
      const found = nodes.find((node) => node.name === name);
      if (found === undefined) throw new Error(`the lab has no node ${name}`);
      return found;
    },
    cut: (member) => network.setLink(member.name, 'down'),
    heal: (member) => network.setLink(member.name, 'up'),
    spawn,
    execute: (member, argv, spawning) => runProcess(run, argv, { ...spawning, netns: member.netns }),
    async reach(member, target) {
      const socket = socketPath();
      const end = await relay(member, socket, `${target.host}:${target.port}`);
      const proxy = await startFaultProxy({ path: socket }, undefined, async () => void (await end()));
      proxies.push(proxy);
      return proxy;
    },
    async link(from, to) {
      const [near, far] = [socketPath(), socketPath()];
      const ends = [
        await relay(to.member, far, `${to.host}:${to.port}`),
        await relay(from.member, `${from.member.address}:${from.port}`, near),
      ];
      const proxy = await startFaultProxy({ path: far }, { path: near }, async () => {
        await Promise.all(ends.map((end) => end()));
      });
      proxies.push(proxy);
      return proxy;
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function startNode(
  run: Run,
  plan: NodePlan,
  members: ReadonlyMap<string, LabMember>,
  options: LabOptions,
): Promise<LabNode> {
  const member = memberOf(members, plan.name);
  const { bridgeAddress, addressPool } = plan;
  const engine = await startEngine({
    run,
    name: plan.name,
    network: { netns: member.netns, bridgeAddress, addressPool },
    // Nothing listens there: a name that no hosts file has is refused at once instead of timing out.
    flags: [`--dns=${CONTROL_ADDRESS}`, ...(options.engineFlags ?? [])],
  });
  const dir = path.join(run.dir, `${plan.name}-data`);
  mkdirSync(dir);
  return {
    ...member,
    engine,
    socket: engine.socket,
    docker: engine.docker,
    dir,
    subnet: plan.subnet,
    async createNetwork(name, labels = {}) {
      const argv = ['network', 'create', '--opt', 'com.docker.network.bridge.enable_ip_masquerade=false'];
      for (const [key, value] of Object.entries(labels)) argv.push('--label', `${key}=${value}`);
      await engine.docker.command([...argv, name]);
      return name;
    },
  };
}

function memberOf(members: ReadonlyMap<string, LabMember>, name: string): LabMember {
  const member = members.get(name);
  if (member === undefined) throw new Error(`the lab has no member ${name}`);
  return member;
}
