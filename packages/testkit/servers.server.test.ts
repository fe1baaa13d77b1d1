import { cp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import { startFaultProxy } from './fault-proxy.ts';
import { checkLeaks } from './leaks.ts';
import { processState } from './processes.ts';
import {
  spawnEtcd,
  spawnNats,
  spawnRedis,
  startEtcd,
  startNats,
  startRedis,
  type TestServer,
} from './servers.ts';

checkLeaks();

/** The server's answer to one plain request; rejects when there is none within a second. */
async function etcd(server: TestServer, call: string, body: object): Promise<Record<string, unknown>> {
  const response = await fetch(`${server.url}/v3/kv/${call}`, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { connection: 'close' },
    signal: AbortSignal.timeout(1_000),
  });
  return (await response.json()) as Record<string, unknown>;
}
const KEY = { key: 'a2V5' };

describe.each([
  ['in a container', startEtcd],
  ['as a process', spawnEtcd],
])('etcd %s', (_, start) => {
  test('keeps port and data when it is killed and started again', async () => {
    await using server = await start();
    await etcd(server, 'put', { ...KEY, value: 'b25l' });
    const killed = server.pid();
    await server.kill();
    expect(server.state()).toBe('gone');
    await expect(etcd(server, 'range', KEY)).rejects.toThrow('fetch failed');
    await server.start();
    expect(server.pid()).not.toBe(killed);
    expect(await etcd(server, 'range', KEY)).toMatchObject({ kvs: [{ value: 'b25l' }] });
  });

  test('answers nothing while it is paused, and again when it is resumed', async () => {
    await using server = await start();
    await server.pause();
    expect(server.state()).toBe('paused');
    await expect(etcd(server, 'range', KEY)).rejects.toThrow('timeout');
    await server.resume();
    expect(await etcd(server, 'range', KEY)).toHaveProperty('header');
  });

  test('goes back to a copy of its data, and to nothing when its data is deleted', async () => {
    await using server = await start();
    await etcd(server, 'put', { ...KEY, value: 'b25l' });
    await server.stop();
    await cp(server.dataDir, `${server.dataDir}-copy`, { recursive: true });
    await server.start();
    await etcd(server, 'put', { ...KEY, value: 'dHdv' });
    await server.stop();
    await rm(server.dataDir, { recursive: true });
    await cp(`${server.dataDir}-copy`, server.dataDir, { recursive: true });
    await server.start();
    expect(await etcd(server, 'range', KEY)).toMatchObject({ kvs: [{ value: 'b25l' }] });
    await server.stop();
    await rm(server.dataDir, { recursive: true });
    await server.start();
    expect(await etcd(server, 'range', KEY)).not.toHaveProperty('kvs');
  });

  test('shows its log when it cannot start', async () => {
    await expect(start({ args: ['--no-such-flag'] })).rejects.toThrow('no-such-flag');
  });
});

test('a proxy swallows the reply to a put that etcd has committed', async () => {
  await using server = await startEtcd();
  await using proxy = await startFaultProxy(server);
  const throughProxy = { ...server, url: `http://${proxy.host}:${proxy.port}` };
  proxy.swallow('toClient');
  await expect(etcd(throughProxy, 'put', { ...KEY, value: 'b25l' })).rejects.toThrow(/fetch failed|timeout/);
  expect(proxy.swallowed.toClient).toBeGreaterThan(0);
  expect(proxy.forwarded.toClient).toBe(0);
  expect(await etcd(server, 'range', KEY)).toMatchObject({ kvs: [{ value: 'b25l' }] });
});

test('etcd refuses a put over its quota', async () => {
  await using server = await startEtcd({ quotaBytes: 16_384 });
  const value = Buffer.alloc(32_768).toString('base64');
  await expect
    .poll(async () => (await etcd(server, 'put', { ...KEY, value }))['error'], { timeout: 10_000 })
    .toContain('database space exceeded');
});

test('etcd compacts by itself', async () => {
  await using server = await startEtcd({ autoCompaction: { mode: 'periodic', retention: '1s' } });
  await expect
    .poll(
      async () => {
        await etcd(server, 'put', { ...KEY, value: 'b25l' });
        return (await etcd(server, 'range', { ...KEY, revision: 2 }))['error'];
      },
      { timeout: 20_000 },
    )
    .toContain('has been compacted');
});

describe.each([
  ['in a container', startNats],
  ['as a process', spawnNats],
])('NATS %s', (_, start) => {
  test('has JetStream on disk, takes a limit and a configuration, and restarts on its port', async () => {
    const config = 'authorization { user: one, password: two }';
    await using server = await start({ maxPayloadBytes: 2_048, config });
    expect(await natsInfo(server)).toMatchObject({
      jetstream: true,
      max_payload: 2_048,
      auth_required: true,
    });
    await server.restart();
    expect(await natsInfo(server)).toMatchObject({ port: server.port });
    expect(await server.logs()).toContain(`${server.dataDir}/jetstream`);
  });
});

async function natsInfo(server: TestServer): Promise<unknown> {
  return JSON.parse((await ask(server, '')).replace('INFO ', ''));
}

describe.each([
  ['in a container', startRedis],
  ['as a process', spawnRedis],
])('Redis %s', (_, start) => {
  test('keeps what it has written when it is stopped while paused', async () => {
    await using server = await start();
    expect(await ask(server, 'SET key one\r\n')).toContain('+OK');
    await server.pause();
    await server.stop();
    expect(server.state()).toBe('gone');
    await server.start();
    expect(await ask(server, 'GETRANGE key 0 -1\r\n')).toContain('$3');
  });
});

async function ask(server: TestServer, request: string): Promise<string> {
  const socket = connect(server.port, server.host);
  socket.write(request);
  for await (const chunk of socket) return String(chunk);
  return '';
}

test('a server in a container listens on loopback only and runs programs inside', async () => {
  await using server = await startRedis();
  const { stdout } = await server.exec(['netstat', '-ltn']);
  const listening = stdout.split('\n').filter((line) => line.includes(`:${server.port} `));
  expect(listening).toHaveLength(1);
  expect(listening[0]).toContain(`127.0.0.1:${server.port}`);
  expect((await server.exec(['false'])).exitCode).toBe(1);
});

test('removing a server ends it whatever its state', async () => {
  const server = await spawnRedis();
  await server.pause();
  const pid = server.pid();
  await server.remove();
  expect(processState(pid)).toBe('gone');
  await server.remove();
});
