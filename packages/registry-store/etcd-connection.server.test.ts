import { createServer, type Server } from 'node:tls';
import { readFileSync } from 'node:fs';
import { connect, type AddressInfo, type Socket } from 'node:net';
import path from 'node:path';
import { once } from 'node:events';
import { ConfigError, UnavailableError } from '@elastic-dns/model';
import { startFaultProxy, type FaultProxy } from '@elastic-dns/testkit/fault-proxy';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { reservePort } from '@elastic-dns/testkit/ports';
import { runProcess } from '@elastic-dns/testkit/processes';
import { createRun, removeRun } from '@elastic-dns/testkit/run';
import { spawnEtcd, startEtcd, type TestServer } from '@elastic-dns/testkit/servers';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { expect, test } from 'vitest';
import { changesIn, puts } from './contract.ts';
import { EtcdStore, type EtcdOptions } from './etcd.ts';
import { at, callGateway, range, Recorder, twice, useCleanup, write } from './fixture.ts';

checkLeaks();
const closing = useCleanup();

const start = async (): Promise<TestServer> => closing(await startEtcd(), (server) => server.remove());
const open = (options: EtcdOptions): EtcdStore => closing(new EtcdStore(options), (store) => store.close());
const proxyTo = async (server: TestServer): Promise<FaultProxy> =>
  closing(await startFaultProxy(server), (proxy) => proxy.close());

test('one of several endpoints is enough, and another one is found when it breaks', async () => {
  const server = await start();
  const nobody = closing(await reservePort(), (port) => port.release());
  const proxies = [await proxyTo(server), await proxyTo(server)];
  const endpoints = [
    `http://127.0.0.1:${nobody.port}`,
    ...proxies.map(({ port }) => `http://127.0.0.1:${port}`),
  ];
  const store = open({ endpoints });
  await waitUntil(() => store.commit({ puts: puts(at, ['start']), deletes: [] }), { what: 'a commit' });
  const recorder = new Recorder(store, range, await write(store, ['before']));
  for (const value of ['a', 'b', 'c', 'd']) {
    const used = proxies.find(({ open }) => open > 0);
    used?.refuse();
    expect(used?.cut()).toBeGreaterThan(0);
    await waitUntil(() => store.get(at('start')), { what: 'an answer' });
    await write(store, [value]);
    await waitUntil(() => recorder.values.includes(value), { what: 'the change' });
    await used?.accept();
  }
  await recorder.stop();
  expect(recorder.values).toEqual(twice(['a', 'b', 'c', 'd']));
  expect(recorder.errors).toEqual([]);
});

test('a server that nobody runs is out of reach, for everything, and is found when it comes', async () => {
  const server = await start();
  await server.stop();
  const store = open({ endpoints: [server.url] });
  await expect(store.get(at('a'))).rejects.toThrow(UnavailableError);
  await expect(store.read(range).next()).rejects.toThrow(UnavailableError);
  await expect(store.watch(range, 1n, new AbortController().signal).next()).rejects.toThrow(UnavailableError);
  await expect(store.commit({ puts: puts(at, ['a']), deletes: [] })).rejects.toThrow(UnavailableError);
  await server.start();
  expect(await store.get(at('a'))).toBeNull();
});

test('a watch on a member that is cut off from its cluster ends, instead of staying silent', async () => {
  const { members } = closing(await startCluster(), (cluster) => cluster.remove());
  const [first, second, third] = members;
  const store = open({ endpoints: [first?.url ?? ''] });
  const recorder = new Recorder(store, range, await write(store, ['before']));
  await write(store, ['a']);
  await waitUntil(() => recorder.values.length === 2, { what: 'the first change' });
  await Promise.all([second?.kill(), third?.kill()]);
  expect([first, second, third].map((member) => member?.state())).toEqual(['running', 'gone', 'gone']);
  await waitUntil(() => recorder.errors.length > 0, { what: 'the watch to end', timeoutMs: 40_000 });
  expect(recorder.errors[0]).toBeInstanceOf(UnavailableError);
  await Promise.all([second?.start(), third?.start()]);
  await waitUntil(() => store.get(at('a')), { what: 'a quorum' });
  await write(store, ['b']);
  await waitUntil(() => recorder.values.includes('b'), { what: 'the next change' });
  await recorder.stop();
  expect(recorder.values).toEqual(twice(['a', 'b']));
});

