import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sampleInstance } from '@elastic-dns/model/samples';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fillDataDir, HAPPENINGS, publish, runCli, startCli, type Happening } from './fixture.ts';

checkLeaks();

let folder: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'elastic-dns-events-'));
  await fillDataDir(folder);
});
afterEach(() => rmSync(folder, { recursive: true }));

interface Line {
  sequence: number;
  type?: string;
}

function sequences(stdout: string): number[] {
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => (JSON.parse(line) as Line).sequence);
}

async function eventsJson(...argv: string[]): Promise<number[]> {
  const { code, stdout, stderr } = await runCli(['events', '--json', ...argv, '--data-dir', folder]);
  expect([code, stderr]).toEqual([0, '']);
  return sequences(stdout);
}

describe('for people', () => {
  test('shows one event per line, oldest first, with what it is about and why', async () => {
    const { stdout } = await runCli(['events', '--data-dir', folder]);
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(HAPPENINGS.length);
    expect(lines[1]).toMatch(
      /^ +2 {2}[-\d]+ [\d:.]+ {2}node-a +instance\.ready +api\.web-front-end node-a-000000000001 ready 10\.0\.97\.1 \(test\)$/,
    );
    expect(lines[8]).toMatch(/instance\.stopped +node-a-000000000006 exited with 0 \(test\)$/);
  });

  test('shows an event that cannot be read, with the reason, without obeying what is in it', async () => {
    const { stdout } = await runCli(['events', '--data-dir', folder]);
    expect(stdout).toMatch(/^ +10 .* node-b +set aside +malformed: is not JSON: /m);
    expect(stdout).toMatch(/^[\n\x20-\x7e]*$/);
  });

  test('says so when there are none', async () => {
    const { code, stderr } = await runCli(['events', '--node', 'node-z', '--data-dir', folder]);
    expect([code, stderr]).toEqual([0, 'elastic-dns: no events\n']);
  });
});

test('gives programs one object per line', async () => {
  const { stdout } = await runCli(['events', '--json', '--from', '9', '--data-dir', folder]);
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
  const place = {
    incarnation: expect.any(String) as string,
    atMs: expect.any(Number) as number,
  };
  expect(lines).toEqual([
    {
      ...place,
      sequence: 9,
      node: 'node-a',
      id: 'node-a/1/9',
      type: 'instance.stopped',
      observedAtMs: 1_700_000_000_009,
      cause: 'test',
      data: { id: 'node-a-000000000006', reason: 'exited with 0' },
    },
    {
      ...place,
      sequence: 10,
      node: 'node-b',
      setAside: { code: 'malformed', reason: expect.stringContaining('is not JSON') as string },
    },
  ]);
});

describe('which events', () => {
  test('are the newest, as many as asked for', async () => {
    expect(await eventsJson('--limit', '3')).toEqual([8, 9, 10]);
    await publish(
      folder,
      Array.from({ length: 30 }, (): Happening => ['node-b', '{}']),
      HAPPENINGS.length,
    );
    expect(await eventsJson()).toEqual(Array.from({ length: 20 }, (_, index) => 21 + index));
  });

  test('are those from a place on', async () => {
    expect(await eventsJson('--from', '8')).toEqual([8, 9, 10]);
    expect(await eventsJson('--from', '3', '--limit', '2')).toEqual([3, 4]);
    expect(await eventsJson('--from', '99')).toEqual([]);
  });

  test("are a node's own", async () => {
    expect(await eventsJson('--node', 'node-b')).toEqual([3, 4, 5, 10]);
    expect(await eventsJson('--node', 'node-b', '--limit', '2')).toEqual([5, 10]);
  });

  test('are about a namespace or a service, the end of a container included', async () => {
    expect(await eventsJson('--namespace', 'backoffice')).toEqual([5, 6, 7, 9]);
    expect(await eventsJson('--namespace', 'backoffice', '--limit', '2')).toEqual([7, 9]);
    expect(await eventsJson('--service', 'api')).toEqual([2, 3, 4]);
    expect(await eventsJson('--namespace', 'backoffice', '--service', 'web')).toEqual([6]);
  });
});

describe('following', () => {
  const later: Happening[] = [
    ['node-a', { type: 'instance.ready', data: { instance: sampleInstance('node-a', 30) } }],
    ['node-b', { type: 'instance.ready', data: { instance: sampleInstance('node-b', 31) } }],
  ];

  test('prints what is there, then what another connection publishes, each once, until Ctrl-C', async () => {
    const running = startCli(['events', '--follow', '--json', '--limit', '2', '--data-dir', folder]);
    const printed = (): number[] => sequences(running.printed.stdout);
    await waitUntil(() => printed().length === 2, { what: 'the newest events' });
    await publish(folder, later, HAPPENINGS.length);
    await waitUntil(() => printed().length >= 4, { what: 'the events that came later' });
    running.interrupt();
    expect((await running.outcome).code).toBe(0);
    expect(printed()).toEqual([9, 10, 11, 12]);
  });

  test('prints only what matches', async () => {
    const running = startCli([
      'events',
      '--follow',
      '--json',
      '--node',
      'node-b',
      '--from',
      '5',
      '--data-dir',
      folder,
    ]);
    const printed = (): number[] => sequences(running.printed.stdout);
    await waitUntil(() => printed().length === 2, { what: 'what is there' });
    await publish(folder, later, HAPPENINGS.length);
    await waitUntil(() => printed().length >= 3, { what: 'what matches' });
    running.interrupt();
    await running.outcome;
    expect(printed()).toEqual([5, 10, 12]);
  });
});

test.each([
  ['--limit', '0'],
  ['--limit', 'many'],
  ['--from', '-1'],
  ['--node', 'a b'],
  ['--service', 'localhost'],
])('refuses %s %s', async (option, value) => {
  const { code, stderr } = await runCli(['events', option, value, '--data-dir', folder]);
  expect(code).toBe(2);
  expect(stderr).toContain(option);
});

test('is out of reach, with exit code 4, when NATS is', { timeout: 30_000 }, async () => {
  const { code, stderr } = await runCli(['events'], {
    ELASTIC_DNS_LOG_KIND: 'nats',
    ELASTIC_DNS_LOG_NATS_SERVERS: 'nats://127.0.0.1:1',
  });
  expect(code).toBe(4);
  expect(stderr).toContain('(UNAVAILABLE)');
});
