/**
 * Stands in for etcdctl where the machine has none: the words that deploy/etcd/roles.sh uses, and no other. Run by
 * deployment.ts through a script called `etcdctl`.
 */
import { readFileSync } from 'node:fs';
import { Etcd3 } from 'etcd3';

const words = process.argv.slice(2);
const [group = '', verb = '', name = '', ...rest] = words.filter((word) => !word.startsWith('--'));
const hosts = process.env['ETCDCTL_ENDPOINTS'] ?? 'http://127.0.0.1:2379';
const [username = '', password = ''] = (process.env['ETCDCTL_USER'] ?? '').split(':');

/** As etcdctl does it: credentials are no mistake while authentication is off. */
async function connect(): Promise<Etcd3> {
  const client = new Etcd3({ hosts });
  try {
    await client.auth.authenticate({ name: username, password });
  } catch (error) {
    if ((error as Error).message.includes('authentication is not enabled')) return client;
    throw error;
  }
  client.close();
  return new Etcd3({ hosts, auth: { username, password } });
}

function readPassword(): string {
  if (!words.includes('--interactive=false')) throw new Error('would ask for the password on the terminal');
  return readFileSync(0, 'utf8').trim();
}

function act({ auth }: Etcd3): Promise<unknown> {
  const [first = '', key = '', end = ''] = rest;
  switch (`${group} ${verb}`) {
    case 'user get':
      return auth.userGet({ name });
    case 'user add':
      return auth.userAdd({ name, password: readPassword() });
    case 'user passwd':
      return auth.userChangePassword({ name, password: readPassword() });
    case 'user grant-role':
      return auth.userGrantRole({ user: name, role: first });
    case 'role get':
      return auth.roleGet({ role: name });
    case 'role add':
      return auth.roleAdd({ name });
    case 'role grant-permission': {
      const permType = first === 'readwrite' ? 'Readwrite' : 'Read';
      const range = { key: Buffer.from(key), range_end: Buffer.from(end) };
      return auth.roleGrantPermission({ name, perm: { permType, ...range } });
    }
    case 'auth enable':
      return auth.authEnable();
    default:
      throw new Error(`unknown command: ${words.join(' ')}`);
  }
}

try {
  const client = await connect();
  await act(client);
  client.close();
} catch (error) {
  console.error(`Error: ${(error as Error).message}`);
  process.exit(1);
}
