/**
 * NATS and etcd as deploy/ sets them up, with files made as docs/deploy.md says: for the tests of what each role may do, and for
 * whole clusters under those rules.
 */
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { reservePort } from '@elastic-dns/testkit/ports';
import { runProcess, spawnProcess } from '@elastic-dns/testkit/processes';
import { createRun, removeRun } from '@elastic-dns/testkit/run';
import { waitUntil } from '@elastic-dns/testkit/wait';

export const DEPLOY = fileURLToPath(new URL('../../deploy/', import.meta.url));

/** Where a server listens; default: a free port of this machine's loopback. */
export interface Place {
  netns: string;
  host: string;
  port: number;
}

export interface Guarded {
  readonly url: string;
  /** Where its files lie. */
  readonly folder: string;
  readonly pid: number;
  /** Ends it and deletes its files and data. */
  remove(): Promise<void>;
}

/** Of a user of the test's NATS or etcd. */
export function passwordOf(user: string): string {
  return `${user}-0123456789abcdef`;
}

/** `passwords.conf` of NATS, for the users that nats.conf names. */
export function writeNatsPasswords(folder: string): void {
  const conf = readFileSync(path.join(folder, 'nats.conf'), 'utf8');
  const users = [...conf.matchAll(/password: \$(\S+)_password/g)].map(([, user = '']) => user);
  const lines = users.map((user) => `${user}_password: "${passwordOf(user)}"\n`);
  writeFileSync(path.join(folder, 'passwords.conf'), lines.join(''), { mode: 0o600 });
}

/** NATS with deploy/nats/nats.conf: users registrar and reader, nodes n1, n2 and n3. */
export function startGuardedNats(place?: Place): Promise<Guarded> {
  return startServer(place, /Server is ready/, ({ host, port }, folder) => {
    const config = path.join(folder, 'nats.conf');
    copyFileSync(path.join(DEPLOY, 'nats/nats.conf'), config);
    writeNatsPasswords(folder);
    const here = `listen: "${host}:${port}"\nserver_name: n1\njetstream { store_dir: "${folder}/data" }\n`;
    writeFileSync(path.join(folder, 'here.conf'), here);
    return { url: `nats://${host}:${port}`, argv: ['nats-server', '-c', config] };
  });
}

/** etcd with deploy/etcd/etcd.conf.yml; `makeEtcdRoles` gives it its users. */
export function startGuardedEtcd(place?: Place): Promise<Guarded> {
  return startServer(place, /serving (insecure )?client (requests|traffic)/, (here, folder) => {
    const config = path.join(folder, 'etcd.conf.yml');
    writeFileSync(config, fitEtcdConfig({ ...here, dataDir: path.join(folder, 'data') }));
    return { url: `http://${here.host}:${here.port}`, argv: ['etcd', '--config-file', config] };
  });
}

/** What somebody does to the file on their server: its addresses and its folder, and nothing else. */
function fitEtcdConfig(here: { host: string; port: number; peerPort: number; dataDir: string }): string {
  const peer = `http://${here.host}:${here.peerPort}`;
  return readFileSync(path.join(DEPLOY, 'etcd/etcd.conf.yml'), 'utf8')
    .replace(/^initial-cluster: .*$/m, `initial-cluster: n1=${peer}`)
    .replace(/^data-dir: .*$/m, `data-dir: ${here.dataDir}`)
    .replace(',http://127.0.0.1:2379', '')
    .replaceAll('http://10.0.0.1:2379', `http://${here.host}:${here.port}`)
    .replaceAll('http://10.0.0.1:2380', peer);
}

async function startServer(
  place: Place | undefined,
  ready: RegExp,
  prepare: (
    here: { host: string; port: number; peerPort: number },
    folder: string,
  ) => { url: string; argv: readonly string[] },
): Promise<Guarded> {
  const run = createRun();
  const reserved = [await reservePort(), await reservePort()];
  const remove = async (): Promise<void> => {
    await removeRun(run);
    for (const port of reserved.splice(0)) await port.release();
  };
  try {
    const [port = 0, peerPort = 0] = reserved.map((each) => each.port);
    const { url, argv } = prepare({ host: '127.0.0.1', port, ...place, peerPort }, run.dir);
    const options = { name: argv[0] ?? '', ...(place ? { netns: place.netns } : {}) };
    const server = await spawnProcess(run, argv, options);
    await waitUntil(() => ready.test(server.stderr()), {
      what: `${url} to be ready`,
      timeoutMs: 30_000,
      unless: () => (server.state() === 'gone' ? server.stderr() : undefined),
    });
    const stop = async (): Promise<void> => {
      await server.stop();
      await remove();
    };
    return { url, folder: run.dir, pid: server.pid, remove: stop };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** Runs deploy/etcd/roles.sh with the machine's etcdctl if it has one, else with etcdctl.ts. Rejects when it fails. */
export async function makeEtcdRoles(
  etcd: Pick<Guarded, 'url'>,
  { passwords = passwordOf, netns }: { passwords?: (user: string) => string; netns?: string } = {},
): Promise<void> {
  const run = createRun();
  try {
    for (const user of ['root', 'registrar', 'watcher'])
      writeFileSync(path.join(run.dir, user), `${passwords(user)}\n`);
    const bin = path.join(run.dir, 'bin');
    mkdirSync(bin);
    const standIn = fileURLToPath(new URL('etcdctl.ts', import.meta.url));
    writeFileSync(path.join(bin, 'etcdctl'), `#!/bin/sh\nexec '${process.execPath}' '${standIn}' "$@"\n`);
    chmodSync(path.join(bin, 'etcdctl'), 0o755);
    const env = { PATH: `${process.env['PATH']}:${bin}`, ETCDCTL_ENDPOINTS: etcd.url };
    const where = netns === undefined ? {} : { netns };
    // A dozen short programs, each of which takes seconds on a machine that is busy.
    const argv = ['sh', path.join(DEPLOY, 'etcd/roles.sh'), run.dir];
    const { stderr, exitCode } = await runProcess(run, argv, { env, ...where, timeoutMs: 120_000 });
    if (exitCode !== 0) throw new Error(`roles.sh ended with ${exitCode}: ${stderr}`);
  } finally {
    await removeRun(run);
  }
}
