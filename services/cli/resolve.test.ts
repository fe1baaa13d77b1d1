import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sampleContainerId, sampleInstance } from '@elastic-dns/model/samples';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fillDataDir, HAPPENINGS, runCli, type Outcome } from './fixture.ts';

checkLeaks();

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'elastic-dns-resolve-'));
  const api = sampleInstance('node-b', 20, { namespace: 'backoffice', container: 'api-1' });
  await fillDataDir(folder, [...HAPPENINGS, ['node-b', { type: 'instance.ready', data: { instance: api } }]]);
});
afterAll(() => rmSync(folder, { recursive: true }));

const resolve = (...argv: string[]): Promise<Outcome> => runCli(['resolve', ...argv, '--data-dir', folder]);

describe('a caller', () => {
  test('of a namespace gets its own service by the bare name', async () => {
    expect(await resolve('api', '--as', 'web-front-end')).toEqual({
      code: 0,
      stdout: '10.0.97.1\n10.0.98.2\n',
      stderr: '',
    });
    expect((await resolve('api', '--as', 'backoffice')).stdout).toBe('10.0.98.20\n');
  });

  test.each([
    ['its name', 'api-2'],
    ["its instance's id", 'node-b-000000000002'],
    ["the first digits of its container's id", '000000000002'],
    ["its container's whole id", sampleContainerId(2)],
  ])('can be a container, by %s', async (_, as) => {
    expect((await resolve('api', '--as', as)).stdout).toBe('10.0.97.1\n10.0.98.2\n');
  });

  test('can be the node, which asks for service.namespace', async () => {
    expect((await resolve('scheduler.backoffice')).stdout).toBe('10.0.98.4\n');
  });

  test('that is unknown is refused', async () => {
    const { code, stderr } = await resolve('api', '--as', 'web-frontend');
    expect(code).toBe(2);
    expect(stderr).toContain('"web-frontend": the registry has no namespace and no container of that name');
  });

  test('that could be several containers of different namespaces is refused, with their ids', async () => {
    const { code, stderr } = await resolve('api', '--as', 'api-1');
    expect(code).toBe(2);
    expect(stderr).toContain('node-a-000000000001, node-b-000000000014');
  });
});

describe('a name', () => {
  test('that is bare means nothing to a node, and the namespaces that have it are named', async () => {
    const { code, stderr } = await resolve('api');
    expect(code).toBe(2);
    expect(stderr).toContain('ask for api.backoffice or api.web-front-end');
  });

  test.each([
    [['db', '--as', 'backoffice'], 'namespace backoffice has no service db'],
    [['api.nowhere'], 'nothing is known of namespace nowhere'],
    [['web.backoffice'], 'no instance of web.backoffice is ready: scheduler-5 is unready'],
  ])('without an answer is exit code 3 and a reason: %j', async (argv, reason) => {
    expect(await resolve(...argv)).toEqual({
      code: 3,
      stdout: '',
      stderr: `elastic-dns: no answer: ${reason}\n`,
    });
  });

  test('that cannot be one is wrong usage', async () => {
    const { code, stderr } = await resolve('a.b.c');
    expect(code).toBe(2);
    expect(stderr).toContain('"a.b.c" has 3 parts');
  });
});

describe('for programs', () => {
  test('gives question, caller and answer', async () => {
    const { stdout } = await resolve('api', '--as', 'web-front-end', '--json');
    expect(JSON.parse(stdout)).toEqual({
      service: 'api',
      namespace: null,
      caller: 'web-front-end',
      names: ['api', 'api.web-front-end'],
      addresses: ['10.0.97.1', '10.0.98.2'],
    });
  });

  test('gives no addresses, and exit code 3, when there is no answer', async () => {
    const { code, stdout } = await resolve('web.backoffice', '--json');
    expect(code).toBe(3);
    expect(JSON.parse(stdout)).toMatchObject({ names: [], addresses: [] });
  });
});
