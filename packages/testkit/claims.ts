/**
 * Claims of names between the test processes of one machine. A claim is an abstract Unix socket of that name: it
 * goes with its process, however that ends. Called by ports and run.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';

export type Release = () => Promise<void>;

/** Claims the name; undefined when another process, or another part of this one, holds it. */
export async function claim(name: string): Promise<Release | undefined> {
  const server = await listen({ path: `\0elastic-dns-test-${name}` });
  return server === undefined ? undefined : () => close(server);
}

/** A server that listens there and does not keep the process alive; undefined when something listens already. */
export async function listen(
  where: { path: string } | { host: string; port: number },
): Promise<Server | undefined> {
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

/** Safe to repeat. */
export async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  server.close();
  await once(server, 'close');
}
