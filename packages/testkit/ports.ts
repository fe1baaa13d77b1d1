/**
 * TCP ports on loopback that stay the test's own while its server is down, so that a server comes back on the port
 * that its clients know. Called by servers and fault-proxy.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';

/** Below the range (from 32768) out of which the kernel gives outgoing connections their ports. */
const FIRST = 20_000;
const COUNT = 12_000;

export interface ReservedPort {
  readonly port: number;
  release(): Promise<void>;
}

/**
 * Reserves a port that nobody listens on. Between the tests of this machine the reservation is an abstract Unix
 * socket of that name: it goes with its process, however that ends.
 */
export async function reservePort(): Promise<ReservedPort> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    const reservation = await listen({ path: `\0elastic-dns-test-port-${port}` });
    if (reservation === undefined) continue;
    const probe = await listen({ host: '127.0.0.1', port });
    if (probe !== undefined) {
      await close(probe);
      return { port, release: () => close(reservation) };
    }
    await close(reservation);
  }
  throw new Error(`no free port between ${FIRST} and ${FIRST + COUNT} on loopback`);
}

async function listen(where: { path: string } | { host: string; port: number }): Promise<Server | undefined> {
  const server = createServer();
  server.unref();
  server.listen(where);
  try {
    await once(server, 'listening');
    return server;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return undefined;
    throw error;
  }
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  server.close();
  await once(server, 'close');
}
