import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseHosts } from './hosts-text.ts';
import { InPlaceFile } from './in-place-file.ts';
import { readMarked, splitLines } from './marked-line.ts';

const ENGINE_LINES = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n172.17.0.2\t0c1f2a3b4c5d\n';
const API = '10.0.0.1 api api.shop';

let folder: string;
let hosts: string;
let lines: Map<string, string[]>;
let seen: { wrote: number; guarded: number };
let file: InPlaceFile;
let nowMs: number;
/** What somebody else does at these moments: while it is planned what to write, and right after that was written. */
let meanwhile: { planning: () => void; writing: () => void };

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'in-place-'));
  hosts = path.join(folder, 'hosts');
  writeFileSync(hosts, ENGINE_LINES);
  lines = new Map([['api.shop', [API]]]);
  seen = { wrote: 0, guarded: 0 };
  nowMs = 1_000_000;
  meanwhile = { planning: () => undefined, writing: () => undefined };
  file = open(hosts);
});

afterEach(() => rmSync(folder, { recursive: true }));

function open(at: string): InPlaceFile {
  return new InPlaceFile(
    at,
    {
      keys: () => lines.keys(),
      linesOf: (key) => {
        meanwhile.planning();
        return lines.get(key) ?? [];
      },
    },
    {
      wrote: () => {
        seen.wrote++;
        meanwhile.writing();
      },
      guarded: () => void seen.guarded++,
    },
  );
}

/** Flushes until there is nothing to wait for, at most a few times. */
function settle(): void {
  for (let due = file.flush(nowMs), turn = 0; due !== null && turn < 5; due = file.flush(nowMs), turn++)
    nowMs = Math.max(nowMs, due);
}

function foreign(): string {
  return [...splitLines(readFileSync(hosts))]
    .filter(({ text }) => readMarked(text).kind === 'foreign')
    .map(({ text }) => `${text}\n`)
    .join('');
}

function addresses(name: string): string[] {
  return parseHosts(readFileSync(hosts, 'utf8')).find(({ names }) => names.includes(name))?.addresses ?? [];
}

