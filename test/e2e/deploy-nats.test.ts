/** What deploy/nats/nats.conf lets each role do, and what it does not, on a real NATS and through the real log. */
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { NatsLog } from '@elastic-dns/event-log/nats';
import type { Publication } from '@elastic-dns/event-log';
import { ConfigError, UnavailableError } from '@elastic-dns/model';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { sendSignal } from '@elastic-dns/testkit/processes';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { connect, type NatsConnection } from 'nats';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { passwordOf, startGuardedNats, writeNatsPasswords, type Guarded } from './deployment.ts';

const STREAM = 'ELASTIC_DNS';
const NODES = ['n1', 'n2', 'n3'];
const USERS = ['registrar', 'reader', ...NODES];

checkLeaks();

let nats: Guarded;
let logs: NatsLog[] = [];
let connections: NatsConnection[] = [];

beforeAll(async () => {
  nats = await startGuardedNats();
  // As in a fleet: the registrar's first start makes the stream.
  await open('registrar').info();
  await closeAll();
});
afterAll(() => nats.remove());
afterEach(closeAll);

async function closeAll(): Promise<void> {
  await Promise.all([...logs, ...connections].map((each) => each.close()));
  logs = [];
  connections = [];
}

/** The log as that user's role opens it. */
function open(user: string, password = passwordOf(user)): NatsLog {
  const log = new NatsLog({ servers: [nats.url], user, password, manageStream: user === 'registrar' });
  logs.push(log);
  return log;
}

/** Past the log: a client that tries what the log never would. */
async function connectAs(user: string): Promise<NatsConnection> {
  const connection = await connect({
    servers: nats.url,
    user,
    pass: passwordOf(user),
    inboxPrefix: `_INBOX.${user}`,
    reconnect: false,
  });
  connections.push(connection);
  return connection;
}

let events = 0;
function makeEvent(node: string): Publication {
  events += 1;
  return { node, type: 'instance.started', id: `${node}/1/${events}`, data: `{"number":${events}}` };
}

async function readAll(log: NatsLog): Promise<string[]> {
  const found: string[] = [];
  for await (const batch of log.read({ from: 1, follow: false }))
    found.push(...batch.map(({ node, data }) => `${node} ${data}`));
  return found;
}

/** What the log holds, by the word of the one user who surely may read it. */
const held = (): Promise<string[]> => readAll(open('registrar'));

describe('an agent', () => {
  test.each(NODES)('publishes as its own node: %s', async (node) => {
    const event = makeEvent(node);
    await open(node).publish(event);
    expect(await held()).toContain(`${node} ${event.data}`);
  });

  test('is refused as another node, and the log has nothing of it', async () => {
    const before = await held();
    const log = open('n1');
    const attempt = log.publish(makeEvent('n2'));
    await expect(attempt).rejects.toThrow(ConfigError);
    await expect(attempt).rejects.toThrow(/no permission for elastic-dns\.events\.n2/);
    expect(await held()).toEqual(before);
    // And goes on as itself.
    await log.publish(makeEvent('n1'));
  });

  test.each(['n10', 'n', 'N1'])('is refused as a node of a similar name: %s', async (node) => {
    await expect(open('n1').publish(makeEvent(node))).rejects.toThrow(ConfigError);
  });

  test('may not read, not even its own events', async () => {
    await open('n1').publish(makeEvent('n1'));
    await expect(readAll(open('n1'))).rejects.toThrow(ConfigError);
    await expect(open('n1').info()).rejects.toThrow(ConfigError);
  });
});

describe('the registrar', () => {
  test('reads what all nodes have published', async () => {
    const published = NODES.map(makeEvent);
    await Promise.all(published.map((event) => open(event.node).publish(event)));
    expect(await held()).toEqual(
      expect.arrayContaining(published.map(({ node, data }) => `${node} ${data}`)),
    );
  });

  test('may not publish in the name of a node', async () => {
    const before = await held();
    await expect(open('registrar').publish(makeEvent('n1'))).rejects.toThrow(ConfigError);
    expect(await held()).toEqual(before);
  });
});

