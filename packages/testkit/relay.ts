/**
 * A program: `relay.ts <from> <to>` listens at one endpoint and carries each connection to the other, until it is
 * ended. An endpoint is `host:port` or the path of a Unix socket. Run by lab inside a network namespace: Unix sockets
 * are the one way between namespaces that needs no route.
 */
import { startFaultProxy, type Endpoint } from './fault-proxy.ts';

function endpoint(text = ''): Endpoint {
  if (text.startsWith('/')) return { path: text };
  const [host = '', port] = text.split(':');
  return { host, port: Number(port) };
}

await startFaultProxy(endpoint(process.argv[3]), endpoint(process.argv[2]));
process.stdout.write('listening\n');