test('a user reads and writes what it may, also after the server has forgotten its token', async () => {
  const server = await start();
  await enableAuthentication(server);
  const proxy = await proxyTo(server);
  const endpoints = [`http://${proxy.host}:${proxy.port}`];
  const store = open({ endpoints, username: 'reader', password: 'secret' });
  const recorder = new Recorder(store, range, await write(store, ['before']));
  const never = new AbortController().signal;
  const leadership = await store.campaign({
    key: at('leader'),
    candidate: 'one',
    ttlMs: 2_000,
    signal: never,
  });
  await waitUntil(() => changesIn(recorder.batches).length > 0, { what: 'the watch to go' });
  await forgetTokens(server);
  await store.commit({ leadership, puts: puts(at, ['called']), deletes: [] });
  await forgetTokens(server);
  expect(proxy.cut()).toBeGreaterThan(0);
  const cutAtMs = performance.now();
  await waitUntil(() => performance.now() - cutAtMs > 3_000, { what: 'more than a lease' });
  await store.commit({ leadership, puts: puts(at, ['after']), deletes: [] });
  await waitUntil(() => recorder.values.includes('after'), { what: 'the change' });
  await recorder.stop();
  expect(recorder.errors).toEqual([]);
  await expect(store.get('/other')).rejects.toThrow(ConfigError);
  await expect(store.commit({ puts: [{ key: '/other', value: '' }], deletes: [] })).rejects.toThrow(
    ConfigError,
  );
  await expect(store.watch({ from: '/a', to: '/z' }, 1n, never).next()).rejects.toThrow(ConfigError);
  for (const wrong of [{ username: 'reader', password: 'wrong' }, { username: 'nobody', password: '' }, {}]) {
    const refused = open({ endpoints, ...wrong });
    await expect(refused.get(at('a'))).rejects.toThrow(ConfigError);
    await expect(refused.watch(range, 1n, never).next()).rejects.toThrow(ConfigError);
  }
});

test('credentials for a server that asks for none are a mistake, and are reported as one', async () => {
  const server = await start();
  const store = open({ endpoints: [server.url], username: 'reader', password: 'secret' });
  await expect(store.get(at('a'))).rejects.toThrow(ConfigError);
});

test('TLS with certificates on both sides reads, writes and watches; another authority is not trusted', async () => {
  const server = await start();
  const run = closing(createRun(), removeRun);
  const files = await makeCertificates(run);
  const tls = closing(await startTls(server, files), (one) => one.close());
  const endpoints = [`https://localhost:${tls.port}`];
  const own = { cert: files.client.cert, key: files.client.key };
  const store = open({ endpoints, ca: files.ca, ...own });
  const recorder = new Recorder(store, range, await write(store, ['before']));
  await write(store, ['a']);
  await waitUntil(() => recorder.values.length === 2, { what: 'the change' });
  await recorder.stop();
  const handshakes = tls.handshakes();
  for (const wrong of [{ ca: files.otherCa, ...own }, { ca: files.ca }, own]) {
    const refused = open({ endpoints, ...wrong });
    await expect(refused.get(at('a'))).rejects.toThrow(UnavailableError);
  }
  expect(tls.handshakes()).toBe(handshakes);
  expect(handshakes).toBeGreaterThan(0);
});

