import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
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
import { parseHosts } from './hosts-text.ts';
import { InPlaceFile } from './in-place-file.ts';
import { NodeFile, replaceFile } from './node-file.ts';
import { Renderer } from './render.ts';
import { instanceRecord, registryOf } from './samples.ts';
import { readStamp } from './stamp.ts';

const BEFORE = '127.0.0.1 localhost\n192.0.2.7 printer # upstairs\n';

let folder: string;
let file: string;
let registry: Registry;
let renderer: Renderer;
let node: NodeFile;
let nowMs: number;
let seen: { wrote: number; guarded: number };

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'node-file-'));
  file = path.join(folder, 'hosts');
  writeFileSync(file, BEFORE);
  registry = registryOf([instanceRecord(1, { namespace: 'shop' })]);
  nowMs = 1_000_000;
  begin();
});

afterEach(() => rmSync(folder, { recursive: true }));

function begin(): void {
  renderer = new Renderer(registry);
  seen = { wrote: 0, guarded: 0 };
  node = new NodeFile(file, renderer, { wrote: () => void seen.wrote++, guarded: () => void seen.guarded++ });
}

function change(record: StoreRecord): void {
  const change = emptyChange();
  change.puts.set(keyOf(record), record);
  const touched = touchedServices(registry, change);
  registry.apply(change);
  node.touch(renderer.update(touched));
}

/** Flushes until there is nothing to wait for, at most a few times. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) {
    const due = await node.flush(nowMs);
    if (due === null) return;
    nowMs = Math.max(nowMs, due);
  }
}

const read = (): string => readFileSync(file, 'utf8');
const ours = (): unknown => parseHosts(read()).filter(({ names }) => names[0]?.includes('.'));

describe("the node's own hosts file", () => {
  it('are ours as well where an engine has copied the file into a container of the host network', async () => {
    await settle();
    const copy = path.join(folder, 'copy');
    writeFileSync(copy, readFileSync(file));
    const empty = new Renderer(registryOf([])).sourceFor({ namespace: 'shop' });
    const container = new InPlaceFile(copy, empty, { wrote: () => undefined, guarded: () => undefined });
    expect(parseHosts(readFileSync(copy, 'utf8'))).toContainEqual(view(registry, { namespace: null })[0]);
    for (let due: number | null = nowMs; due !== null; due = container.flush(nowMs)) nowMs = due;
    expect(parseHosts(readFileSync(copy, 'utf8'))).toEqual(parseHosts(BEFORE));
  });

  it('gets a block with the view of the node, which has no bare names, and keeps every other byte (S8)', async () => {
    await settle();
    expect(read().startsWith(BEFORE)).toBe(true);
    expect(ours()).toEqual(view(registry, { namespace: null }));
    expect(read()).not.toMatch(/ api /);
    change(instanceRecord(2, { namespace: 'shop', service: 'web' }));
    await settle();
    expect(ours()).toEqual(view(registry, { namespace: null }));
    expect(readdirSync(folder)).toEqual(['hosts']);
  });

  it('keeps owner and mode, and the link that leads to it', async () => {
    const target = path.join(folder, 'elsewhere', 'hosts');
    mkdirSync(path.dirname(target));
    writeFileSync(target, BEFORE);
    chmodSync(target, 0o640);
    if (process.getuid?.() === 0) chownSync(target, 1234, 4321);
    const { uid, gid, mode } = statSync(target);
    rmSync(file);
    symlinkSync('elsewhere/hosts', file);
    begin();
    await settle();
    expect(readlinkSync(file)).toBe('elsewhere/hosts');
    expect(statSync(target)).toMatchObject({ uid, gid, mode });
    expect(ours()).toEqual(view(registry, { namespace: null }));
  });

  it('is not written again when it is right already', async () => {
    await settle();
    const { ino } = statSync(file);
    begin();
    await settle();
    node.look();
    await settle();
    expect(statSync(file).ino).toBe(ino);
    expect(seen.wrote).toBe(0);
  });

  it('is left alone until it has stayed as it is for a while', async () => {
    await settle();
    writeFileSync(file, `${read()}192.0.2.8 scanner\n`);
    node.look();
    change(instanceRecord(2, { namespace: 'shop', service: 'web' }));
    const due = (await node.flush(nowMs)) ?? 0;
    expect(due).toBeGreaterThan(nowMs);
    expect(parseHosts(read())).not.toContainEqual({ names: ['web.shop'], addresses: ['10.0.97.2'] });
    writeFileSync(file, `${read()}192.0.2.9 plotter\n`);
    expect(await node.flush(due)).toBe(2 * due - nowMs);
    await settle();
    expect(read()).toContain('192.0.2.8 scanner\n192.0.2.9 plotter\n');
    expect(ours()).toEqual(view(registry, { namespace: null }));
  });

  it('is healed when its block was edited or taken out', async () => {
    await settle();
    const right = read();
    for (const harmed of [right.replace('10.0.97.1', '10.6.6.6'), BEFORE]) {
      writeFileSync(file, harmed);
      node.look();
      await settle();
      expect(read()).toBe(right);
    }
  });

  it('is made when it is missing for longer than an editor needs', async () => {
    await settle();
    rmSync(file);
    node.look();
    const due = (await node.flush(nowMs)) ?? 0;
    expect(readdirSync(folder)).toEqual([]);
    await node.flush(due);
    expect(ours()).toEqual(view(registry, { namespace: null }));
  });

  it('is kept as it is when its markers are damaged, with the reason, until a person has mended it', async () => {
    const damaged = `${BEFORE}# BEGIN elastic-dns\n10.0.0.1 api.shop\n`;
    writeFileSync(file, damaged);
    await settle();
    expect(read()).toBe(damaged);
    expect(node.problems).toEqual([
      {
        path: file,
        kind: 'refused',
        why: expect.stringContaining('has 1 lines "# BEGIN elastic-dns" and 0'),
      },
    ]);
    writeFileSync(file, BEFORE);
    nowMs += 1_000;
    await settle();
    expect(node.problems).toEqual([]);
    expect(ours()).toEqual(view(registry, { namespace: null }));
  });

  it('is written in place, line by line, when it has a second name that a rename would split off', async () => {
    linkSync(file, path.join(folder, 'second'));
    await settle();
    await settle();
    expect(statSync(file).nlink).toBe(2);
    expect(ours()).toEqual(view(registry, { namespace: null }));
    change(instanceRecord(2, { namespace: 'shop', service: 'web' }));
    await settle();
    expect(ours()).toEqual(view(registry, { namespace: null }));
    expect(readFileSync(path.join(folder, 'second'), 'utf8')).toBe(read());
    expect(read().startsWith(BEFORE)).toBe(true);
  });
});

describe('replaceFile', () => {
  it('does not touch a file that was saved after it was read, and leaves nothing behind', async () => {
    const stamp = readStamp(file);
    writeFileSync(file, `${BEFORE}192.0.2.8 scanner\n`);
    expect(await replaceFile(file, stamp, 'lost?\n')).toBe('changed');
    expect(read()).toBe(`${BEFORE}192.0.2.8 scanner\n`);
    expect(readdirSync(folder)).toEqual(['hosts']);
  });

  it('does not make a file that somebody else has made meanwhile', async () => {
    expect(await replaceFile(file, null, 'lost?\n')).toBe('changed');
    expect(read()).toBe(BEFORE);
  });
});
