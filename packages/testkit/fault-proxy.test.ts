import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startFaultProxy, type FaultProxy } from './fault-proxy.ts';
import { checkLeaks } from './leaks.ts';
import { waitUntil } from './wait.ts';

checkLeaks();

/** Answers each chunk with itself in capitals, and keeps what it got. */
let server: Server;
let received: string;
let proxy: FaultProxy;
const clients: Client[] = [];

interface Client {
  socket: Socket;
  received: () => string;
  /** The error's code, `end`, or undefined while it is open. */
  ended: () => string | undefined;
}

beforeEach(async () => {
  received = '';
  server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      received += String(chunk);
      socket.write(String(chunk).toUpperCase());
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  proxy = await startFaultProxy({ host: '127.0.0.1', port });
});

afterEach(async () => {
  for (const { socket } of clients.splice(0)) socket.destroy();
  await proxy.close();
  server.close();
  await once(server, 'close');
});

async function join(): Promise<Client> {
  const socket = connect(proxy.port, proxy.host);
  let text = '';
  let ended: string | undefined;
  socket.on('data', (chunk) => (text += String(chunk)));
  socket.on('error', (error: NodeJS.ErrnoException) => (ended = error.code));
  socket.on('close', () => (ended ??= 'end'));
  const client = { socket, received: () => text, ended: () => ended };
  clients.push(client);
  await waitUntil(() => !socket.connecting, { what: 'the connection' });
  return client;
}

const said = (client: Client, text: string): Promise<boolean> =>
  waitUntil(() => client.received() === text, { what: `the client to get ${text}` });
const heard = (text: string): Promise<boolean> =>
  waitUntil(() => received === text, { what: `the server to get ${text}` });

test('carries both directions and their ends, and counts the bytes', async () => {
  const client = await join();
  client.socket.end('one');
  await said(client, 'ONE');
  await waitUntil(() => client.ended() === 'end', { what: 'the end to come back' });
  expect([proxy.accepted, proxy.open, proxy.forwarded]).toEqual([1, 0, { toServer: 3, toClient: 3 }]);
});

test('carries a megabyte whole', async () => {
  const client = await join();
  client.socket.write('x'.repeat(1 << 20));
  await waitUntil(() => client.received().length === 1 << 20, { what: 'all of it' });
  expect(client.received()).toBe('X'.repeat(1 << 20));
});

test('cuts open connections with a reset, and takes new ones', async () => {
  const [one, two] = [await join(), await join()];
  one.socket.write('a');
  two.socket.write('b');
  await Promise.all([said(one, 'A'), said(two, 'B')]);
  expect(proxy.cut()).toBe(2);
  await waitUntil(() => one.ended() && two.ended(), { what: 'both to end' });
  expect([one.ended(), two.ended(), proxy.cuts]).toEqual(['ECONNRESET', 'ECONNRESET', 2]);
  const three = await join();
  three.socket.write('c');
  await said(three, 'C');
});

test('refuses new connections and leaves open ones, until it accepts again on the same port', async () => {
  const open = await join();
  open.socket.write('a');
  await said(open, 'A');
  proxy.refuse();
  expect((await join()).ended()).toBe('ECONNREFUSED');
  open.socket.write('b');
  await said(open, 'AB');
  await proxy.accept();
  const later = await join();
  later.socket.write('c');
  await said(later, 'C');
});

test('accepts and forwards nothing while it stalls, and everything afterwards', async () => {
  const before = await join();
  before.socket.write('a');
  await said(before, 'A');
  proxy.stall();
  const during = await join();
  before.socket.write('b');
  during.socket.write('c');
  await waitUntil(() => proxy.held === 2, { what: 'both chunks to be held' });
  expect([received, proxy.accepted]).toEqual(['a', 2]);
  proxy.pass();
  await Promise.all([said(before, 'AB'), said(during, 'C')]);
});

test('swallows the reply while the request still reaches the server', async () => {
  const client = await join();
  client.socket.write('a');
  await said(client, 'A');
  proxy.swallow('toClient');
  client.socket.write('bc');
  await heard('abc');
  await waitUntil(() => proxy.swallowed.toClient === 2, { what: 'the reply to be swallowed' });
  expect([client.received(), proxy.forwarded]).toEqual(['A', { toServer: 3, toClient: 1 }]);
  proxy.pass();
  client.socket.write('d');
  await said(client, 'AD');
});

test('swallows requests while replies would still pass', async () => {
  const client = await join();
  proxy.swallow('toServer');
  client.socket.write('abc');
  await waitUntil(() => proxy.swallowed.toServer === 3, { what: 'the request to be swallowed' });
  expect(received).toBe('');
});

test('cuts after exactly as many bytes as told', async () => {
  const client = await join();
  const cut = proxy.cutAfter('toServer', 5);
  client.socket.write('abc');
  await said(client, 'ABC');
  client.socket.write('defg');
  await cut;
  await waitUntil(() => client.ended(), { what: 'the client to be cut' });
  await heard('abcde');
  expect([proxy.cuts, proxy.forwarded.toServer]).toEqual([1, 5]);
});

test.each([
  ['loses', false, 'abc'],
  ['forwards', true, 'abcNOW'],
])('cuts when the bytes that it waits for pass, and %s them', async (_, forward, expected) => {
  const client = await join();
  const other = await join();
  const cut = proxy.cutWhen('toServer', (seen) => seen.includes('cNOW'), forward);
  client.socket.write('abc');
  await said(client, 'ABC');
  client.socket.write('NOW');
  await cut;
  await waitUntil(() => client.ended(), { what: 'the client to be cut' });
  await heard(expected);
  other.socket.write('x');
  await said(other, 'X');
  expect(proxy.cuts).toBe(1);
});

test('closes while connections are open and stalled', async () => {
  const client = await join();
  proxy.stall();
  client.socket.write('a');
  await waitUntil(() => proxy.held === 1, { what: 'the chunk to be held' });
  await proxy.close();
  await waitUntil(() => client.ended(), { what: 'the client to end' });
  expect([received, proxy.open]).toEqual(['', 0]);
});