describe('a reader', () => {
  test('reads the same as the registrar', async () => {
    await open('n1').publish(makeEvent('n1'));
    expect(await readAll(open('reader'))).toEqual(await held());
  });

  test('may not publish, and may not make a stream', async () => {
    await expect(open('reader').publish(makeEvent('n1'))).rejects.toThrow(ConfigError);
    const log = new NatsLog({ servers: [nats.url], user: 'reader', password: passwordOf('reader') });
    logs.push(log);
    // It is there already, so nothing has to be made.
    expect((await log.info()).last).toBeGreaterThan(0);
    const manager = await (await connectAs('reader')).jetstreamManager({ checkAPI: false });
    await expect(manager.streams.add({ name: 'OTHER', subjects: ['other.>'] })).rejects.toThrow(
      /Permissions Violation/,
    );
  });
});

describe.each(USERS)('the user %s', (user) => {
  test('may not change, empty or delete the stream, nor take a message out of it', async () => {
    const before = await held();
    const manager = await (await connectAs(user)).jetstreamManager({ checkAPI: false });
    for (const attempt of [
      () => manager.streams.delete(STREAM),
      () => manager.streams.purge(STREAM),
      () => manager.streams.deleteMessage(STREAM, 1),
      () => manager.streams.update(STREAM, { max_age: 1e9 }),
    ]) {
      await expect(attempt()).rejects.toThrow(/Permissions Violation/);
    }
    expect(before.length).toBeGreaterThan(0);
    expect(await held()).toEqual(before);
  });

  test("hears neither events nor other users' answers", async () => {
    const connection = await connectAs(user);
    const others = USERS.filter((other) => other !== user).map((other) => `_INBOX.${other}.>`);
    for (const subject of ['>', '_INBOX.>', 'elastic-dns.events.>', '$JS.>', ...others]) {
      const refused = Promise.withResolvers<Error | null>();
      connection.subscribe(subject, { callback: (error) => refused.resolve(error) });
      await connection.flush();
      expect(String(await refused.promise), subject).toMatch(/Permissions Violation/);
    }
  });
});

test('nobody comes in without a password, or with a wrong one', async () => {
  const anonymous = new NatsLog({ servers: [nats.url], manageStream: false });
  logs.push(anonymous);
  await expect(anonymous.publish(makeEvent('n1'))).rejects.toThrow(ConfigError);
  await expect(open('n1', passwordOf('n2')).publish(makeEvent('n1'))).rejects.toThrow(ConfigError);
});

describe('a reload', () => {
  const edit = (file: string, change: (text: string) => string): void => {
    const full = path.join(nats.folder, file);
    writeFileSync(full, change(readFileSync(full, 'utf8')));
    sendSignal(nats.pid, 'SIGHUP');
  };

  test('takes in a node whose line was copied from another, while the others go on', async () => {
    const log = open('n1');
    await log.publish(makeEvent('n1'));
    const added = open('web-7');
    await expect(added.publish(makeEvent('web-7'))).rejects.toThrow(ConfigError);
    appendFileSync(path.join(nats.folder, 'passwords.conf'), `web-7_password: "${passwordOf('web-7')}"\n`);
    edit('nats.conf', (text) =>
      text.replace(/^.*user: "n3".*\n/m, (line) => line + line.replaceAll('n3', 'web-7')),
    );
    await waitUntil(() => added.publish(makeEvent('web-7')), { what: 'the new node to be let in' });
    await expect(added.publish(makeEvent('n3'))).rejects.toThrow(ConfigError);
    await log.publish(makeEvent('n1'));
  });

  test('puts out a client whose password was changed, and lets in the new one', async () => {
    const log = open('n2');
    await log.publish(makeEvent('n2'));
    edit('passwords.conf', (text) => text.replace(passwordOf('n2'), 'another-0123456789abcdef'));
    // Its events wait, as its next password may be on its way.
    await waitUntil(
      async () => {
        const error = await log.publish(makeEvent('n2')).catch((thrown: unknown) => thrown);
        return error instanceof UnavailableError;
      },
      { what: 'the old password to be refused', timeoutMs: 20_000 },
    );
    await expect(open('n2').publish(makeEvent('n2'))).rejects.toThrow(ConfigError);
    await open('n2', 'another-0123456789abcdef').publish(makeEvent('n2'));
    writeNatsPasswords(nats.folder);
    sendSignal(nats.pid, 'SIGHUP');
    await waitUntil(() => log.publish(makeEvent('n2')), { what: 'the first password to be taken again' });
  });
});
