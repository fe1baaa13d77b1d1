import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  emptyChange,
  keyOf,
  touchedServices,
  view,
  type Registry,
  type StoreRecord,
} from '@elastic-dns/model';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NamespaceHosts, removeNamespaceHosts } from './hosts-file.ts';
import { parseHosts } from './hosts-text.ts';
import { Renderer } from './render.ts';
import { instanceRecord, registryOf } from './samples.ts';

let folder: string;
let hosts: string;
let registry: Registry;
let renderer: Renderer;
let files: NamespaceHosts;
let wrote: number;

const shop = instanceRecord(1, { namespace: 'shop', service: 'api' });
const blog = instanceRecord(2, { namespace: 'blog', service: 'api' });

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'namespace-hosts-'));
  hosts = path.join(folder, 'hosts');
  registry = registryOf([shop, blog]);
  begin();
});

afterEach(() => rmSync(folder, { recursive: true }));

/** As a process that has just started. */
function begin(): void {
  renderer = new Renderer(registry);
  wrote = 0;
  files = new NamespaceHosts(hosts, renderer, { wrote: () => void wrote++ });
  files.look();
}

function change(puts: StoreRecord[], deletes: StoreRecord[] = []): void {
  const change = emptyChange();
  for (const record of puts) change.puts.set(keyOf(record), record);
  for (const record of deletes) change.deletes.add(keyOf(record));
  const touched = touchedServices(registry, change);
  registry.apply(change);
  files.touch(renderer.update(touched));
}

const read = (namespace: string): string => readFileSync(path.join(hosts, namespace), 'utf8');

function expectViews(): void {
  expect(readdirSync(hosts).sort()).toEqual([...registry.namespaces.keys()].sort());
  for (const namespace of registry.namespaces.keys())
    expect(parseHosts(read(namespace))).toEqual(view(registry, { namespace }));
}