/** Three members of one cluster, as processes. */
async function startCluster(): Promise<{ members: TestServer[]; remove: () => Promise<void> }> {
  const ports = await Promise.all([reservePort(), reservePort(), reservePort()]);
  const peers = ports.map(({ port }) => `http://127.0.0.1:${port}`);
  const cluster = peers.map((peer, index) => `m${index}=${peer}`).join(',');
  const members = await Promise.all(
    peers.map((peer, index) =>
      spawnEtcd({
        args: ['--name', `m${index}`, '--initial-cluster', cluster].concat([
          '--listen-peer-urls',
          peer,
          '--initial-advertise-peer-urls',
          peer,
        ]),
      }),
    ),
  );
  return {
    members,
    async remove() {
      await Promise.all(members.map((member) => member.remove()));
      await Promise.all(ports.map((port) => port.release()));
    },
  };
}

async function enableAuthentication(server: TestServer): Promise<void> {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const perm = { permType: 'READWRITE', key: base64(range.from), range_end: base64(range.to) };
  await callGateway(server, 'auth/user/add', { name: 'root', password: 'root' });
  await callGateway(server, 'auth/user/grant', { user: 'root', role: 'root' });
  await callGateway(server, 'auth/role/add', { name: 'registry' });
  await callGateway(server, 'auth/role/grant', { name: 'registry', perm });
  await callGateway(server, 'auth/user/add', { name: 'reader', password: 'secret' });
  await callGateway(server, 'auth/user/grant', { user: 'reader', role: 'registry' });
  await callGateway(server, 'auth/enable');
}

/** As a restart would: tokens live in the server's memory. Here by setting the user's password once more. */
async function forgetTokens(server: TestServer): Promise<void> {
  const root = { name: 'root', password: 'root' };
  const { token } = (await callGateway(server, 'auth/authenticate', root)) as { token: string };
  await callGateway(server, 'auth/user/changepw', { name: 'reader', password: 'secret' }, token);
}

interface Certificates {
  ca: string;
  otherCa: string;
  server: { cert: string; key: string };
  client: { cert: string; key: string };
}

async function makeCertificates(run: ReturnType<typeof createRun>): Promise<Certificates> {
  const file = (name: string): string => path.join(run.dir, name);
  const read = (name: string): string => readFileSync(file(name), 'utf8');
  const make = async (name: string, args: string[]): Promise<void> => {
    const files = ['-keyout', file(`${name}.key`), '-out', file(`${name}.pem`)];
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    const made = await runProcess(run, [
      'openssl',
      'req',
      '-x509',
      '-subj',
      `/CN=${name}`,
      '-days',
      '2',
      ...key,
      ...files,
      ...args,
    ]);
    if (made.exitCode !== 0) throw new Error(made.stderr);
  };
  await make('ca', []);
  await make('other-ca', []);
  const signed = [
    '-CA',
    file('ca.pem'),
    '-CAkey',
    file('ca.key'),
    '-addext',
    'basicConstraints=critical,CA:FALSE',
  ];
  await make('server', [...signed, '-addext', 'subjectAltName=DNS:localhost']);
  await make('client', signed);
  return {
    ca: read('ca.pem'),
    otherCa: read('other-ca.pem'),
    server: { cert: read('server.pem'), key: read('server.key') },
    client: { cert: read('client.pem'), key: read('client.key') },
  };
}

/** TLS in front of a server, for clients that have a certificate of the authority. */
async function startTls(
  target: TestServer,
  { ca, server: { cert, key } }: Certificates,
): Promise<{ port: number; handshakes: () => number; close: () => Promise<void> }> {
  let handshakes = 0;
  const sockets = new Set<Socket>();
  const options = { ca, cert, key, requestCert: true, rejectUnauthorized: true, ALPNProtocols: ['h2'] };
  const server: Server = createServer(options, (socket) => {
    handshakes++;
    const upstream = connect({ host: target.host, port: target.port });
    for (const one of [socket, upstream]) {
      sockets.add(one);
      one.on('error', () => {});
      one.on('close', () => {
        sockets.delete(one);
        socket.destroy();
        upstream.destroy();
      });
    }
    socket.pipe(upstream).pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    handshakes: () => handshakes,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
