import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { afterEach, expect, test, vi } from 'vitest';
import { ConfigError, UnavailableError } from '@elastic-dns/model';
import { follow } from './contract.ts';
import { createDockerEngine, type DockerEngineOptions } from './docker.ts';
import type { Engine } from './engine.ts';

const id = 'c0ffee'.padEnd(64, '0');
const INFO = {
  Name: 'host',
  ServerVersion: '20.10.24',
  DockerRootDir: '/var/lib/docker',
  SystemTime: '2026-11-22T16:23:57.133074481Z',
};
const START = `{"Type":"container","Action":"start","Actor":{"ID":"${id}"},"timeNano":1795364011580426491}\n`;

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  for (const cleanUp of cleanups.splice(0).toReversed()) await cleanUp();
});

/** An engine that answers as the test says; what the test leaves alone is answered as an empty engine would. */
async function fake(
  answers: Record<string, RequestListener>,
  options: DockerEngineOptions = {},
): Promise<Engine> {
  const folder = mkdtempSync(join(tmpdir(), 'engine-'));
  const server = createServer((request, response) => {
    const path = (request.url ?? '').split('?')[0] ?? '';
    const answer = answers[path];
    if (answer) answer(request, response);
    else if (path === '/info') response.end(JSON.stringify(INFO));
    else response.end('[]');
  });
  const socket = join(folder, 's');
  server.listen(socket);
  await once(server, 'listening');
  const engine = createDockerEngine({ host: `unix://${socket}`, ...options });
  cleanups.push(async () => {
    await engine.close();
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
    rmSync(folder, { recursive: true });
  });
  return engine;
}

test("asks for the events since the engine's own time, as the engine answers before it has subscribed", async () => {
  const asked: URLSearchParams[] = [];
  const engine = await fake({
    '/events': (request, response) => {
      asked.push(new URL(request.url ?? '', 'http://engine').searchParams);
      response.writeHead(200).flushHeaders();
    },
  });
  const followed = await follow(engine);
  expect(asked.map((query) => query.get('since'))).toEqual(['1795364637.133074481']);
  expect(JSON.parse(asked[0]?.get('filters') ?? '')).toMatchObject({ type: ['container', 'network'] });
  followed.stop();
  expect(await followed.ended).toBe('quietly');
});

test('puts lines together that arrive in pieces', async () => {
  const attributes = `{"container":"${id}","name":"é→"}`;
  const line = `{"Type":"network","Action":"connect","Actor":{"Attributes":${attributes}},"timeNano":1}\n`;
  const engine = await fake({
    '/events': (_request, response) => {
      const bytes = Buffer.from(line + START);
      response.writeHead(200).flushHeaders();
      void (async () => {
        for (const byte of bytes) {
          response.write(Uint8Array.of(byte));
          await new Promise((resolve) => setImmediate(resolve));
        }
      })();
    },
  });
  const followed = await follow(engine);
  await vi.waitFor(() => expect(followed.words(id)).toEqual(['connect', 'start']), 10_000);
  expect(followed.events[0]).toMatchObject({ network: 'é→' });
  followed.stop();
});

test('fails a subscription that the engine ends, in order or not', async () => {
  for (const end of [
    (response: ServerResponse) => response.end(),
    (response: ServerResponse) => response.destroy(),
  ]) {
    const engine = await fake({
      '/events': (_request, response) => {
        response.writeHead(200).flushHeaders();
        response.write(START);
        setTimeout(() => end(response), 20);
      },
    });
    expect(await (await follow(engine)).ended).toBeInstanceOf(UnavailableError);
  }
});

test('fails a subscription whose engine has stopped to answer, after two heart beats', async () => {
  let pings = 0;
  const engine = await fake(
    {
      '/events': (_request, response) => response.writeHead(200).flushHeaders(),
      '/_ping': () => void (pings += 1),
    },
    { pingIntervalMs: 10, pingDeadlineMs: 300 },
  );
  expect(await (await follow(engine)).ended).toMatchObject({
    name: 'UnavailableError',
    message: expect.stringContaining('does not answer') as string,
  });
  expect(pings).toBe(2);
});

