import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { EXIT_MEANINGS } from './exit-codes.ts';
import { runCli } from './fixture.ts';
import manifest from './package.json' with { type: 'json' };

describe('help', () => {
  test('goes to stdout when it is asked for, with commands and exit codes', async () => {
    const { code, stdout, stderr } = await runCli(['--help']);
    expect([code, stderr]).toEqual([0, '']);
    for (const command of ['list', 'resolve', 'events', 'config', 'version']) {
      expect(stdout).toMatch(new RegExp(`^  ${command}\\b`, 'm'));
    }
    for (const [exitCode, meaning] of Object.entries(EXIT_MEANINGS)) {
      expect(stdout).toMatch(new RegExp(`^  ${exitCode} +${meaning.replace(/[()]/g, '\\$&')}$`, 'm'));
    }
  });

  test('goes to stderr, as wrong usage, when no command is given', async () => {
    const { code, stdout, stderr } = await runCli([]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain('Usage: elastic-dns');
  });

  test('is there for every command', async () => {
    const { code, stdout } = await runCli(['resolve', '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('--as <caller>');
  });
});

describe('wrong usage', () => {
  test.each([
    [['lst'], "unknown command 'lst' (Did you mean list?)"],
    [['list', '--namespac', 'x'], "unknown option '--namespac' (Did you mean --namespace?)"],
    [['list', '--namespace'], "option '--namespace <name>' argument missing"],
    [['resolve'], "missing required argument 'name'"],
    [['version', 'x'], "too many arguments for 'version'"],
  ])('is one line and exit code 2: %j', async (argv, message) => {
    const { code, stdout, stderr } = await runCli(argv);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^elastic-dns: [^\n]* \(INVALID_INPUT\)\n$/);
    expect(stderr).toContain(message);
  });

  test('is JSON for programs, wherever --json stands', async () => {
    for (const argv of [
      ['--json', 'lst'],
      ['list', '--no-such', '--json'],
    ]) {
      const { code, stderr } = await runCli(argv);
      expect(code).toBe(2);
      expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'INVALID_INPUT' } });
    }
  });
});

describe('an error', () => {
  const wrong = { ELASTIC_DNS_HTTP_PORT: 'x' };

  test('has no stack unless one debugs', async () => {
    expect((await runCli(['config'], wrong)).stderr).not.toContain('.ts:');
    expect((await runCli(['config', '--log-level', 'debug'], wrong)).stderr).toContain('.ts:');
  });

  test('cannot steer the terminal with what it quotes', async () => {
    const { stderr } = await runCli(['\u001b[2J\u202e']);
    expect(stderr).toMatch(/^[\n\x20-\x7e]*$/);
  });
});

test('version tells what is running', async () => {
  expect((await runCli(['version'])).stdout).toMatch(
    new RegExp(`^elastic-dns ${manifest.version} \\(Node ${process.versions.node}, `),
  );
  expect(JSON.parse((await runCli(['version', '--json'])).stdout)).toMatchObject({
    version: manifest.version,
  });
  expect((await runCli(['--version'])).stdout).toBe(`${manifest.version}\n`);
});

test('the version of the command is the version of the project', () => {
  const root = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  expect(manifest.version).toBe(root.version);
});
