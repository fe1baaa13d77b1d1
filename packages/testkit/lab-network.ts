/**
 * The lab's wires: one network namespace per member, joined by a bridge in a namespace of its own, so that nothing of
 * it is seen on the host. Called by lab alone.
 *
 *   10.77.0.0/24   the members: control .2, node i .10+i
 *   10.(100+i).0.0/16   the containers of node i: default bridge .0.0/24, further networks a /24 each from .128.0 on
 *
 * The plan is the same for every lab: two labs never meet, since no namespace of one has a way to the other's.
 */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { namespaceName, type Run } from './run.ts';

const execute = promisify(execFile);

export interface LabMember {
  readonly name: string;
  /** Path of its network namespace. */
  readonly netns: string;
  /** Its address, which every member can reach. */
  readonly address: string;
}

export interface NodePlan {
  name: string;
  address: string;
  /** All containers of the node are in it. */
  subnet: string;
  bridgeAddress: string;
  addressPool: string;
}

export const CONTROL_ADDRESS = '10.77.0.2';
const SWITCH = 'switch';

/** Node `n<i>`, i from 1 to 9. */
export function planNode(i: number): NodePlan {
  return {
    name: `n${i}`,
    address: `10.77.0.${10 + i}`,
    subnet: `10.${100 + i}.0.0/16`,
    bridgeAddress: `10.${100 + i}.0.1/24`,
    addressPool: `10.${100 + i}.128.0/17`,
  };
}

export class LabNetwork {
  readonly #run: Run;

  constructor(run: Run) {
    this.#run = run;
  }

  /** Makes the switch, the control's and the nodes' namespaces, and the routes between all of them. */
  async build(nodes: readonly NodePlan[]): Promise<Map<string, LabMember>> {
    await this.#ip('netns', 'add', this.#namespace(SWITCH));
    await this.#in(SWITCH, 'link', 'add', 'br0', 'type', 'bridge');
    await this.#in(SWITCH, 'link', 'set', 'br0', 'up');
    const members = new Map<string, LabMember>();
    for (const { name, address } of [{ name: 'control', address: CONTROL_ADDRESS }, ...nodes]) {
      await this.#join(name, address);
      members.set(name, { name, address, netns: path.join('/run/netns', this.#namespace(name)) });
    }
    for (const [name, { netns }] of members) {
      for (const other of nodes) {
        if (other.name !== name) await this.#in(name, 'route', 'add', other.subnet, 'via', other.address);
      }
      // The engine sets its own rules below this chain: they would keep the nodes' containers apart.
      if (name !== 'control') await acceptForwarded(netns);
    }
    return members;
  }

  /** Takes the member off the switch, or puts it back. */
  async setLink(member: string, state: 'up' | 'down'): Promise<void> {
    await this.#in(SWITCH, 'link', 'set', portName(member), state);
  }

  async #join(name: string, address: string): Promise<void> {
    const netns = this.#namespace(name);
    const port = portName(name);
    await this.#ip('netns', 'add', netns);
    const peer = ['peer', 'name', port, 'netns', this.#namespace(SWITCH)];
    await this.#ip('link', 'add', 'eth0', 'netns', netns, 'type', 'veth', ...peer);
    await this.#in(SWITCH, 'link', 'set', port, 'master', 'br0');
    await this.#in(SWITCH, 'link', 'set', port, 'up');
    await this.#in(name, 'address', 'add', `${address}/24`, 'dev', 'eth0');
    await this.#in(name, 'link', 'set', 'eth0', 'up');
    await this.#in(name, 'link', 'set', 'lo', 'up');
  }

  async #in(member: string, ...argv: string[]): Promise<void> {
    await this.#ip('-n', this.#namespace(member), ...argv);
  }

  async #ip(...argv: string[]): Promise<void> {
    await execute('ip', argv);
  }

  #namespace(name: string): string {
    return namespaceName(this.#run, name);
  }
}

function portName(member: string): string {
  return `p-${member}`;
}

async function acceptForwarded(netns: string): Promise<void> {
  for (const rule of [
    ['-N', 'DOCKER-USER'],
    ['-A', 'DOCKER-USER', '-j', 'ACCEPT'],
  ]) {
    await execute('nsenter', [`--net=${netns}`, '--', 'iptables', '--wait', ...rule]);
  }
}