describe('a file that is written in place', () => {
  it('gets its lines behind the foreign ones, in the same inode with the same mode', () => {
    const before = statSync(hosts);
    settle();
    expect(readFileSync(hosts, 'utf8').startsWith(ENGINE_LINES)).toBe(true);
    expect(addresses('api')).toEqual(['10.0.0.1']);
    expect(statSync(hosts)).toMatchObject({ ino: before.ino, mode: before.mode });
    expect(file.problem).toBeNull();
  });

  it('is not touched before it has stayed as it is for a while', () => {
    expect(file.flush(nowMs)).toBe(nowMs + 20);
    writeFileSync(hosts, `${ENGINE_LINES}10.9.9.9 new\n`);
    expect(file.flush(nowMs + 20)).toBe(nowMs + 40);
    expect(readFileSync(hosts, 'utf8')).toBe(`${ENGINE_LINES}10.9.9.9 new\n`);
    expect(file.flush(nowMs + 40)).toBeNull();
    expect(addresses('api')).toEqual(['10.0.0.1']);
  });

  it.each([
    ['is empty', ''],
    ['has no localhost line', '172.17.0.2\t0c1f2a3b4c5d\n'],
    ['ends in the middle of a line', '127.0.0.1\tlocalhost\n172.17'],
  ])('is left for a second when it looks half written: it %s', (_, half) => {
    writeFileSync(hosts, half);
    expect(file.flush(nowMs)).toBe(nowMs + 20);
    expect(file.flush(nowMs + 20)).toBe(nowMs + 1_000);
    expect(readFileSync(hosts, 'utf8')).toBe(half);
    file.flush(nowMs + 1_000);
    expect(addresses('api')).toEqual(['10.0.0.1']);
  });

  it('is written again when the engine has made it anew, and keeps what the engine says', () => {
    settle();
    writeFileSync(hosts, '127.0.0.1\tlocalhost\n172.18.0.7\t0c1f2a3b4c5d\n');
    file.look();
    settle();
    expect(foreign()).toBe('127.0.0.1\tlocalhost\n172.18.0.7\t0c1f2a3b4c5d\n');
    expect(addresses('api')).toEqual(['10.0.0.1']);
  });

  it('keeps lines that the engine or a person adds behind ours, and grows past them', () => {
    settle();
    appendFileSync(hosts, '172.19.0.2\t0c1f2a3b4c5d\n10.9.9.9 by-hand\n');
    for (let number = 1; number < 60; number++) {
      lines.set(`s${number}.shop`, [`10.0.1.${number} s${number}.shop`]);
      file.touch(`s${number}.shop`);
    }
    settle();
    expect(foreign()).toBe(`${ENGINE_LINES}172.19.0.2\t0c1f2a3b4c5d\n10.9.9.9 by-hand\n`);
    expect(addresses('s59.shop')).toEqual(['10.0.1.59']);
  });

  it('is healed where a person has changed our lines, and nothing else', () => {
    settle();
    const text = readFileSync(hosts, 'utf8').replace('10.0.0.1 api', '10.6.6.6 api');
    writeFileSync(hosts, `10.9.9.9 by-hand\n${text}`);
    file.look();
    settle();
    expect(addresses('api')).toEqual(['10.0.0.1']);
    expect(foreign()).toBe(`10.9.9.9 by-hand\n${ENGINE_LINES}`);
  });

  it('is seen to be changed by its stamp, also when size and time look the same', () => {
    settle();
    const { mtime, atime } = statSync(hosts);
    writeFileSync(hosts, readFileSync(hosts, 'utf8').replace('10.0.0.1 api', '10.6.6.6 api'));
    utimesSync(hosts, atime, mtime);
    file.look();
    settle();
    expect(addresses('api')).toEqual(['10.0.0.1']);
  });

  it.each(['planning', 'writing'] as const)(
    'is not written in wrong places when the engine rewrites it while the watcher is %s',
    (moment) => {
      settle();
      // The engine drops its own line, and everything behind it stands elsewhere from then on.
      meanwhile[moment] = () => {
        meanwhile[moment] = () => undefined;
        writeFileSync(hosts, readFileSync(hosts, 'utf8').replace('172.17.0.2\t0c1f2a3b4c5d\n', ''));
      };
      for (let round = 1; round < 40; round++) {
        lines.set('api.shop', [`10.0.1.${round} api api.shop`]);
        file.touch('api.shop');
        settle();
        expect(addresses('api')).toEqual([`10.0.1.${round}`]);
        expect(readFileSync(hosts, 'utf8')).not.toMatch(/[^ \n]+ *#.*# elastic-dns/);
        nowMs += 100;
      }
      expect(seen.guarded).toBe(1);
      expect(foreign()).toBe(ENGINE_LINES.replace('172.17.0.2\t0c1f2a3b4c5d\n', ''));
    },
  );

  it('is read again on request, whatever its stamp says', () => {
    settle();
    const { mtimeNs, atimeNs } = statSync(hosts, { bigint: true });
    writeFileSync(hosts, readFileSync(hosts, 'utf8').replace('10.0.0.1 api', '10.6.6.6 api'));
    utimesSync(hosts, Number(atimeNs) / 1e9, Number(mtimeNs) / 1e9);
    file.look();
    expect(file.flush(nowMs)).toBeNull();
    expect(addresses('api')).toEqual(['10.6.6.6']);
    file.reread();
    settle();
    expect(addresses('api')).toEqual(['10.0.0.1']);
  });

  it('is not written when it is right already', () => {
    settle();
    const before = readFileSync(hosts);
    const { mtimeNs } = statSync(hosts, { bigint: true });
    file.touch('api.shop');
    settle();
    file = open(hosts);
    settle();
    expect(readFileSync(hosts)).toEqual(before);
    expect(statSync(hosts, { bigint: true }).mtimeNs).toBe(mtimeNs);
    expect(seen.wrote).toBe(1);
  });

  it('is written at once when something changes while old lines still stay for late readers', () => {
    settle();
    let due: number | null = null;
    // Two instances that take turns: now and then all lines have to go back to earlier room.
    for (let round = 1; due === null && round < 200; round++) {
      nowMs += 10_000;
      lines.set('api.shop', [`10.0.1.${round} api api.shop`, `10.0.2.${round} api api.shop`]);
      file.touch('api.shop');
      due = file.flush(nowMs);
    }
    expect(due).toBe(nowMs + 20);
    lines.set('web.shop', ['10.0.0.9 web web.shop']);
    file.touch('web.shop');
    file.flush(nowMs);
    expect(addresses('web')).toEqual(['10.0.0.9']);
    file.flush(nowMs + 20);
    expect(addresses('api')).toHaveLength(2);
  });

  it('loses the lines of services that have gone, also of those that went while nobody watched', () => {
    settle();
    lines.delete('api.shop');
    file = open(hosts);
    settle();
    expect(addresses('api')).toEqual([]);
    expect(foreign()).toBe(ENGINE_LINES);
  });

  it('is waited for when it is missing, and written once it is back', () => {
    settle();
    rmSync(hosts);
    file.look();
    expect(file.flush(nowMs)).toBe(nowMs + 1_000);
    expect(file.problem).toMatchObject({ path: hosts, kind: 'missing' });
    writeFileSync(hosts, ENGINE_LINES);
    nowMs += 1_000;
    settle();
    expect(file.problem).toBeNull();
    expect(addresses('api')).toEqual(['10.0.0.1']);
  });

  it('is refused when it is anything but a file: a link, a pipe, a folder', () => {
    const target = path.join(folder, 'target');
    writeFileSync(target, ENGINE_LINES);
    symlinkSync(target, path.join(folder, 'link'));
    execFileSync('mkfifo', [path.join(folder, 'pipe')]);
    mkdirSync(path.join(folder, 'folder'));
    for (const name of ['link', 'pipe', 'folder']) {
      file = open(path.join(folder, name));
      settle();
      expect(file.problem).toMatchObject({ kind: 'refused' });
    }
    expect(readFileSync(target, 'utf8')).toBe(ENGINE_LINES);
  });
});
