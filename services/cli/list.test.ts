import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openDataDir } from '@elastic-dns/runtime';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fillDataDir, runCli, type Outcome } from './fixture.ts';

checkLeaks();

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'elastic-dns-list-'));
  await fillDataDir(folder);
});
afterAll(() => rmSync(folder, { recursive: true }));

const list = (...argv: string[]): Promise<Outcome> => runCli(['list', ...argv, '--data-dir', folder]);

async function listJson(...argv: string[]): Promise<Record<string, unknown>[]> {
  const { stdout, code } = await list(...argv, '--json');
  expect(code).toBe(0);
  return JSON.parse(stdout) as Record<string, unknown>[];
}

describe('for people', () => {
  test('lists services unless told otherwise', async () => {
    expect(await list()).toEqual({
      code: 0,
      stderr: '',
      stdout: `NAMESPACE      SERVICE    READY  ADDRESSES
backoffice     scheduler  1/1    10.0.98.4
backoffice     web        0/1    -
web-front-end  api        2/3    10.0.97.1 10.0.98.2
`,
    });
  });

  test('lists namespaces', async () => {
    expect((await list('namespaces')).stdout).toBe(`NAMESPACE      SERVICES  READY
backoffice     2         1/2
web-front-end  1         2/3
`);
  });

  test('lists instances in every state, and marks the ones with a warning', async () => {
    const { stdout } = await list('instances');
    expect(stdout).toMatch(
      /backoffice +scheduler +node-b-000000000004 +ready ! +10\.0\.98\.4 +node-b +- +scheduler-4/,
    );
    expect(stdout).toMatch(/backoffice +web +node-a-000000000005 +unready +/);
    expect(stdout).toMatch(/web-front-end +api +node-b-000000000002 +ready +10\.0\.98\.2 +node-b +v7 +api-2/);
    expect(stdout).not.toContain('000000000006');
  });

  test('lists nodes with how long ago they were last heard of', async () => {
    expect((await list('nodes')).stdout).toBe(`NODE    ZONE  ADDRESS    INSTANCES  REFUSED  LAST EVENT
node-a  west  192.0.2.1  2          1        99s ago
node-b  -     -          3          0        99s ago
`);
  });

  test('lists refused containers with the reason', async () => {
    expect((await list('refused')).stdout).toMatch(/node-a +evil +service "a b" is not a name\n$/);
  });

  test('lists events that were set aside, without obeying what is in them', async () => {
    const { stdout } = await list('set-aside');
    expect(stdout).toMatch(/^10 +[-\dT:.]+Z +node-b +malformed +is not JSON: /m);
    expect(stdout).toMatch(/^[\n\x20-\x7e]*$/);
  });

  test('says so when there is nothing to list, which is no failure', async () => {
    expect(await list('instances', '--namespace', 'nowhere')).toEqual({
      code: 0,
      stdout: '',
      stderr: 'elastic-dns: no instances\n',
    });
  });
});

describe('for programs', () => {
  test('gives an instance with all that is known of it', async () => {
    const [instance] = await listJson('instances', '--service', 'scheduler');
    expect(instance).toEqual({
      id: 'node-b-000000000004',
      namespace: 'backoffice',
      service: 'scheduler',
      version: null,
      state: 'ready',
      ipv4: '10.0.98.4',
      ipv6: null,
      network: 'bridge',
      ports: [{ port: 3000, protocol: 'tcp', published: null }],
      container: 'scheduler-4',
      application: null,
      startedAtMs: 4000,
      policy: {},
      warnings: ['two networks'],
      node: 'node-b',
      answers: true,
      event: 'node-b/1/5',
      logSequence: 5,
    });
  });

  test('gives each other kind as an array of objects', async () => {
    expect(await listJson('namespaces')).toContainEqual({
      namespace: 'backoffice',
      services: 2,
      instances: 2,
      ready: 1,
    });
    expect(await listJson('services')).toContainEqual({
      namespace: 'web-front-end',
      service: 'api',
      name: 'api.web-front-end',
      instances: 3,
      ready: 2,
      addresses: ['10.0.97.1', '10.0.98.2'],
    });
    expect(await listJson('nodes')).toContainEqual({
      node: 'node-a',
      zone: 'west',
      ipv4: '192.0.2.1',
      ipv6: null,
      instances: 2,
      refused: 1,
      epoch: 1,
      sequence: 9,
      observedAtMs: 1_700_000_000_009,
    });
    expect(await listJson('refused')).toEqual([
      {
        id: 'node-a-000000000007',
        node: 'node-a',
        container: 'evil',
        reason: 'service "a b" is not a name',
        event: 'node-a/1/8',
      },
    ]);
    expect(await listJson('set-aside')).toEqual([
      {
        logSequence: 10,
        publisher: 'node-b',
        code: 'malformed',
        reason: expect.stringContaining('is not JSON') as string,
        atMs: expect.any(Number) as number,
      },
    ]);
  });

  test('gives an empty array when there is nothing', async () => {
    expect(await listJson('services', '--namespace', 'nowhere')).toEqual([]);
  });
});

describe('filters', () => {
  const ids = async (...argv: string[]): Promise<string[]> =>
    (await listJson('instances', ...argv)).map(({ id }) => String(id).slice(-1));

  test('narrow the list, together more than one alone', async () => {
    expect(await ids()).toEqual(['4', '5', '1', '2', '3']);
    expect(await ids('--namespace', 'web-front-end')).toEqual(['1', '2', '3']);
    expect(await ids('--namespace', 'web-front-end', '--node', 'node-b')).toEqual(['2', '3']);
    expect(await ids('--state', 'starting')).toEqual(['3']);
    expect(await ids('--service', 'web')).toEqual(['5']);
  });

  test('take names as people write them', async () => {
    expect(await ids('--service', 'WEB')).toEqual(['5']);
  });

  test('are refused where they would say nothing, or are no name', async () => {
    const { code, stderr } = await list('nodes', '--service', 'api');
    expect([code, stderr]).toEqual([
      2,
      'elastic-dns: `list nodes` has no --service; it has --node (INVALID_INPUT)\n',
    ]);
    expect((await list('services', '--namespace', 'a b')).code).toBe(2);
    expect((await list('instances', '--state', 'dead')).code).toBe(2);
    expect((await list('dogs')).code).toBe(2);
  });
});

describe('the data folder', () => {
  test('is read while another process has it', async () => {
    const dataDir = openDataDir(folder);
    try {
      expect((await list()).code).toBe(0);
    } finally {
      dataDir.release();
    }
  });

  test('is left as it is when nothing has run there, and that is said', async () => {
    const empty = mkdtempSync(join(tmpdir(), 'elastic-dns-empty-'));
    try {
      const outcome = await runCli(['list', '--data-dir', empty]);
      expect(outcome.code).toBe(4);
      expect(outcome.stderr).toContain(`nothing has run in ${empty} yet`);
      expect(readdirSync(empty)).toEqual([]);
    } finally {
      rmSync(empty, { recursive: true });
    }
  });
});

test('is out of reach, with exit code 4, when etcd is', async () => {
  const { code, stderr } = await runCli(['list', '--json'], {
    ELASTIC_DNS_STORE_KIND: 'etcd',
    ELASTIC_DNS_STORE_ETCD_ENDPOINTS: 'http://127.0.0.1:1',
  });
  expect(code).toBe(4);
  expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'UNAVAILABLE' } });
});
