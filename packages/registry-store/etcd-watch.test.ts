/**
 * The watch against a server that says what the test tells it to: what real servers say only after ten minutes, or
 * once in a blue moon.
 */
import { createRequire } from 'node:module';
import { loadPackageDefinition, Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { CompactedError, ConfigError, UnavailableError } from '@elastic-dns/model';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { expect, test } from 'vitest';
import { EtcdStore } from './etcd.ts';
import { useCleanup } from './fixture.ts';
import type { WatchBatch } from './store.ts';

checkLeaks();
const closing = useCleanup();

type Stream = ServerDuplexStream<{ create_request?: Record<string, unknown> }, Record<string, unknown>>;

/** Told by a member that may lag behind: reads are answered at revision 5,000. */
const created = { watch_id: 0, created: true, header: { revision: 100 } };
const event = (key: string, revision: number): Record<string, unknown> => ({
  type: 'PUT',
  kv: { key: Buffer.from(key), value: Buffer.from('v'), mod_revision: revision },
});

/** Plays the scripts to the watches that are opened, one each; returns the requests that it got. */
async function startScript(
  ...scripts: ((stream: Stream) => void)[]
): Promise<{ store: EtcdStore; requests: Record<string, unknown>[] }> {
  const proto = createRequire(import.meta.url).resolve('etcd3/proto/rpc.proto');
  const definition = loadPackageDefinition(
    loadSync(proto, { keepCase: true, enums: String, defaults: true }),
  );
  const { etcdserverpb } = definition as unknown as {
    etcdserverpb: Record<'KV' | 'Watch', { service: Parameters<Server['addService']>[0] }>;
  };
  const requests: Record<string, unknown>[] = [];
  const server = new Server();
  server.addService(etcdserverpb.Watch.service, {
    watch(stream: Stream) {
      stream.on('error', () => {});
      stream.on('data', ({ create_request }) => {
        requests.push(create_request ?? {});
        scripts.shift()?.(stream);
      });
    },
  });
  server.addService(etcdserverpb.KV.service, {
    range: (_call: unknown, reply: (error: null, value: unknown) => void) =>
      reply(null, { header: { revision: 5_000 }, kvs: [] }),
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  closing(server, async () => server.forceShutdown());
  const store = closing(new EtcdStore({ endpoints: [`http://127.0.0.1:${port}`] }), (one) => one.close());
  return { store, requests };
}

/** The first batches of a watch of everything. */
async function take(store: EtcdStore, after: bigint, count: number): Promise<WatchBatch[]> {
  const batches: WatchBatch[] = [];
  for await (const batch of store.watch({ from: '/', to: '0' }, after, AbortSignal.timeout(15_000))) {
    if (batches.push(batch) === count) break;
  }
  return batches;
}

test('brings its revision forward when the server says how far it is, and resumes from there', async () => {
  const { store, requests } = await startScript(
    (stream) => {
      stream.write(created);
      stream.write({ watch_id: 0, header: { revision: 90 } });
      stream.write({ watch_id: 0, header: { revision: 120 } });
      stream.write({ watch_id: 0, header: { revision: 120 } });
      stream.end();
    },
    (stream) => {
      stream.write(created);
      stream.write({ watch_id: 0, header: { revision: 130 }, events: [event('/a', 125)] });
    },
  );
  expect(await take(store, 100n, 2)).toEqual([
    { revision: 120n, changes: [] },
    { revision: 125n, changes: [{ key: '/a', value: 'v', revision: 125n }] },
  ]);
  expect(requests.map((request) => [String(request['start_revision']), request['progress_notify']])).toEqual([
    ['101', true],
    ['121', true],
  ]);
});

test('resumes behind the last event that it was given, not behind what the server was at', async () => {
  const { store, requests } = await startScript(
    (stream) => {
      stream.write(created);
      stream.write({
        watch_id: 0,
        header: { revision: 5_000 },
        events: [event('/a', 101), event('/b', 102)],
      });
      stream.end();
    },
    (stream) => {
      stream.write(created);
      stream.write({ watch_id: 0, header: { revision: 5_000 }, events: [event('/c', 103)] });
    },
  );
  const batches = await take(store, 100n, 2);
  expect(batches.map(({ revision }) => revision)).toEqual([102n, 103n]);
  expect(requests.map((request) => String(request['start_revision']))).toEqual(['101', '103']);
});

test('tries again when the server takes the request and never answers it', async () => {
  const { store, requests } = await startScript(
    () => {},
    (stream) => {
      stream.write(created);
      stream.write({ watch_id: 0, header: { revision: 101 }, events: [event('/a', 101)] });
    },
  );
  expect((await take(store, 100n, 1))[0]?.revision).toBe(101n);
  expect(requests.length).toBe(2);
});

test.each([
  [
    'compacted, told with the creation',
    { canceled: true, created: true, compact_revision: 200 },
    CompactedError,
  ],
  ['compacted, told later', { canceled: true, compact_revision: 200 }, CompactedError],
  [
    'not permitted',
    { canceled: true, cancel_reason: 'rpc error: etcdserver: permission denied' },
    ConfigError,
  ],
])('ends when it is cancelled: %s', async (_, cancel, error) => {
  const { store } = await startScript((stream) => {
    if (!('created' in cancel)) stream.write(created);
    stream.write({ watch_id: 0, header: { revision: 300 }, ...cancel });
  });
  await expect(take(store, 100n, 1)).rejects.toThrow(error);
});

test('gives up after its own tries when it is cancelled without a reason again and again', async () => {
  const cancel = (stream: Stream): void => {
    stream.write({ watch_id: 0, header: { revision: 100 }, canceled: true });
  };
  const { store, requests } = await startScript(...Array.from({ length: 500 }, () => cancel));
  await expect(take(store, 100n, 1)).rejects.toThrow(UnavailableError);
  expect(requests.length).toBeGreaterThan(3);
  expect(requests.length).toBeLessThan(100);
});
