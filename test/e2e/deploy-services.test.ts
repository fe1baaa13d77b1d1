/**
 * The services of deploy/systemd: what their units say, and that each role does its work as the user, with the groups and without the
 * capabilities that its unit gives it, on a NATS and an etcd that keep it to its rights.
 */
import { chownSync, copyFileSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { startLab, type Lab, type LabNode } from '@elastic-dns/testkit/lab';
import { runProcess, type SpawnedProcess } from '@elastic-dns/testkit/processes';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  DEPLOY,
  makeEtcdRoles,
  passwordOf,
  startGuardedEtcd,
  startGuardedNats,
  type Guarded,
} from './deployment.ts';

const UNITS = ['elastic-dns', 'elastic-dns-agent', 'elastic-dns-registrar', 'elastic-dns-watcher'];
/** Any user that is not root and owns nothing. */
const NOBODY = 65_534;

/** The keys of a unit's [Service] section. */
type Unit = ReadonlyMap<string, string>;

function readUnit(name: string): Unit {
  const text = readFileSync(path.join(DEPLOY, 'systemd', `${name}.service`), 'utf8');
  const [, service = ''] = /^\[Service\]\n([^[]*)/m.exec(text) ?? [];
  return new Map(
    [...service.matchAll(/^([A-Z]\w+)=(.*)$/gm)].map(([, key = '', value = '']) => [key, value]),
  );
}

function get(unit: Unit, key: string): string {
  const value = unit.get(key);
  if (value === undefined) throw new Error(`the unit has no ${key}`);
  return value;
}

const environmentOf = (unit: Unit): Record<string, string> =>
  Object.fromEntries(
    get(unit, 'Environment')
      .split(' ')
      .map((each) => each.split('=') as [string, string]),
  );

/** What stands behind the command's path in ExecStart. */
const wordsOf = (unit: Unit): string[] => get(unit, 'ExecStart').split(' ').slice(1);

let lab: Lab;
let node: LabNode;
let nats: Guarded;
let etcd: Guarded;
/** The program as docs/deploy.md installs it. */
let command: string;

beforeAll(async () => {
  lab = await startLab({ nodes: 1 });
  node = lab.node('n1');
  command = install(path.join(lab.run.dir, 'local'));
  const { netns, address: host } = lab.control;
  [nats, etcd] = await Promise.all([
    startGuardedNats({ netns, host, port: 4222 }),
    startGuardedEtcd({ netns, host, port: 2379 }),
  ]);
  await makeEtcdRoles(etcd, { netns });
});
afterAll(async () => {
  await Promise.all([nats?.remove(), etcd?.remove()]);
  await lab?.stop();
});

function install(prefix: string): string {
  const [bin, lib] = [path.join(prefix, 'bin'), path.join(prefix, 'lib/elastic-dns')];
  for (const folder of [bin, lib]) mkdirSync(folder, { recursive: true });
  copyFileSync(process.execPath, path.join(lib, 'node'));
  const bundle = fileURLToPath(new URL('../../dist/elastic-dns.mjs', import.meta.url));
  copyFileSync(bundle, path.join(lib, 'elastic-dns.mjs'));
  copyFileSync(path.join(DEPLOY, 'elastic-dns'), path.join(bin, 'elastic-dns'));
  return path.join(bin, 'elastic-dns');
}

describe.each(UNITS)('the unit %s', (name) => {
  const unit = readUnit(name);

  test('starts a command that there is, with flags that it knows', async () => {
    expect(get(unit, 'ExecStart')).toMatch(/^\/usr\/local\/bin\/elastic-dns /);
    const [role = '', ...flags] = wordsOf(unit);
    const { exitCode, stdout } = await runProcess(lab.run, [command, role, '--help']);
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`Usage: elastic-dns ${role}`);
    for (const flag of flags.filter((word) => word.startsWith('-'))) expect(stdout).toContain(`  ${flag} `);
  });

  test('sets nothing that is not a setting, and a data folder that systemd makes', async () => {
    const env = { ...environmentOf(unit), ELASTIC_DNS_CONFIG: '/dev/null' };
    const { exitCode, stdout, stderr } = await runProcess(lab.run, [command, 'config', '--json'], { env });
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(JSON.parse(stdout)).toContainEqual(
      expect.objectContaining({ key: 'dataDir', value: '/var/lib/elastic-dns' }),
    );
    const role = wordsOf(unit)[0] ?? '';
    const own = role === 'up' ? 'elastic-dns' : `elastic-dns/${role}`;
    expect(get(unit, 'StateDirectory').split(' ')).toContain(own);
  });

  test('comes back whatever happens, and has no right of root’s that others have not', () => {
    expect(Object.fromEntries(unit)).toMatchObject({
      Restart: 'always',
      CapabilityBoundingSet: '',
      NoNewPrivileges: 'yes',
      ProtectSystem: 'strict',
      SystemCallFilter: '@system-service',
    });
    expect(unit.has('MemoryDenyWriteExecute')).toBe(false);
  });
});

test('every unit is looked at here, and those that run side by side serve their health on different ports', () => {
  const found = readdirSync(path.join(DEPLOY, 'systemd')).map((file) => path.basename(file, '.service'));
  expect(found.toSorted()).toEqual(UNITS);
  const ports = UNITS.slice(1).map((name) => environmentOf(readUnit(name))['ELASTIC_DNS_HTTP_PORT']);
  expect(new Set(ports).size).toBe(3);
});

