import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runCli } from './fixture.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'elastic-dns-cli-config-'));
  path = join(folder, 'config.yml');
  writeFileSync(path, 'log:\n  nats:\n    password: swordfish\nagent:\n  snapshotInterval: 1m\n');
});
afterEach(() => rmSync(folder, { recursive: true }));

interface Row {
  key: string;
  value: unknown;
  source: string;
}

async function inForce(argv: string[], env: NodeJS.ProcessEnv): Promise<(key: string) => [unknown, string]> {
  const { stdout } = await runCli(['config', '--json', '--config', path, ...argv], env);
  const rows = new Map((JSON.parse(stdout) as Row[]).map((row) => [row.key, row]));
  return (key) => [rows.get(key)?.value, rows.get(key)?.source ?? ''];
}

test('says of every setting what is in force and where it came from', async () => {
  const found = await inForce(['--http-port', '0'], { ELASTIC_DNS_REGISTRAR_LEASE_TTL: '9s' });
  expect(found('agent.snapshotInterval')).toEqual(['1m', `${path}:5`]);
  expect(found('registrar.leaseTtl')).toEqual([
    '9s',
    'the environment variable ELASTIC_DNS_REGISTRAR_LEASE_TTL',
  ]);
  expect(found('http.port')).toEqual(['0', '--http-port']);
  expect(found('watcher.quiet')).toEqual(['5ms', 'default']);
});

test('masks secrets, for people and for programs', async () => {
  for (const argv of [['config'], ['config', '--json']]) {
    const { stdout, stderr } = await runCli([...argv, '--config', path]);
    expect(stdout).toContain('***');
    expect(stdout + stderr).not.toContain('swordfish');
  }
});

test('takes a flag before the command, behind it, and by its shorter name', async () => {
  for (const argv of [
    ['--log-level', 'debug', 'config'],
    ['config', '--log-level', 'debug'],
    ['config', '--logging-level', 'debug'],
  ]) {
    const { stdout } = await runCli(argv);
    expect(stdout).toMatch(/^logging\.level +debug +--log-level$/m);
  }
});

test('warns of a secret that everybody may read, beside the output', async () => {
  const secret = join(folder, 'token');
  writeFileSync(secret, 'swordfish', { mode: 0o644 });
  const { code, stdout, stderr } = await runCli(['config', '--json'], {
    ELASTIC_DNS_LOG_NATS_TOKEN_FILE: secret,
  });
  expect(code).toBe(0);
  expect(stderr).toContain(`warning: the environment variable ELASTIC_DNS_LOG_NATS_TOKEN_FILE`);
  expect(() => JSON.parse(stdout) as unknown).not.toThrow();
});

test('is wrong configuration, with exit code 2 and a line for each mistake', async () => {
  writeFileSync(path, 'agnet: {}\nhttp: {port: x}\n');
  const { code, stderr } = await runCli(['config', '--config', path]);
  expect(code).toBe(2);
  expect(stderr.trimEnd().split('\n')).toEqual([
    `elastic-dns: ${path}:1: "agnet" is no setting; the nearest is agent (CONFIG)`,
    `elastic-dns: ${path}:2: http.port is "x"; it has to be a port from 0 (any free one) to 65535, or "off" (CONFIG)`,
  ]);
});

test('lists all that can be set, also when what is set is wrong', async () => {
  writeFileSync(path, 'agnet: {}\n');
  const { code, stdout } = await runCli(['config', '--reference', '--config', path]);
  expect(code).toBe(0);
  expect(stdout).toContain(`watcher.quiet
  Shortest pause between two writings of files; what changes after a calm is written at once.
  value:   a duration such as 250ms, 30s, 5m, 12h or 30d, up to 1m
  default: 5ms
  also as: --watcher-quiet, ELASTIC_DNS_WATCHER_QUIET
`);
  const json = await runCli(['config', '--reference', '--json']);
  expect(JSON.parse(json.stdout)).toContainEqual({
    key: 'log.nats.password',
    type: 'text',
    default: 'not set',
    environment: 'ELASTIC_DNS_LOG_NATS_PASSWORD',
    flags: [],
    meaning: 'Password for NATS.',
  });
});
