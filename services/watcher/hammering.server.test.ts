/** What readers see of a file while it is written in place, on the file systems that hosts files lie on. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertNoneLeft, checkLeaks, listHoldings } from '@elastic-dns/testkit/leaks';
import { endProcess, spawnProcess } from '@elastic-dns/testkit/processes';
import { createRun, removeRun, type Run } from '@elastic-dns/testkit/run';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hammer, linesOfRound, openRounds } from './hammer.ts';
import { readMarked, splitLines } from './marked-line.ts';

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
      await sleep(Math.random() * 30);
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

  it('says so when the disk is full, keeps what it has, and goes on when there is room', async () => {
    const mount = path.join(folder, 'tiny');
    execFileSync('mkdir', [mount]);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', mount]);
    try {
      file = path.join(mount, 'hosts');
      writeFileSync(file, ENGINE_LINES);
      const filler = path.join(mount, 'filler');
      const rounds = openRounds(file);
      expect(() => writeFileSync(filler, Buffer.alloc(1 << 20))).toThrow('ENOSPC');
      await waitUntil(() => (rounds.show(0, Date.now()), rounds.file.problem?.kind === 'full'), {
        what: 'the disk to be found full',
      });
      const readings = [...splitLines(readFileSync(file))].map(({ text }) => readMarked(text).kind);
      expect(readings).not.toContain('broken');
      expect(readFileSync(file, 'utf8').startsWith(ENGINE_LINES)).toBe(true);
      rmSync(filler);
      await waitUntil(() => rounds.show(0, Date.now()) === null && rounds.file.problem === null, {
        what: 'the file to be right',
      });
      expect(readFileSync(file, 'utf8')).toContain('10.0.0.2 calm.shop ');
    } finally {
      execFileSync('umount', [mount]);
    }
  });
});
