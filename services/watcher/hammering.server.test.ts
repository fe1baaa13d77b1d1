/** What readers see of a file while it is written in place, on the file systems that hosts files lie on. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { emptyChange, keyOf, touchedServices, view } from '@elastic-dns/model';
import { assertNoneLeft, checkLeaks, listHoldings } from '@elastic-dns/testkit/leaks';
import { endProcess, spawnProcess } from '@elastic-dns/testkit/processes';
import { createRun, removeRun, type Run } from '@elastic-dns/testkit/run';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hammer, linesOfRound, openRounds } from './hammer.ts';
import { NamespaceHosts } from './hosts-file.ts';
import { parseHosts } from './hosts-text.ts';
import { InPlaceFile } from './in-place-file.ts';
import { readMarked, splitLines } from './marked-line.ts';
import { Renderer } from './render.ts';
import { instanceRecord, registryOf } from './samples.ts';

const ENGINE_LINES = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n172.17.0.2\t0c1f2a3b4c5d\n';
/** As musl, glibc and Go read. */
const CHUNKS = [1_024, 4_096, 65_536];
const HAMMER_MS = 3_000;

let run: Run;
let holdings: string[];
beforeAll(() => {
  holdings = listHoldings();
  run = createRun();
});
afterAll(async () => {
  await removeRun(run);
  await assertNoneLeft(holdings);
});
checkLeaks();

