import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeFolder } from './folder.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'folder-'));
});

afterEach(() => rmSync(folder, { recursive: true }));

describe('makeFolder', () => {
  it('makes all that is missing, with the mode, and leaves what is there', () => {
    const deep = join(folder, 'a', 'b', 'c');
    makeFolder(deep, 0o700);
    makeFolder(deep, 0o755);
    expect(statSync(deep).mode & 0o777).toBe(0o700);
  });

  it('takes a link that leads to a folder', () => {
    symlinkSync(tmpdir(), join(folder, 'link'));
    expect(() => makeFolder(join(folder, 'link'), 0o700)).not.toThrow();
  });

  it('says why where a file is in the way', () => {
    writeFileSync(join(folder, 'file'), '');
    expect(() => makeFolder(join(folder, 'file'), 0o700)).toThrow(/EEXIST/);
    expect(() => makeFolder(join(folder, 'file', 'b'), 0o700)).toThrow(/ENOTDIR|EEXIST/);
  });

  it('gives up where the system takes no folders', () => {
    expect(() => makeFolder('/proc/none', 0o700)).toThrow(/ENOENT/);
    expect(() => makeFolder('/proc/none/deeper', 0o700)).toThrow(/ENOENT/);
  });
});