describe('the files of the namespaces', () => {
  it('say what a caller of each namespace sees, and follow every change', () => {
    expect(files.flush(0)).toBeNull();
    expectViews();
    change([instanceRecord(3, { namespace: 'shop', service: 'web' })]);
    expect(files.flush(0)).toBeNull();
    expectViews();
  });

  it('can be read by everybody, whatever mask the process has', () => {
    const mask = process.umask(0o077);
    try {
      files.flush(0);
    } finally {
      process.umask(mask);
    }
    expect(statSync(path.join(hosts, 'shop')).mode & 0o777).toBe(0o644);
  });

  it('are written again only when they say something else', () => {
    files.flush(0);
    expect(wrote).toBe(2);
    change([{ ...shop, logSequence: 9 }]);
    files.look();
    files.flush(0);
    expect(wrote).toBe(2);
    const before = statSync(path.join(hosts, 'shop'), { bigint: true });
    begin();
    files.flush(0);
    expect(wrote).toBe(0);
    expect(statSync(path.join(hosts, 'shop'), { bigint: true })).toMatchObject({
      ino: before.ino,
      mtimeNs: before.mtimeNs,
    });
  });

  it('are replaced, so that who has one open reads the old one to its end', () => {
    files.flush(0);
    const { ino } = statSync(path.join(hosts, 'shop'));
    change([instanceRecord(3, { namespace: 'shop', service: 'web' })]);
    files.flush(0);
    expect(statSync(path.join(hosts, 'shop')).ino).not.toBe(ino);
  });

  it('go with the last instance of their namespace, also while nobody watches', () => {
    files.flush(0);
    change([], [blog]);
    files.flush(0);
    expect(readdirSync(hosts)).toEqual(['shop']);
    registry = registryOf([instanceRecord(3, { namespace: 'third' })]);
    begin();
    files.flush(0);
    expect(readdirSync(hosts)).toEqual(['third']);
  });

  it.each([
    ['deleted', () => rmSync(path.join(hosts, 'shop'))],
    ['emptied', () => writeFileSync(path.join(hosts, 'shop'), '')],
    ['edited', () => writeFileSync(path.join(hosts, 'shop'), `${read('shop')}10.6.6.6 api\n`)],
    ['deleted with their folder', () => rmSync(hosts, { recursive: true })],
  ])('are written again when they were %s', (_, harm) => {
    files.flush(0);
    harm();
    files.look();
    expect(files.flush(0)).toBeNull();
    expectViews();
  });

  it('leave alone what others have put into the folder, and say so where it is in the way', () => {
    mkdirSync(hosts);
    const target = path.join(folder, 'target');
    writeFileSync(target, 'mine\n');
    writeFileSync(path.join(hosts, 'notes.txt'), 'mine\n');
    writeFileSync(path.join(hosts, 'old-namespace'), 'mine\n');
    writeFileSync(path.join(hosts, 'shop'), 'mine\n');
    symlinkSync(target, path.join(hosts, 'blog'));
    expect(files.flush(0)).toBe(1_000);
    expect(readdirSync(hosts).sort()).toEqual(['blog', 'notes.txt', 'old-namespace', 'shop']);
    for (const name of ['notes.txt', 'old-namespace', 'shop']) expect(read(name)).toBe('mine\n');
    expect(readFileSync(target, 'utf8')).toBe('mine\n');
    expect(files.problems.map(({ path: at, kind }) => `${path.basename(at)}: ${kind}`).sort()).toEqual([
      'blog: refused',
      'shop: refused',
    ]);
    rmSync(path.join(hosts, 'shop'));
    rmSync(path.join(hosts, 'blog'));
    files.flush(1_000);
    expect(files.problems).toEqual([]);
    expect(parseHosts(read('shop'))).toEqual(view(registry, { namespace: 'shop' }));
  });

  it('are made once the folder can be made', () => {
    writeFileSync(hosts, 'in the way\n');
    files.flush(0);
    expect(files.problems).not.toEqual([]);
    rmSync(hosts);
    files.look();
    files.flush(1_000);
    expect(files.problems).toEqual([]);
    expectViews();
  });

  it('sweep what a killed process was in the middle of', () => {
    files.flush(0);
    writeFileSync(path.join(hosts, '.shop.elastic-dns'), 'half');
    chmodSync(path.join(hosts, '.shop.elastic-dns'), 0o600);
    begin();
    files.flush(0);
    expect(readdirSync(hosts).sort()).toEqual(['blog', 'shop']);
  });

  it('come first where something has changed in their own namespace, and in slices where they are large', () => {
    const names = (namespace: string): StoreRecord[] =>
      Array.from({ length: 400 }, (_, index) =>
        instanceRecord(1_000 + index, { namespace, service: `${'s'.repeat(55)}${index}`, ipv4: '10.1.2.3' }),
      );
    registry = registryOf(
      [...names('a'), ...names('b'), ...names('z')].map((record, index) => ({
        ...record,
        ...(record.kind === 'instance' ? { instance: { ...record.instance, id: `node-a-${index}` } } : {}),
      })) as StoreRecord[],
    );
    begin();
    files.flush(0);
    expectViews();
    const order: string[] = [];
    change([instanceRecord(5, { namespace: 'z', service: 'api' })]);
    // A slice of its own for each file, as they are larger than what is left.
    const small = new NamespaceHosts(hosts, renderer, { wrote: () => void order.push('written') }, 1);
    small.touch([{ namespace: 'z', service: 'api' }]);
    expect(small.flush(7)).toBe(7);
    expect(order).toEqual(['written']);
    expect(parseHosts(read('z'))).toEqual(view(registry, { namespace: 'z' }));
    for (let due = small.flush(7); due !== null;) due = small.flush(7);
    expectViews();
  });
});

describe('removeNamespaceHosts', () => {
  it('takes away every file of ours and nothing else, and does nothing the second time', () => {
    files.flush(0);
    writeFileSync(path.join(hosts, 'notes'), 'mine\n');
    expect(removeNamespaceHosts(hosts).sort()).toEqual([path.join(hosts, 'blog'), path.join(hosts, 'shop')]);
    expect(readdirSync(hosts)).toEqual(['notes']);
    expect(removeNamespaceHosts(hosts)).toEqual([]);
    expect(removeNamespaceHosts(path.join(folder, 'none'))).toEqual([]);
  });
});
