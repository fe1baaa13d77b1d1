/** Workloads and what is to be seen from inside of them; for the tests on whole clusters. */
import type { LabNode } from '@elastic-dns/testkit/lab';
import { readNames, type Cluster, type Names } from './cluster.ts';

export const FRONT = 'web-front-end';
export const BACK = 'backoffice-workers';

export interface More {
  healthCheck?: { command: string; intervalMs?: number };
  command?: string[];
  network?: string;
}

/** How Compose labels a container. */
export function composeLabels(namespace: string, service: string): Record<string, string> {
  return { 'com.docker.compose.project': namespace, 'com.docker.compose.service': service };
}

/** Starts containers as Compose would; each serves its own host name on port 3000. */
export function makeRun({
  lab,
}: Cluster): (node: LabNode, namespace: string, service: string, more?: More) => Promise<string> {
  return (node, namespace, service, more = {}) =>
    node.docker.run({ image: lab.image, ...more, labels: composeLabels(namespace, service) });
}

/** Asks, from inside a container, who serves that name on port 3000: the host name of whoever answers, and whom it met. */
export async function meet(
  node: LabNode,
  container: string,
  name: string,
): Promise<{ host: string; met: string }> {
  const argv = ['timeout', '3', 'wget', '-q', '-O', '-', `http://${name}:3000/cgi-bin/who`];
  const { stdout, stderr, exitCode } = await node.docker.exec(container, argv);
  if (exitCode !== 0) throw new Error(`asking ${name} ended with ${exitCode}: ${stderr}`);
  const [, host = '', met = ''] = /^(\S+) met (\S+)/.exec(stdout) ?? [];
  return { host, met };
}

/** The host name of whoever answers. */
export async function ask(node: LabNode, container: string, name: string): Promise<string> {
  return (await meet(node, container, name)).host;
}

/** A container's host name, unless it was given one. */
export function short(id: string): string {
  return id.slice(0, 12);
}

export async function fileOf(node: LabNode, container: string): Promise<string> {
  return (await node.docker.exec(container, ['cat', '/etc/hosts'])).stdout;
}

export async function namesOf(node: LabNode, container: string): Promise<Names> {
  return readNames(await fileOf(node, container));
}

export async function namesIn(node: LabNode, container: string): Promise<string[]> {
  return Object.keys(await namesOf(node, container));
}
