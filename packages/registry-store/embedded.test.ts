import { copyFileSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { ConfigError } from '@elastic-dns/model';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { spawnProcess } from '@elastic-dns/testkit/processes';
import { createRun, removeRun } from '@elastic-dns/testkit/run';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { campaign, changesIn, follow, readAll, storeContract } from './contract.ts';
import { EmbeddedStore } from './embedded.ts';

checkLeaks();

const createFolder = (): string => mkdtempSync(path.join(tmpdir(), 'registry-store-'));

storeContract('embedded', async () => {
  const folder = createFolder();
  const keptCommits = 1_000;
  return {
    open: () => new EmbeddedStore({ folder, keptCommits }),
    async compact(store, revision) {
      let now = 0n;
      while (now < revision + BigInt(keptCommits)) {
        now = await store.commit({ puts: [{ key: '/compact', value: '' }], deletes: [] });
      }
    },
    remove: async () => rmSync(folder, { recursive: true }),
  };
});

describe('embedded store', () => {
  const everything = { from: '/', to: '0' };
  let folder: string;
  let file: string;

  beforeEach(() => {
    folder = createFolder();
    file = path.join(folder, 'registry.sqlite');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const put = (store: EmbeddedStore, key: string, value = ''): Promise<bigint> =>
    store.commit({ puts: [{ key, value }], deletes: [] });

  test('has every acknowledged commit, whole, after its process was killed in the middle of commits, five times', async () => {
    const program = `
      import { EmbeddedStore } from './embedded.ts';
      const [folder, start] = process.argv.slice(1);
      const store = new EmbeddedStore({ folder });
      for (let count = Number(start); ; count++) {
        const entry = { key: '/entries/' + String(count).padStart(6, '0'), value: String(count) };
        const revision = await store.commit({ puts: [entry, { key: '/count', value: String(count) }], deletes: [] });
        console.log(count + ' ' + revision);
      }`;
    const run = createRun();
    try {
      let start = 0;
      for (let kill = 0; kill < 5; kill++) {
        const writer = await spawnProcess(
          run,
          [process.execPath, '--input-type=module-typescript', '--eval', program, folder, String(start)],
          { cwd: import.meta.dirname, name: 'writer' },
        );
        const acknowledged = (): string[] => writer.stdout().split('\n').slice(0, -1);
        await waitUntil(() => acknowledged().length > 100, { what: `commits of writer ${kill}` });
        expect((await writer.kill()).signal).toBe('SIGKILL');
        const [count, revision] = acknowledged().at(-1)?.split(' ') ?? [];

        const store = new EmbeddedStore({ folder });
        const state = await readAll(store, everything);
        const [total, ...entries] = state.entries;
        // One commit more may be in: the one whose acknowledgement the kill has cut off.
        expect(Number(total?.value)).toBeGreaterThanOrEqual(Number(count));
        expect(Number(total?.value)).toBeLessThanOrEqual(Number(count) + 1);
        expect(state.revision).toBeGreaterThanOrEqual(BigInt(revision ?? 0));
        expect(entries.map(({ value }) => Number(value))).toEqual(entries.map((_, index) => index));
        expect(entries.length).toBe(Number(total?.value) + 1);
        // What can be watched is what can be read.
        const changes = changesIn(
          await follow(store, everything, 1n, (seen) => seen.at(-1)?.revision === state.revision),
        );
        expect(changes.filter(({ key }) => key === '/count').map(({ value }) => Number(value))).toEqual(
          entries.map((_, index) => index),
        );
        start = entries.length;
        await store.close();
      }
    } finally {
      await removeRun(run);
    }
  });

  test('keeps keys, revisions and history when it is opened again', async () => {
    const before = new EmbeddedStore({ folder });
    const first = await put(before, '/a', 'one');
    const second = await put(before, '/a', 'two');
    await before.close();
    const after = new EmbeddedStore({ folder });
    expect(await after.get('/a')).toEqual({ key: '/a', value: 'two', revision: second });
    const batches = await follow(after, everything, first - 1n, () => true);
    expect(changesIn(batches).map(({ value }) => value)).toEqual(['one', 'two']);
    expect(await put(after, '/a', 'three')).toBe(second + 1n);
    await after.close();
  });

  test('takes over at once from a leader whose process ended, and fences that one', async () => {
    const before = new EmbeddedStore({ folder });
    const dead = await before.campaign(campaign('/leader', 'dead'));
    // As the file is after a crash: nobody has resigned.
    const copy = createFolder();
    copyFileSync(file, path.join(copy, 'registry.sqlite'));
    copyFileSync(`${file}-wal`, path.join(copy, 'registry.sqlite-wal'));
    await before.close();
    const after = new EmbeddedStore({ folder: copy });
    expect((await after.get('/leader'))?.value).toBe('dead');
    const leadership = await after.campaign(campaign('/leader', 'alive'));
    expect(leadership.token).toBeGreaterThan(dead.token);
    await expect(
      after.commit({ leadership: dead, puts: [{ key: '/a', value: '' }], deletes: [] }),
    ).rejects.toMatchObject({ code: 'FENCED' });
    await after.close();
    rmSync(copy, { recursive: true });
  });

  test('brings the revision of a watch forward when only other keys change', async () => {
    const store = new EmbeddedStore({ folder });
    const start = await put(store, '/quiet/a');
    const following = follow(
      store,
      { from: '/quiet/', to: '/quiet0' },
      start,
      (seen) => seen.at(-1)?.revision === start + 3n,
    );
    for (let other = 0; other < 3; other++) await put(store, '/busy/a', String(other));
    expect(changesIn(await following)).toEqual([]);
    await store.close();
  });

  test('keeps the history of the last commits only, and says what it no longer has', async () => {
    const store = new EmbeddedStore({ folder, keptCommits: 10 });
    for (let count = 0; count < 50; count++) await put(store, `/${count}`);
    const now = await put(store, '/last');
    expect(changesIn(await follow(store, everything, now - 10n, () => true)).length).toBe(10);
    await expect(follow(store, everything, now - 11n, () => true)).rejects.toMatchObject({
      code: 'COMPACTED',
    });
    await store.close();
    const database = new DatabaseSync(file);
    expect(database.prepare('SELECT count(*) AS count FROM changes').get()).toEqual({ count: 10 });
    database.close();
  });

  test('does not let a reader that has stopped half-way hold back writes or the closing', async () => {
    const store = new EmbeddedStore({ folder });
    await put(store, '/a');
    const pages = store.read(everything)[Symbol.asyncIterator]();
    await pages.next();
    await put(store, '/b');
    await store.close();
    await expect(pages.next()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(readdirSync(folder)).toEqual(['registry.sqlite']);
  });

  test('makes the folder that it is told, for its owner only', async () => {
    const deep = path.join(folder, 'data', 'registry');
    await new EmbeddedStore({ folder: deep }).close();
    expect(statSync(deep).mode & 0o777).toBe(0o700);
  });

  test.each([
    {
      what: 'of a newer schema',
      make: () => withDatabase(file, 'PRAGMA user_version = 2'),
      message: /has schema 2, this program knows schema 1: use the newer program/,
    },
    {
      what: 'with somebody else’s tables',
      make: () => {
        rmSync(file);
        withDatabase(file, 'CREATE TABLE theirs (a)');
      },
      message: /is a database, but not a registry/,
    },
    {
      what: 'that is not a database',
      make: () => writeFileSync(file, 'key: value\n'.repeat(1_000)),
      message: /cannot be used: file is not a database/,
    },
    {
      what: 'in a folder that cannot be made',
      make: () => {
        rmSync(folder, { recursive: true });
        writeFileSync(folder, '');
      },
      message: /cannot be used: E(EXIST|NOTDIR)/,
    },
  ])('refuses a file $what, and leaves it as it is', async ({ make, message }) => {
    await new EmbeddedStore({ folder }).close();
    make();
    const before = statSync(folder).isDirectory() ? readdirSync(folder) : [];
    expect(() => new EmbeddedStore({ folder })).toThrow(ConfigError);
    expect(() => new EmbeddedStore({ folder })).toThrow(message);
    expect(statSync(folder).isDirectory() ? readdirSync(folder) : []).toEqual(before);
  });
});

function withDatabase(file: string, sql: string): void {
  const database = new DatabaseSync(file);
  database.exec(sql);
  database.close();
}
