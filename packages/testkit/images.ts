/**
 * Images without a registry: a tar of the host's own programs with the libraries that they need, built in memory and
 * imported. Called by servers (etcd, nats, redis) and by tests that run workloads (app).
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { access, readFile, realpath } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { pack } from 'tar-stream';
import type { Docker } from './docker.ts';

const execute = promisify(execFile);

export type ImageName = 'etcd' | 'nats' | 'redis' | 'app';

/** The host's programs in each image. `app` is what containers of a user's application are played by. */
const PROGRAMS: Record<ImageName, readonly string[]> = {
  etcd: ['etcd'],
  nats: ['nats-server'],
  redis: ['redis-server'],
  app: ['getent'],
};

/** As in Debian's images: hosts files first, and every address of a name. */
const TEXTS: Record<string, string> = {
  'etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
  'etc/host.conf': 'multi on\n',
  'etc/passwd': 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n',
  'etc/group': 'root:x:0:\nnogroup:x:65534:\n',
};

/**
 * `serve [port]` is a web server that ends at once on SIGTERM; its page `/cgi-bin/who` tells who met whom. Ask it with
 * `timeout 2 wget`: Debian's busybox crashes in `wget -T`.
 */
const SCRIPTS: Record<string, string> = {
  'usr/bin/serve': '#!/bin/sh\ntrap \'exit 0\' TERM\nhttpd -f -p "0.0.0.0:${1:-3000}" -h /srv &\nwait\n',
  'srv/cgi-bin/who':
    '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\necho "$HOSTNAME met $REMOTE_ADDR"\n',
};
const CHANGES = ['CMD ["serve"]', 'ENV PATH=/usr/bin:/bin'];
const FOLDERS = ['tmp', 'srv', 'var', 'run', 'proc', 'sys', 'dev', 'usr/bin', 'bin', 'etc'];

type Entry =
  | { kind: 'folder'; name: string }
  | { kind: 'file'; name: string; content: Buffer; mode: number }
  | { kind: 'link'; name: string; target: string };

interface Recipe {
  tag: string;
  entries: Entry[];
}

const recipes = new Map<ImageName, Promise<Recipe>>();

/**
 * Sees to it that the engine has the image, and returns its tag: `elastic-dns-test/<name>:<hash of its content>`.
 * Inside: the program, busybox (`sh`, `nc`, `httpd`, `wget`, ...) and `serve`. `app` adds `getent`, which resolves
 * as any program with glibc does; the default command is `serve`.
 */
export async function ensureImage(docker: Docker, name: ImageName): Promise<string> {
  let reading = recipes.get(name);
  if (reading === undefined) {
    reading = readRecipe(name);
    recipes.set(name, reading);
  }
  const recipe = await reading;
  if (!(await docker.hasImage(recipe.tag))) {
    await docker.importImage(recipe.tag, tarOf(recipe.entries), CHANGES);
  }
  return recipe.tag;
}

async function readRecipe(name: ImageName): Promise<Recipe> {
  const files = new Map<string, string>();
  for (const program of PROGRAMS[name]) {
    const source = await findProgram(program);
    files.set(`usr/bin/${program}`, source);
    for (const library of await librariesOf(source)) files.set(library.slice(1), library);
  }
  const busybox = await findProgram('busybox');
  if ((await librariesOf(busybox)).length > 0)
    throw new Error(`${busybox} is not static: install busybox-static`);
  files.set('bin/busybox', busybox);
  const applets = (await execute(busybox, ['--list'])).stdout
    .split('\n')
    .filter((applet) => applet !== 'busybox');
  const entries: Entry[] = [
    ...FOLDERS.map((folder): Entry => ({ kind: 'folder', name: folder })),
    ...Object.entries(TEXTS).map(([file, text]) => fileEntry(file, Buffer.from(text), 0o644)),
    ...Object.entries(SCRIPTS).map(([file, text]) => fileEntry(file, Buffer.from(text), 0o755)),
    ...applets
      .filter(Boolean)
      .map((applet): Entry => ({ kind: 'link', name: `bin/${applet}`, target: 'busybox' })),
  ];
  for (const [file, source] of files) entries.push(fileEntry(file, await readFile(source), 0o755));
  return { tag: `elastic-dns-test/${name}:${hashOf(entries)}`, entries };
}

function fileEntry(name: string, content: Buffer, mode: number): Entry {
  return { kind: 'file', name, content, mode };
}

function hashOf(entries: readonly Entry[]): string {
  const hash = createHash('sha256');
  for (const entry of entries) {
    hash.update(`${entry.kind} ${entry.name} ${entry.kind === 'link' ? entry.target : ''}\0`);
    if (entry.kind === 'file') hash.update(entry.content);
  }
  return hash.digest('hex').slice(0, 12);
}

function tarOf(entries: readonly Entry[]): Readable {
  const tar = pack();
  for (const entry of entries) {
    const header = { name: entry.name, mtime: new Date(0) };
    if (entry.kind === 'folder') tar.entry({ ...header, type: 'directory', mode: 0o755 });
    if (entry.kind === 'link') tar.entry({ ...header, type: 'symlink', linkname: entry.target });
    if (entry.kind === 'file') tar.entry({ ...header, mode: entry.mode }, entry.content);
  }
  tar.finalize();
  return Readable.from(tar);
}

async function findProgram(program: string): Promise<string> {
  for (const folder of ['/usr/bin', '/usr/sbin', '/bin', '/sbin', '/usr/local/bin']) {
    const file = path.join(folder, program);
    try {
      await access(file, constants.X_OK);
      return await realpath(file);
    } catch {
      continue;
    }
  }
  throw new Error(`the tests need ${program}, which is not installed`);
}

/** The paths of the dynamic linker and of all libraries that it would load; none for a static program. */
async function librariesOf(program: string): Promise<string[]> {
  try {
    const { stdout } = await execute('ldd', [program]);
    if (stdout.includes('not found')) throw new Error(`${program} lacks a library:\n${stdout}`);
    return [...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? '');
  } catch (error) {
    if (String((error as { stderr?: string }).stderr).includes('not a dynamic executable')) return [];
    throw error;
  }
}
