/**
 * TCP ports on loopback that stay the test's own while its server is down, so that a server comes back on the port
 * that its clients know. Called by servers and fault-proxy.
 */
import { claim, close, listen, type Release } from './claims.ts';

/** Below the range (from 32768) out of which the kernel gives outgoing connections their ports. */
const FIRST = 20_000;
const COUNT = 12_000;

export interface ReservedPort {
  readonly port: number;
  release: Release;
}

/** Claims a port that nobody listens on. */
export async function reservePort(): Promise<ReservedPort> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    const release = await claim(`port-${port}`);
    if (release === undefined) continue;
    const probe = await listen({ host: '127.0.0.1', port });
    if (probe !== undefined) {
      await close(probe);
      return { port, release };
    }
    await release();
  }
  throw new Error(`no free port between ${FIRST} and ${FIRST + COUNT} on loopback`);
}
