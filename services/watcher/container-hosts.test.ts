import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PlayedEngine } from '@elastic-dns/engine/trace';
import { UnavailableError, view, type Container, type Registry } from '@elastic-dns/model';
import { sampleContainerId } from '@elastic-dns/model/samples';
import { VirtualClock } from '@elastic-dns/runtime';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ContainerHosts, ownHostsPath } from './container-hosts.ts';
import { parseHosts } from './hosts-text.ts';
import { Renderer } from './render.ts';
import { instanceRecord, registryOf } from './samples.ts';

const ENGINE_LINES = '127.0.0.1\tlocalhost\n172.17.0.2\t0c1f2a3b4c5d\n';
const SHOP = { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'api' };

let folder: string;
let clock: VirtualClock;
let engine: PlayedEngine;
let registry: Registry;
let hosts: ContainerHosts;
let ending: AbortController;
let running: Promise<unknown>;
let atNs = 0n;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'container-hosts-'));
  clock = new VirtualClock(1_000_000);
  engine = new PlayedEngine({ name: 'played', version: '1' });
  registry = registryOf([
    instanceRecord(1, { namespace: 'shop', service: 'api' }),
    instanceRecord(2, { namespace: 'blog', service: 'api' }),
  ]);
  begin();
});

afterEach(async () => {
  ending.abort();
  await clock.advance(1_000);
  await running;
  rmSync(folder, { recursive: true });
});

function begin(): void {
  const renderer = new Renderer(registry);
  const observer = { wrote: () => undefined, guarded: () => undefined };
  hosts = new ContainerHosts({ engine, renderer, observer, clock, poke: () => undefined });
  ending = new AbortController();
  running = hosts.run(ending.signal, () => undefined).catch((error: unknown) => error);
}

function container(number: number, overrides: Partial<Container> = {}): Container {
  const id = sampleContainerId(number);
  return {
    id,
    name: `c${number}`,
    labels: SHOP,
    status: 'running',
    health: 'none',
    startedAtMs: 1,
    hostNetwork: false,
    networks: [],
    ports: [],
    stopSignal: 15,
    hostsPath: path.join(folder, 'containers', id, 'hosts'),
    ...overrides,
  };
}

/** What the engine does to the file at every start. */
function makeFile({ hostsPath }: Container): void {
  mkdirSync(path.dirname(hostsPath ?? ''), { recursive: true });
  writeFileSync(hostsPath ?? '', ENGINE_LINES);
}

type Kind = 'start' | 'die' | 'destroy';
function play(kind: Kind | 'connect' | 'disconnect', { id }: Container, after?: Container | null): void {
  const base = { containerId: id, atNs: ++atNs };
  if (kind === 'connect' || kind === 'disconnect') engine.play({ ...base, kind, network: 'bridge' }, after);
  else if (kind === 'die') engine.play({ ...base, kind, exitCode: 0 }, after);
  else engine.play({ ...base, kind }, after);
}

