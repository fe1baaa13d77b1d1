import { ConfigError, UnavailableError } from '@elastic-dns/model';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { startNats, type TestServer } from '@elastic-dns/testkit/servers';
import { connect, nanos, type JetStreamManager, type NatsConnection } from 'nats';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { logContract } from './contract.ts';
import { NatsLog, type NatsLogOptions, type NatsNotice } from './nats.ts';
import { follow, makePublication, publishRange, readAll } from './samples.ts';

const STREAM = 'ELASTIC_DNS';
const WAIT = { timeout: 15_000, interval: 20 };

checkLeaks();

let server: TestServer;
let connection: NatsConnection;
let admin: JetStreamManager;

beforeAll(async () => {
  server = await startNats({
    config: `
      accounts {
        MAIN {
          jetstream: enabled
          users: [
            { user: admin, password: admin }
            { user: n1, password: one, permissions: {
                publish: ["elastic-dns.events.n1.>"], subscribe: ["_INBOX.n1.>"] } }
            { user: "n 1.>", password: odd }
            { user: deaf, password: deaf, permissions: { publish: [">"], subscribe: ["nothing"] } }
            { user: half, password: half, permissions: {
                publish: { deny: ["$JS.API.CONSUMER.MSG.NEXT.>"] }, subscribe: ["_INBOX.>"] } }
          ]
        }
        NO_LOGS { users: [{ user: plain, password: plain }] }
      }`,
  });
  connection = await connect({ servers: server.url, user: 'admin', pass: 'admin' });
  admin = await connection.jetstreamManager();
});
afterAll(async () => {
  await connection.close();
  await server.remove();
});

let logs: NatsLog[] = [];
afterEach(async () => {
  await Promise.all(logs.map((log) => log.close()));
  logs = [];
});

function open(options: Partial<NatsLogOptions> = {}): NatsLog {
  const log = new NatsLog({ servers: [server.url], user: 'admin', password: 'admin', ...options });
  logs.push(log);
  return log;
}

async function deleteStream(): Promise<void> {
  await admin.streams.delete(STREAM).catch((error: Error) => {
    if (error.message !== 'stream not found') throw error;
  });
}

logContract('nats', async () => {
  await deleteStream();
  return {
    open,
    countTaken: async () => {
      const consumers = await admin.consumers.list(STREAM).next();
      return consumers.reduce((sum, { delivered }) => sum + delivered.consumer_seq, 0);
    },
    remove: deleteStream,
  };
});

describe('the stream', () => {
  afterEach(deleteStream);

  test('is made as it is asked for, and told of', async () => {
    const notices: NatsNotice[] = [];
    const log = open({ maxAgeMs: 3_600_000, maxBytes: 2 ** 24, onNotice: (notice) => notices.push(notice) });
    await log.publish(makePublication(1));
    await log.close();
    expect((await admin.streams.info(STREAM)).config).toMatchObject({
      subjects: ['elastic-dns.events.*.>'],
      storage: 'file',
      retention: 'limits',
      discard: 'old',
      max_age: nanos(3_600_000),
      max_bytes: 2 ** 24,
      num_replicas: 1,
      duplicate_window: nanos(120_000),
      deny_delete: true,
      deny_purge: true,
    });
    expect(notices.map(({ kind }) => kind)).toEqual(['stream-created', 'connected']);
  });

  test('is left as it is when it differs from what is asked for, and the difference is told', async () => {
    await open().publish(makePublication(1));
    const before = (await admin.streams.info(STREAM)).config;
    const notices: NatsNotice[] = [];
    const log = open({ maxAgeMs: 3_600_000, onNotice: (notice) => notices.push(notice) });
    await log.publish(makePublication(2));
    await log.close();
    const [notice] = notices.filter(({ kind }) => kind === 'stream-differs');
    expect(notice?.message).toMatch(/max_age is 2592000000000000, not 3600000000000/);
    expect((await admin.streams.info(STREAM)).config).toEqual(before);
  });

  test('is refused when it could lose, repeat or mix up events', async () => {
    await admin.streams.add({
      name: STREAM,
      subjects: ['elastic-dns.events.>'],
      duplicate_window: nanos(60_000),
      max_msgs_per_subject: 5,
    });
    const log = open();
    await expect(log.publish(makePublication(1))).rejects.toThrow(ConfigError);
    await expect(log.info()).rejects.toThrow(/subjects are.*duplicate window.*messages per subject/);
    await log.close();
  });

  test('is refused when another stream holds its subjects', async () => {
    await admin.streams.add({ name: 'OTHER', subjects: ['elastic-dns.>'] });
    const log = open();
    await expect(log.publish(makePublication(1))).rejects.toThrow(/subjects overlap/);
    const agent = open({ manageStream: false });
    await expect(agent.publish(makePublication(1))).rejects.toThrow(/"OTHER" took/);
    await admin.streams.delete('OTHER');
  });

  test('that acknowledges nothing leaves nobody waiting for ever', async () => {
    await admin.streams.add({ name: STREAM, subjects: ['elastic-dns.events.*.>'], no_ack: true });
    const agent = open({ manageStream: false });
    await expect(agent.publish(makePublication(1))).rejects.toThrow(/no answer.*outcome is unknown/);
    // The proof: it was no trouble of the connection.
    expect((await admin.streams.info(STREAM)).state.messages).toBe(1);
  });

  test('limits the size of an event with its own limit', async () => {
    const log = open();
    await log.publish(makePublication(1));
    await log.close();
    await admin.streams.update(STREAM, { max_msg_size: 10_256 });
    const limited = open();
    expect((await limited.info()).maxBytes).toBe(10_000);
    await expect(limited.publish(makePublication(2, 'n1', 'x'.repeat(10_001)))).rejects.toThrow(
      /10001.*10000/,
    );
    const agent = open({ user: 'n1', password: 'one', manageStream: false });
    await expect(agent.publish(makePublication(2, 'n1', 'x'.repeat(10_250)))).rejects.toThrow(
      /exceeds maximum/,
    );
  });

  test('is made by another client when this one may not: its events are unavailable, not lost, until then', async () => {
    const agent = open({ user: 'n1', password: 'one', manageStream: false });
    await expect(agent.publish(makePublication(1))).rejects.toThrow(UnavailableError);
    const log = open();
    await log.info();
    expect(await agent.publish(makePublication(1))).toEqual({ sequence: 1, duplicate: false });
  });

  test('keeps no consumer of a reader that has ended', async () => {
    const log = open();
    await publishRange(log, 1, 10);
    const reader = follow(log);
    await vi.waitFor(() => expect(reader.entries.length).toBe(10), WAIT);
    expect((await admin.consumers.list(STREAM).next()).length).toBe(1);
    await reader.stop();
    await vi.waitFor(async () => expect(await admin.consumers.list(STREAM).next()).toEqual([]), WAIT);
    const another = follow(log);
    await vi.waitFor(() => expect(another.entries.length).toBe(10), WAIT);
    await log.close();
    expect(await admin.consumers.list(STREAM).next()).toEqual([]);
  });
});