test('keeps a subscription whose engine misses one heart beat', async () => {
  let pings = 0;
  const engine = await fake(
    {
      '/events': (_request, response) => response.writeHead(200).flushHeaders(),
      '/_ping': (_request, response) => void ((pings += 1) % 2 === 0 && response.end('OK')),
    },
    { pingIntervalMs: 5, pingDeadlineMs: 500 },
  );
  const followed = await follow(engine);
  await vi.waitFor(() => expect(pings).toBeGreaterThan(4), 10_000);
  followed.stop();
  expect(await followed.ended).toBe('quietly');
});

test('fails a subscription after this process stood still, as the engine has dropped events meanwhile', async () => {
  const engine = await fake(
    { '/events': (_request, response) => response.writeHead(200).flushHeaders() },
    { pingIntervalMs: 50 },
  );
  const followed = await follow(engine);
  const now = performance.now();
  vi.spyOn(performance, 'now').mockReturnValue(now + 60_000);
  expect(await followed.ended).toMatchObject({
    message: expect.stringContaining('not listened to for') as string,
  });
});

test('fails a subscription that nobody reads before it fills the memory', async () => {
  const engine = await fake({
    '/events': (_request, response) => void response.writeHead(200).write(START.repeat(20_001)),
  });
  const stream = await engine.subscribe(new AbortController().signal);
  await vi.waitFor(() => expect((stream as Readable).destroyed).toBe(true), 10_000);
  await expect(
    (async () => {
      for await (const event of stream) expect(event.kind).toBe('start');
    })(),
  ).rejects.toMatchObject({ message: expect.stringContaining('more events than were read') as string });
});

test('an answer that breaks off in the middle, or never comes, is unavailable', async () => {
  const engine = await fake(
    {
      [`/containers/${id}/json`]: (_request, response) => {
        response.writeHead(200, { 'content-length': '100' }).write('{"Id":');
        setTimeout(() => response.destroy(), 10);
      },
      '/containers/json': () => undefined,
    },
    { deadlineMs: 100 },
  );
  await expect(engine.inspect(id)).rejects.toBeInstanceOf(UnavailableError);
  await expect(engine.list()).rejects.toBeInstanceOf(UnavailableError);
});

test('lists without those that vanish meanwhile, and with those that the engine cannot describe', async () => {
  const summary = { Id: id, Names: ['/odd'], State: 'removing' };
  const engine = await fake({
    '/containers/json': (_request, response) =>
      void response.end(JSON.stringify([summary, { ...summary, Id: 'e'.repeat(64) }])),
    [`/containers/${id}/json`]: (_request, response) =>
      void response.writeHead(500).end('{"message":"layer is unexpectedly nil"}'),
    [`/containers/${'e'.repeat(64)}/json`]: (_request, response) =>
      void response.writeHead(404).end('{"message":"no such container"}'),
  });
  expect(await engine.list()).toMatchObject([{ id, name: 'odd', status: 'removing' }]);
  await expect(engine.inspect(id)).rejects.toBeInstanceOf(UnavailableError);
});

test('answers nothing after it has been closed, not even what was asked before', async () => {
  const engine = await fake({ '/containers/json': () => undefined });
  const listing = engine.list();
  await engine.info();
  await engine.close();
  await expect(listing).rejects.toBeInstanceOf(UnavailableError);
  await expect(engine.info()).rejects.toBeInstanceOf(UnavailableError);
});

test('talks to the host that it is given, whatever the environment says', async () => {
  vi.stubEnv('DOCKER_HOST', 'tcp://127.0.0.1:1');
  const engine = await fake({});
  expect(await engine.info()).toEqual({ name: 'Docker on host', version: '20.10.24' });
});

test('refuses a host that cannot be one', () => {
  for (const host of [
    '',
    '/var/run/docker.sock',
    'unix://',
    'tcp://',
    'tcp://host',
    'ssh://host',
    'http://h:1',
  ]) {
    expect(() => createDockerEngine({ host })).toThrow(ConfigError);
  }
});