/** Lets what is due happen: events, waits, writings. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) {
    await clock.advance(20);
    hosts.flush(clock.now());
  }
}

const read = ({ hostsPath }: Container): string => readFileSync(hostsPath ?? '', 'utf8');
const named = (text: string): unknown =>
  parseHosts(text)
    .filter(({ names }) => names.some((name) => name.includes('.')))
    .sort((a, b) => (String(a.names) < String(b.names) ? -1 : 1));
const viewOf = (namespace: string | null): unknown => named(viewText(namespace));
const viewText = (namespace: string | null): string =>
  view(registry, { namespace })
    .flatMap(({ names, addresses }) => addresses.map((address) => `${address} ${names.join(' ')}`))
    .join('\n');

describe("containers' hosts files", () => {
  it('are written at the first network event, before the container starts', async () => {
    const api = container(1, { status: 'created' });
    await settle();
    makeFile(api);
    play('connect', api, api);
    await settle();
    expect(named(read(api))).toEqual(viewOf('shop'));
    expect(read(api).startsWith(ENGINE_LINES)).toBe(true);
    expect(hosts.size).toBe(1);
  });

  it('are written for what runs already when the watcher starts', async () => {
    const api = container(1);
    makeFile(api);
    play('start', api, api);
    ending.abort();
    await running;
    begin();
    await settle();
    expect(hosts.isConnected).toBe(true);
    expect(named(read(api))).toEqual(viewOf('shop'));
  });

  it('are written again when the container starts again and the engine has made the file anew', async () => {
    const api = container(1);
    await settle();
    makeFile(api);
    play('connect', api, api);
    await settle();
    play('die', api, { ...api, status: 'exited' });
    await settle();
    expect(hosts.size).toBe(0);
    makeFile(api);
    play('connect', api, api);
    await settle();
    expect(named(read(api))).toEqual(viewOf('shop'));
  });

  it('are written again when the engine has made the file anew without a word', async () => {
    const api = container(1);
    await settle();
    makeFile(api);
    play('connect', api, api);
    await settle();
    makeFile(api);
    hosts.look();
    await settle();
    expect(named(read(api))).toEqual(viewOf('shop'));
  });

  it('have bare names of the own namespace only, and none where the container has no namespace', async () => {
    const api = container(1);
    const job = container(2, { labels: { 'com.docker.compose.project': 'blog' } });
    const stray = container(3, { labels: {} });
    await settle();
    for (const each of [api, job, stray]) {
      makeFile(each);
      play('connect', each, each);
    }
    await settle();
    expect(named(read(api))).toEqual(viewOf('shop'));
    expect(named(read(job))).toEqual(viewOf('blog'));
    expect(named(read(stray))).toEqual(viewOf(null));
    expect(read(stray)).not.toMatch(/ api /);
  });

  it('are left alone where a label says ignore, and where the file is not the container’s own', async () => {
    const ignored = container(1, { labels: { ...SHOP, 'elastic-dns.ignore': 'true' } });
    const mounted = container(2, { hostsPath: path.join(folder, 'etc-hosts') });
    await settle();
    for (const each of [ignored, mounted]) {
      makeFile(each);
      play('connect', each, each);
    }
    await settle();
    expect(hosts.size).toBe(0);
    expect(read(ignored)).toBe(ENGINE_LINES);
    expect(read(mounted)).toBe(ENGINE_LINES);
  });

  it('go on being kept while the engine is out of sight', async () => {
    const api = container(1);
    await settle();
    makeFile(api);
    play('connect', api, api);
    await settle();
    await engine.close();
    expect(await running).toBeInstanceOf(UnavailableError);
    expect(hosts.isConnected).toBe(false);
    makeFile(api);
    hosts.look();
    await settle();
    expect(named(read(api))).toEqual(viewOf('shop'));
  });

  it('are dropped for what ended while the engine was out of sight; events during a list know better than it', async () => {
    const [gone, stays, comes, ends] = [container(1), container(2), container(3), container(4)];
    await settle();
    for (const each of [gone, stays]) {
      makeFile(each);
      play('connect', each, each);
    }
    await settle();
    expect(hosts.size).toBe(2);
    await engine.close();
    await running;
    play('die', gone, { ...gone, status: 'exited' });
    const listed = [...(await engine.list()), ends];
    let answer: (containers: Container[]) => void = () => undefined;
    vi.spyOn(engine, 'list').mockImplementation(() => new Promise((resolve) => (answer = resolve)));
    running = hosts.run(ending.signal, () => undefined).catch((error: unknown) => error);
    await settle();
    makeFile(comes);
    play('connect', comes, comes);
    play('die', ends, { ...ends, status: 'exited' });
    await settle();
    answer(listed);
    await settle();
    expect(hosts.size).toBe(2);
    expect(named(read(comes))).toEqual(viewOf('shop'));
    expect(hosts.problems).toEqual([]);
  });

  it('end the loop with the engine’s own error when it cannot be asked', async () => {
    vi.spyOn(engine, 'peek').mockRejectedValue(new UnavailableError('cannot be asked'));
    await settle();
    play('connect', container(1), container(1));
    expect(await running).toMatchObject({ message: 'cannot be asked' });
  });
});

describe('ownHostsPath', () => {
  it.each([
    ['/var/lib/docker/containers/ID/hosts', true],
    ['/run/containers/storage/overlay-containers/ID/userdata/hosts', true],
    ['/etc/hosts', false],
    ['/var/lib/docker/containers/OTHER/hosts', false],
    ['/var/lib/docker/containers/ID/../../../../../etc/hosts', false],
    ['/etc/ID', false],
    ['containers/ID/hosts', false],
  ])('takes %s: %s', (template, taken) => {
    const { id } = container(1);
    const hostsPath = template.replace('ID', id).replace('OTHER', sampleContainerId(2));
    expect(ownHostsPath(container(1, { hostsPath }))).toBe(taken ? hostsPath : null);
  });

  it('takes none from a container that has none', () => {
    expect(ownHostsPath(container(1, { hostsPath: null }))).toBeNull();
  });
});