/** What docs/deploy.md puts into the role's .env file. */
const natsAs = (user: string): Record<string, string> => ({
  ELASTIC_DNS_LOG_NATS_USER: user,
  ELASTIC_DNS_LOG_NATS_PASSWORD: passwordOf(user),
});
const etcdAs = (user: string): Record<string, string> => ({
  ELASTIC_DNS_STORE_ETCD_USERNAME: user,
  ELASTIC_DNS_STORE_ETCD_PASSWORD: passwordOf(user),
});

function settings(dataDir: string): Record<string, string> {
  return {
    ELASTIC_DNS_CONFIG: '/dev/null',
    ELASTIC_DNS_DATA_DIR: dataDir,
    ELASTIC_DNS_HTTP_PORT: 'off',
    ELASTIC_DNS_NODE_NAME: 'n1',
    ELASTIC_DNS_ENGINE_HOST: `unix://${node.socket}`,
    ELASTIC_DNS_LOG_KIND: 'nats',
    ELASTIC_DNS_LOG_NATS_SERVERS: nats.url,
    ELASTIC_DNS_STORE_KIND: 'etcd',
    ELASTIC_DNS_STORE_ETCD_ENDPOINTS: etcd.url,
  };
}

/** Starts the role as its unit would: the same words, user, groups and capabilities. */
async function start(
  role: 'agent' | 'registrar' | 'watcher',
  env: Record<string, string>,
): Promise<SpawnedProcess> {
  const unit = readUnit(`elastic-dns-${role}`);
  const dataDir = path.join(lab.run.dir, `data-${role}`);
  mkdirSync(path.join(dataDir, role), { recursive: true });
  const rights = ['setpriv', '--no-new-privs', '--bounding-set=-all', '--inh-caps=-all'];
  if (unit.has('User')) {
    chownSync(path.join(dataDir, role), NOBODY, NOBODY);
    const groups = unit.get('SupplementaryGroups') === 'docker' ? [statSync(node.socket).gid] : [];
    rights.push(`--reuid=${NOBODY}`, `--regid=${NOBODY}`);
    rights.push(groups.length > 0 ? `--groups=${groups.join()}` : '--clear-groups');
  }
  const member = role === 'registrar' ? lab.control : node;
  const argv = [...rights, command, ...wordsOf(unit)];
  return lab.spawn(member, argv, { name: role, env: { ...settings(dataDir), ...env } });
}

describe('a fleet whose roles have what their units give them, and no more', () => {
  let roles: SpawnedProcess[] = [];
  afterAll(async () => {
    await Promise.all(roles.map((role) => role.stop()));
  });

  test('does its work: a container finds another by its name', async () => {
    roles = await Promise.all([
      start('registrar', { ...natsAs('registrar'), ...etcdAs('registrar') }),
      start('agent', natsAs('n1')),
      start('watcher', etcdAs('watcher')),
    ]);
    const labels = { 'com.docker.compose.project': 'shop' };
    const web = await node.docker.run({
      image: lab.image,
      labels: { ...labels, 'com.docker.compose.service': 'web' },
    });
    const api = await node.docker.run({
      image: lab.image,
      labels: { ...labels, 'com.docker.compose.service': 'api' },
    });
    const found = await waitUntil(
      async () => (await node.docker.exec(web, ['getent', 'hosts', 'api'])).stdout,
      {
        what: 'web to find api',
        timeoutMs: 30_000,
        unless: () => roles.find((role) => role.state() === 'gone')?.stderr(),
      },
    );
    const address = (await node.docker.inspect(api)).NetworkSettings.Networks['bridge']?.IPAddress;
    expect(found.split(/\s/)[0]).toBe(address);
  });

  test('runs without a single capability, and only the watcher as root', () => {
    const rights = roles.map(({ pid }) => {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      return [/^Uid:\s+(\d+)/m, /^CapEff:\s+(\w+)/m, /^CapBnd:\s+(\w+)/m].map(
        (each) => each.exec(status)?.[1],
      );
    });
    const none = '0'.repeat(16);
    expect(rights).toEqual(['65534', '65534', '0'].map((uid) => [uid, none, none]));
  });

  test('lets an operator look', async () => {
    const env = { ...settings(path.join(lab.run.dir, 'none')), ...natsAs('reader'), ...etcdAs('watcher') };
    const listed = await lab.execute(lab.control, [command, 'list'], { env });
    expect(listed.stdout).toMatch(/^shop +api +1\/1/m);
    const told = await lab.execute(lab.control, [command, 'events'], { env });
    expect(told.stdout).toMatch(/ n1 +node\.snapshot /);
  });

  test('ends an agent that calls itself by another node’s name, and has nothing of what it said', async () => {
    const env = { ...natsAs('n1'), ELASTIC_DNS_NODE_NAME: 'n2' };
    const dataDir = path.join(lab.run.dir, 'data-impostor');
    const impostor = await lab.execute(node, [command, 'agent'], { env: { ...settings(dataDir), ...env } });
    expect(impostor.exitCode).toBe(2);
    expect(impostor.stdout + impostor.stderr).toContain('no permission for elastic-dns.events.n2');
    const reader = { ...settings(dataDir), ...etcdAs('watcher') };
    const { stdout } = await lab.execute(lab.control, [command, 'list', 'nodes', '--json'], { env: reader });
    expect((JSON.parse(stdout) as { node: string }[]).map((each) => each.node)).toEqual(['n1']);
  });
});
