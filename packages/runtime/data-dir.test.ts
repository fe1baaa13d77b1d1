import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
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
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ConfigError } from '@elastic-dns/model';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isDataDir, openDataDir, writeFileAtomic, type DataDir } from './data-dir.ts';

checkLeaks();

let folder: string;
const opened: DataDir[] = [];
const children: ChildProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'elastic-dns-data-dir-'));
});

afterEach(async () => {
  for (const dataDir of opened.splice(0)) dataDir.release();
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }
  rmSync(folder, { recursive: true, force: true });
});

function take(path = folder): DataDir {
  const dataDir = openDataDir(path);
  opened.push(dataDir);
  return dataDir;
}

/** Another process that takes the folder, says how that went, and holds it. */
async function takeElsewhere(path = folder): Promise<{ child: ChildProcess; said: string }> {
  const program = `
    const { openDataDir } = await import(${JSON.stringify(new URL('data-dir.ts', import.meta.url).href)});
    let said = 'taken';
    try { openDataDir(process.argv[1]); } catch (error) { said = error.message; }
    // Nothing refers to the lock any more; it has to be held all the same.
    for (let turn = 0; turn < 3; turn++) {
      gc();
      await new Promise((resolve) => setImmediate(resolve));
    }
    console.log(said);
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--expose-gc', '--input-type=module', '-e', program, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const [said] = (await once(createInterface(child.stdout), 'line')) as [string];
  return { child, said };
}

describe('openDataDir', () => {
  test('makes the folder for its user alone, parents included', () => {
    const path = join(folder, 'a', 'b');
    take(path);
    expect(statSync(path).mode & 0o777).toBe(0o700);
    expect(statSync(join(folder, 'a')).mode & 0o777).toBe(0o700);
  });

  test('refuses the folder of another process and names that process', async () => {
    const { child, said } = await takeElsewhere();
    expect(said).toBe('taken');
    expect(() => take()).toThrow(ConfigError);
    expect(() => take()).toThrow(`process ${child.pid}`);
  });

  test('refuses its own folder a second time, also to other processes', async () => {
    take();
    expect(() => take()).toThrow(`process ${process.pid}`);
    // The refusal has not let go of the lock by the way.
    expect((await takeElsewhere()).said).toContain(`process ${process.pid}`);
  });

  test('takes over at once from a process that was killed', async () => {
    const { child } = await takeElsewhere();
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    expect(await exited).toEqual([null, 'SIGKILL']);
    // What it left behind still names it, and that number may be anybody's by now.
    expect(readFileSync(join(folder, 'lock.pid'), 'utf8')).toBe(`${child.pid}\n`);
    take();
    expect((await takeElsewhere()).said).toContain(`process ${process.pid}`);
  });

  test("takes a free folder although its last holder's number belongs to a living process", () => {
    writeFileSync(join(folder, 'lock.pid'), `${process.ppid}\n`);
    expect(take().path).toBe(folder);
  });

  test('lets the next one in after a release', async () => {
    take().release();
    expect((await takeElsewhere()).said).toBe('taken');
  });

  test('gives one folder to one of many that start at the same time', async () => {
    const all = await Promise.all(Array.from({ length: 4 }, () => takeElsewhere()));
    expect(all.filter(({ said }) => said === 'taken')).toHaveLength(1);
  });

  test('is a ConfigError when the path is a file', () => {
    const path = join(folder, 'file');
    writeFileSync(path, '');
    expect(() => take(path)).toThrow(ConfigError);
    expect(() => take(path)).toThrow(path);
  });
});

describe('isDataDir', () => {
  test('is true of a folder that a process has opened, also after it has let go of it', () => {
    expect(isDataDir(folder)).toBe(false);
    take();
    expect(isDataDir(folder)).toBe(true);
    opened[0]?.release();
    expect(isDataDir(folder)).toBe(true);
  });

  test('is false of a folder that is not there', () => {
    expect(isDataDir(join(folder, 'none'))).toBe(false);
  });

  test('does not cost the holder its lock', async () => {
    take();
    isDataDir(folder);
    expect((await takeElsewhere()).said).toContain(`process ${process.pid}`);
  });

  test('is a ConfigError where one may not look', () => {
    const loop = join(folder, 'loop');
    symlinkSync(loop, loop);
    expect(() => isDataDir(loop)).toThrow(ConfigError);
  });
});

describe('writeFileAtomic', () => {
  test('replaces the content and leaves nothing else behind', async () => {
    const path = join(folder, 'state');
    await writeFileAtomic(path, 'old');
    await writeFileAtomic(path, 'new', { mode: 0o644 });
    expect(readFileSync(path, 'utf8')).toBe('new');
    expect(statSync(path).mode & 0o777).toBe(0o644);
    expect(readdirSync(folder)).toEqual(['state']);
  });

  test('keeps the old content when the new one cannot be put in place, and cleans up', async () => {
    const path = join(folder, 'state');
    mkdirSync(join(path, 'in-the-way'), { recursive: true });
    await expect(writeFileAtomic(path, 'new')).rejects.toThrow('rename');
    expect(existsSync(join(path, 'in-the-way'))).toBe(true);
    expect(readdirSync(folder)).toEqual(['state']);
  });

  test('never shows a reader a part of a file, however many write it', async () => {
    const path = join(folder, 'state');
    const contents = ['a', 'b'].map((letter) => letter.repeat(200_000));
    await writeFileAtomic(path, contents[0] ?? '');
    const seen = new Set<string>();
    const writing = new AbortController();
    const reading = (async () => {
      while (!writing.signal.aborted) {
        seen.add(readFileSync(path, 'utf8'));
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    for (let round = 0; round < 20; round++) {
      await Promise.all(contents.map((content) => writeFileAtomic(path, content)));
    }
    writing.abort();
    await reading;
    expect([...seen].every((text) => contents.includes(text))).toBe(true);
  });

  test('says so when the folder is missing', async () => {
    await expect(writeFileAtomic(join(folder, 'no', 'state'), '')).rejects.toThrow('ENOENT');
  });
});
