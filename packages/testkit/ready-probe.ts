/**
 * A program: `ready-probe.ts <kind> <host> <port>` ends with 0 when that server answers. Run by server-bodies inside
 * the network namespace of a server that cannot be reached from here.
 */
import { isReady, type ServerKind } from './server-kinds.ts';

const [kind = '', host = '', port = ''] = process.argv.slice(2);
process.exitCode = (await isReady(kind as ServerKind, host, Number(port))) ? 0 : 1;