describe.each([
  ['on the disk', tmpdir()],
  ['on tmpfs', '/dev/shm'],
])('a hosts file that is written in place %s', (_, root) => {
  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(root, 'hammering-'));
    file = path.join(folder, 'hosts');
    writeFileSync(file, ENGINE_LINES);
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const readers = () => {
    const calm = linesOfRound(0).get('calm.shop') ?? [];
    const reader = { path: file, stays: calm, answers: 'busy.shop', withEngine: false };
    return CHUNKS.map((chunkBytes) => ({ ...reader, chunkBytes }));
  };

  it.each([
    ['100 times a second', 10],
    ['as often as timers allow', 1],
  ])('shows no short read, no broken line and every name while it is written %s', async (_, pauseMs) => {
    const rounds = openRounds(file);
    rounds.show(0, 0);
    await waitUntil(() => rounds.show(0, Date.now()) === null, { what: 'the first lines' });
    const hammering = await hammer(readers());
    const beganMs = Date.now();
    let round = 1;
    for (; Date.now() < beganMs + HAMMER_MS; round++) {
      rounds.show(round, Date.now());
      await sleep(Math.max(0, beganMs + round * pauseMs - Date.now()));
    }
    const findings = await hammering.end();
    console.log(`${root}, ${round} updates: ${JSON.stringify(findings)}`);
    expect(findings).toMatchObject({ cut: 0, missed: 0, broken: [] });
    expect(findings.changes).toBeGreaterThan(50);
    expect(rounds.file.problem).toBeNull();
  });

  it('is whole whenever its writer is killed (-9), and healed by the next one', async () => {
    for (let kill = 0; kill < 12; kill++) {
      const writer = await spawnProcess(run, [
        process.execPath,
        path.join(import.meta.dirname, 'hammer.ts'),
        file,
        String(kill * 1_000),
      ]);
      const before = readFileSync(file);
      await waitUntil(() => writer.stdout().includes('writes') && !readFileSync(file).equals(before), {
        what: 'the writer to write',
        unless: () => (writer.state() === 'gone' ? writer.stderr() : undefined),
      });
      await endProcess(writer.pid, 'SIGKILL');
      expect((await writer.exited).signal).toBe('SIGKILL');
      const readings = [...splitLines(readFileSync(file))].map(({ text }) => ({ text, ...readMarked(text) }));
      expect(readings.filter(({ kind }) => kind === 'broken')).toEqual([]);
      const foreign = readings.filter(({ kind }) => kind === 'foreign');
      expect(foreign.map(({ text }) => `${text}\n`).join('')).toBe(ENGINE_LINES);
      const standing = readings.map(({ text }) => text.replace(/ +# elastic-dns$/, ''));
      expect(standing).toEqual(expect.arrayContaining(linesOfRound(0).get('calm.shop') ?? []));
    }
    const rounds = openRounds(file);
    await waitUntil(() => rounds.show(7, Date.now()) === null, { what: 'the next writer to be done' });
    const lines = [...splitLines(readFileSync(file))].flatMap(({ text }) => {
      const reading = readMarked(text);
      return reading.kind === 'answer' ? [reading.line] : [];
    });
    expect(lines.sort()).toEqual([...linesOfRound(7).values()].flat().sort());
  });
});

describe('on a disk that is full', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'full-disk-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', folder]);
  });
  afterEach(() => {
    execFileSync('umount', [folder]);
    rmSync(folder, { recursive: true });
  });
  const fill = (): void => {
    expect(() => writeFileSync(path.join(folder, 'filler'), Buffer.alloc(1 << 20))).toThrow('ENOSPC');
  };
  const makeRoom = (): void => rmSync(path.join(folder, 'filler'));

  it('a file that is written in place loses what has to go, says what is wrong, and is right once there is room', async () => {
    const hosts = path.join(folder, 'hosts');
    writeFileSync(hosts, ENGINE_LINES);
    const lines = new Map([
      ['stays.shop', ['10.0.0.1 stays.shop']],
      ['goes.shop', ['10.0.0.2 goes.shop']],
    ]);
    const source = { keys: () => lines.keys(), linesOf: (key: string) => lines.get(key) ?? [] };
    const file = new InPlaceFile(hosts, source, { wrote: () => undefined, guarded: () => undefined });
    await waitUntil(() => file.flush(Date.now()) === null, { what: 'the first lines' });
    fill();
    lines.delete('goes.shop');
    file.touch('goes.shop');
    // More than a page of new lines.
    for (let number = 0; number < 100; number++) {
      lines.set(`new${number}.shop`, [`10.0.1.${number} new${number}.shop`]);
      file.touch(`new${number}.shop`);
    }
    file.flush(Date.now());
    expect(file.problem).toMatchObject({ path: hosts, kind: 'full' });
    const text = readFileSync(hosts, 'utf8');
    expect(text.startsWith(ENGINE_LINES)).toBe(true);
    expect(text).toContain('10.0.0.1 stays.shop ');
    expect(text).not.toMatch(/^10\.0\.0\.2 /m);
    expect([...splitLines(readFileSync(hosts))].map((line) => readMarked(line.text).kind)).not.toContain(
      'broken',
    );
    makeRoom();
    await waitUntil(() => file.flush(Date.now()) === null && file.problem === null, {
      what: 'the file to be right',
    });
    const ours = parseHosts(readFileSync(hosts, 'utf8')).filter(({ names }) => names[0]?.endsWith('.shop'));
    expect(ours).toHaveLength(101);
  });

  it('the files of namespaces stay as they were, whole, and are right once there is room', () => {
    const registry = registryOf([instanceRecord(1, { namespace: 'shop' })]);
    const renderer = new Renderer(registry);
    const files = new NamespaceHosts(path.join(folder, 'hosts'), renderer, { wrote: () => undefined });
    files.look();
    files.flush(0);
    const shop = path.join(folder, 'hosts', 'shop');
    const before = readFileSync(shop, 'utf8');
    fill();
    const change = emptyChange();
    for (let number = 2; number < 200; number++) {
      const record = instanceRecord(number, { namespace: 'shop', service: `s${number}` });
      change.puts.set(keyOf(record), record);
    }
    const touched = touchedServices(registry, change);
    registry.apply(change);
    files.touch(renderer.update(touched));
    expect(files.flush(0)).toBe(1_000);
    expect(files.problems).toMatchObject([{ path: shop, kind: 'full' }]);
    expect(readFileSync(shop, 'utf8')).toBe(before);
    expect(readdirSync(path.join(folder, 'hosts'))).toEqual(['shop']);
    makeRoom();
    expect(files.flush(1_000)).toBeNull();
    expect(files.problems).toEqual([]);
    expect(parseHosts(readFileSync(shop, 'utf8'))).toEqual(view(registry, { namespace: 'shop' }));
  });
});