describe('permissions', () => {
  afterEach(deleteStream);

  test('refuse an event that is published as another node, at once, and no other event', async () => {
    const log = open();
    await log.info();
    const agent = open({ user: 'n1', password: 'one', manageStream: false });
    const [first, refused, again, last] = await Promise.allSettled([
      agent.publish(makePublication(1)),
      agent.publish(makePublication(1, 'n2')),
      agent.publish(makePublication(2, 'n2')),
      agent.publish(makePublication(2)),
    ]);
    // Not the `UnavailableError` of the deadline.
    for (const result of [refused, again]) {
      expect(result).toMatchObject({ reason: expect.any(ConfigError) as Error });
      expect(result).toMatchObject({
        reason: { message: expect.stringContaining('elastic-dns.events.n2') as string },
      });
    }
    expect([first.status, last.status]).toEqual(['fulfilled', 'fulfilled']);
    expect((await readAll(log)).map(({ node }) => node)).toEqual(['n1', 'n1']);
  });

  test('leave a client its answers that may hear those below its own name only, and one whose name is no subject', async () => {
    const log = open();
    await log.info();
    const agent = open({ user: 'n1', password: 'one', manageStream: false });
    expect(await agent.publish(makePublication(1))).toMatchObject({ sequence: 1 });
    const odd = open({ user: 'n 1.>', password: 'odd', manageStream: false });
    expect(await odd.publish(makePublication(2))).toMatchObject({ sequence: 2 });
    expect((await readAll(odd)).length).toBe(2);
  });

  test.each([
    ['a client that may not read', { user: 'n1', password: 'one' }],
    ['a client that may not ask for entries', { user: 'half', password: 'half' }],
    ['a client that gets no answers', { user: 'deaf', password: 'deaf' }],
    ['a client of an account without JetStream', { user: 'plain', password: 'plain' }],
  ])('refuse %s', async (_, credentials) => {
    const log = open();
    await publishRange(log, 1, 3);
    const client = open({ ...credentials, manageStream: false });
    await expect(readAll(client)).rejects.toThrow(ConfigError);
  });

  test('refuse to publish for a client that gets no answers', async () => {
    const client = open({ user: 'deaf', password: 'deaf', manageStream: false });
    await vi.waitFor(() => expect(client.publish(makePublication(1))).rejects.toThrow(ConfigError), WAIT);
  });

  test('refuse a client with a wrong password', async () => {
    const notices: NatsNotice[] = [];
    const client = open({ password: 'wrong', onNotice: (notice) => notices.push(notice) });
    await expect(client.publish(makePublication(1))).rejects.toThrow(ConfigError);
    await expect(readAll(client)).rejects.toThrow(/Authorization Violation/);
    expect(notices[0]).toMatchObject({ kind: 'unreachable' });
  });
});

describe('options', () => {
  test.each([
    ['no server', { servers: [] }],
    ['a server that is no address', { servers: ['nats://'] }],
    ['a server of another protocol', { servers: ['http://127.0.0.1:4222'] }],
    ['a user inside an address', { servers: ['nats://me:secret@127.0.0.1:4222'] }],
    ['a certificate without its key', { servers: ['127.0.0.1'], cert: 'pem' }],
    ['credentials that are none', { servers: ['127.0.0.1'], credentials: 'nothing' }],
    ['an age that is too short', { servers: ['127.0.0.1'], maxAgeMs: 1_000 }],
  ])('are refused: %s', (_, options) => {
    expect(() => new NatsLog(options)).toThrow(ConfigError);
  });

  test('are refused by a server that cannot keep them', async () => {
    const secure = open({ servers: [server.url.replace('nats:', 'tls:')] });
    await expect(secure.info()).rejects.toThrow(ConfigError);
    const copies = open({ replicas: 3 });
    await expect(copies.info()).rejects.toThrow(/replicas > 1 not supported/);
  });

  test('may name servers that are not there beside one that is', async () => {
    const log = open({ servers: ['127.0.0.1:1', server.url, 'nats://[::1]:1'] });
    for (let attempt = 0; attempt < 5; attempt++) {
      const another = open({ servers: ['127.0.0.1:1', server.url, 'nats://[::1]:1'] });
      await another.info();
      await another.close();
    }
    expect(await log.publish(makePublication(1))).toMatchObject({ sequence: 1 });
    await deleteStream();
  });
});
