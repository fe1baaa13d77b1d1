import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PlayedEngine } from '@elastic-dns/engine/trace';
import { sampleContainerId } from '@elastic-dns/model/samples';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { clean } from './clean.ts';
import { NamespaceHosts } from './hosts-file.ts';
import { InPlaceFile } from './in-place-file.ts';
import { NodeFile } from './node-file.ts';
import { Renderer } from './render.ts';
import { instanceRecord, registryOf } from './samples.ts';

const ENGINE_LINES = '127.0.0.1\tlocalhost\n172.17.0.2\t0c1f2a3b4c5d\n';
const NODE_LINES = '127.0.0.1 localhost\n192.0.2.9 printer';

let folder: string;
let hostsDir: string;
let nodeHosts: string;
let hostsPath: string;
let engine: PlayedEngine;

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'clean-'));
  hostsDir = path.join(folder, 'hosts');
  nodeHosts = path.join(folder, 'node-hosts');
  const id = sampleContainerId(1);
  hostsPath = path.join(folder, id, 'hosts');
  engine = new PlayedEngine({ name: 'played', version: '1' });
  engine.play(
    { containerId: id, atNs: 1n, kind: 'start' },
    {
      id,
      name: 'c',
      labels: {},
      status: 'exited',
      health: 'none',
      startedAtMs: 1,
      hostNetwork: false,
      networks: [],
      ports: [],
      stopSignal: 15,
      hostsPath,
    },
  );
  mkdirSync(path.dirname(hostsPath));
  writeFileSync(nodeHosts, NODE_LINES);
  writeFileSync(hostsPath, ENGINE_LINES);
  // Everything that a watcher writes.
  const renderer = new Renderer(registryOf([instanceRecord(1), instanceRecord(2, { namespace: 'blog' })]));
  const observer = { wrote: () => undefined, guarded: () => undefined };
  const files = new NamespaceHosts(hostsDir, renderer, observer);
  files.look();
  const node = new NodeFile(nodeHosts, renderer, observer);
  const container = new InPlaceFile(hostsPath, renderer.sourceFor({ namespace: 'blog' }), observer);
  for (const nowMs of [0, 1_000, 2_000]) {
    files.flush(nowMs);
    await node.flush(nowMs);
    container.flush(nowMs);
  }
  expect(readFileSync(nodeHosts, 'utf8')).toContain('api.blog');
  expect(readFileSync(hostsPath, 'utf8')).toContain('api.blog');
});

afterEach(() => rmSync(folder, { recursive: true }));

describe('clean', () => {
  it('leaves every file as if nobody had ever written it, says which, and finds nothing the second time', async () => {
    writeFileSync(path.join(hostsDir, 'notes'), 'mine\n');
    expect(await clean({ hostsDir, nodeHosts, engine })).toEqual([
      { path: path.join(hostsDir, 'blog'), what: 'file removed' },
      { path: path.join(hostsDir, 'web-front-end'), what: 'file removed' },
      { path: nodeHosts, what: 'block removed' },
      { path: hostsPath, what: 'lines removed' },
    ]);
    expect(readdirSync(hostsDir)).toEqual(['notes']);
    expect(readFileSync(nodeHosts, 'utf8')).toBe(NODE_LINES);
    expect(readFileSync(hostsPath, 'utf8')).toBe(ENGINE_LINES);
    expect(await clean({ hostsDir, nodeHosts, engine })).toEqual([]);
  });

  it('keeps lines that the engine added behind ours', async () => {
    writeFileSync(hostsPath, `${readFileSync(hostsPath, 'utf8')}172.19.0.2\t0c1f2a3b4c5d\n`);
    await clean({ hostsDir, nodeHosts, engine });
    expect(readFileSync(hostsPath, 'utf8')).toBe(`${ENGINE_LINES}172.19.0.2\t0c1f2a3b4c5d\n`);
  });

  it('goes on where one file cannot be cleaned, and says why', async () => {
    writeFileSync(nodeHosts, '# BEGIN elastic-dns\n');
    const cleaned = await clean({ hostsDir, nodeHosts, engine });
    expect(cleaned).toContainEqual({ path: nodeHosts, what: expect.stringMatching(/^failed: .*by hand/) });
    expect(readFileSync(hostsPath, 'utf8')).toBe(ENGINE_LINES);
  });

  it('follows no link in the place of a container’s file', async () => {
    const target = path.join(folder, 'target');
    writeFileSync(target, readFileSync(hostsPath));
    rmSync(hostsPath);
    symlinkSync(target, hostsPath);
    const before = readFileSync(target);
    expect(await clean({ hostsDir, nodeHosts, engine })).toContainEqual({
      path: hostsPath,
      what: 'failed: is not a regular file',
    });
    expect(readFileSync(target)).toEqual(before);
  });

  it('does nothing where nothing was ever written', async () => {
    const none = path.join(folder, 'none');
    expect(await clean({ hostsDir: none, nodeHosts: none, engine: null })).toEqual([]);
    expect(await clean({ hostsDir: none, nodeHosts: null, engine: null })).toEqual([]);
  });
});
