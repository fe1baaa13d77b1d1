import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync, StatementSync } from 'node:sqlite';
import { ConfigError, UnavailableError } from '@elastic-dns/model';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { logContract } from './contract.ts';
import { EmbeddedLog } from './embedded.ts';
import { follow, makePublication, publishRange, readAll } from './samples.ts';

/** Counts the events that leave the file: every row of every read, whether it is handed on or not. */
function countRows(): { taken: () => number; restore: () => void } {
  let taken = 0;
  const original = Object.getOwnPropertyDescriptor(StatementSync.prototype, 'iterate')?.value as (
    this: StatementSync,
    ...parameters: unknown[]
  ) => Iterable<object>;
  const spy = vi.spyOn(StatementSync.prototype, 'iterate').mockImplementation(function* (
    this: StatementSync,
    ...parameters: unknown[]
  ) {
    for (const row of original.apply(this, parameters)) {
      if ('data' in row) taken += 1;
      yield row;
    }
  } as typeof StatementSync.prototype.iterate);
  return { taken: () => taken, restore: () => spy.mockRestore() };
}

const makeFolder = (): string => mkdtempSync(join(tmpdir(), 'elastic-dns-log-'));

logContract('embedded', async () => {
  const folder = makeFolder();
  const rows = countRows();
  return {
    open: (retention) => new EmbeddedLog({ folder, ...retention }),
    countTaken: async () => rows.taken(),
    remove: async () => {
      rows.restore();
      rmSync(folder, { recursive: true, force: true });
    },
  };
});

let folder: string;
beforeEach(() => {
  folder = makeFolder();
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});

/** Publishes without end, 50 at a time, from the number that it is given, and tells each place as soon as it knows it. */
const WRITER = `
  import { writeSync } from 'node:fs';
  import { EmbeddedLog } from ${JSON.stringify(new URL('embedded.ts', import.meta.url).href)};
  const log = new EmbeddedLog({ folder: process.argv[1] });
  let number = Number(process.argv[2]);
  const work = async () => {
    for (;;) {
      const mine = number++;
      const data = JSON.stringify({ number: mine });
      const { sequence } = await log.publish({ node: 'n1', type: 'instance.started', id: 'n1/1/' + mine, data });
      writeSync(1, mine + ' ' + sequence + '\\n');
    }
  };
  await Promise.all(Array.from({ length: 50 }, work));
`;

test('has every event that it acknowledged when its process is killed in the middle', async () => {
  const acknowledged = new Map<number, number>();
  for (let round = 1; round <= 3; round++) {
    const before = acknowledged.size;
    const argv = ['--input-type=module', '--eval', WRITER, folder, String(round * 1_000_000)];
    const writer = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(writer, 'exit');
    let text = '';
    writer.stdout.on('data', (chunk: Buffer) => {
      text += String(chunk);
      if (text.split('\n').length > 1_000) writer.kill('SIGKILL');
    });
    await once(writer.stdout, 'end');
    // The proof: it did not end on its own, and it was at work.
    expect(await exited).toEqual([null, 'SIGKILL']);
    for (const line of text.split('\n').slice(0, -1)) {
      const [number, sequence] = line.split(' ').map(Number) as [number, number];
      acknowledged.set(number, sequence);
    }
    expect(acknowledged.size - before).toBeGreaterThanOrEqual(1_000);

    const log = new EmbeddedLog({ folder });
    const entries = await readAll(log);
    await log.close();
    const kept = new Map(entries.map(({ sequence, data }) => [sequence, data]));
    for (const [number, sequence] of acknowledged) expect(kept.get(sequence)).toBe(`{"number":${number}}`);
    expect(entries.map(({ sequence }) => sequence)).toEqual(entries.map((_, index) => index + 1));
  }
});

test('writes a burst of 10,000 in a dozen commits', async () => {
  const exec = vi.spyOn(DatabaseSync.prototype, 'exec');
  const log = new EmbeddedLog({ folder });
  exec.mockClear();
  await publishRange(log, 1, 10_000);
  const commits = exec.mock.calls.filter(([sql]) => sql === 'COMMIT').length;
  await log.close();
  expect(commits).toBeLessThanOrEqual(12);
});

test('writes what waits when it is closed', async () => {
  const log = new EmbeddedLog({ folder });
  const publishing = publishRange(log, 1, 2_500);
  await log.close();
  await publishing;
  const again = new EmbeddedLog({ folder });
  expect(await again.info()).toMatchObject({ first: 1, last: 2_500 });
  await again.close();
});

test('drops events that are too old, and forgets their ids two minutes after they came', async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  const log = new EmbeddedLog({ folder, maxAgeMs: 120_000 });
  await publishRange(log, 1, 10);
  vi.advanceTimersByTime(60_000);
  await publishRange(log, 11, 20);
  vi.advanceTimersByTime(60_001);
  await log.publish(makePublication(21));
  expect(await log.info()).toMatchObject({ first: 11, last: 21 });
  expect((await readAll(log)).map(({ sequence }) => sequence)).toEqual(
    Array.from({ length: 11 }, (_, i) => 11 + i),
  );
  expect(await log.publish(makePublication(11))).toEqual({ sequence: 11, duplicate: true });
  expect(await log.publish(makePublication(1))).toEqual({ sequence: 22, duplicate: false });
  await log.close();
});

test('refuses a file that is not an event log, and leaves it as it is', () => {
  const foreign = new DatabaseSync(join(folder, 'event-log.db'));
  foreign.exec('CREATE TABLE theirs (a); PRAGMA user_version = 1');
  foreign.close();
  expect(() => new EmbeddedLog({ folder })).toThrow(/is not an event log/);
  const still = new DatabaseSync(join(folder, 'event-log.db'));
  expect(still.prepare('SELECT name FROM sqlite_schema').all()).toMatchObject([{ name: 'theirs' }]);
  expect(still.prepare('PRAGMA journal_mode').get()).toMatchObject({ journal_mode: 'delete' });
  still.close();
  writeFileSync(join(folder, 'event-log.db'), 'no database at all, but more than a hundred bytes'.repeat(3));
  expect(() => new EmbeddedLog({ folder })).toThrow(ConfigError);
});

test('refuses a file of a newer program', async () => {
  await new EmbeddedLog({ folder }).close();
  const file = new DatabaseSync(join(folder, 'event-log.db'));
  file.exec('PRAGMA user_version = 2');
  file.close();
  expect(() => new EmbeddedLog({ folder })).toThrow(/schema 2; this program knows 1/);
});

test('refuses a folder that it cannot use, and retention that no log can keep', () => {
  writeFileSync(join(folder, 'file'), '');
  expect(() => new EmbeddedLog({ folder: join(folder, 'file') })).toThrow(ConfigError);
  expect(() => new EmbeddedLog({ folder, maxAgeMs: 119_999 })).toThrow(ConfigError);
  expect(() => new EmbeddedLog({ folder, maxBytes: 1_000_000 })).toThrow(ConfigError);
});

test('is another incarnation when its file was deleted', async () => {
  const log = new EmbeddedLog({ folder });
  const { incarnation } = await log.info();
  await log.close();
  rmSync(folder, { recursive: true });
  const again = new EmbeddedLog({ folder });
  expect((await again.info()).incarnation).not.toBe(incarnation);
  await expect(readAll(again, { incarnation })).rejects.toThrow(/the log is/);
  await again.close();
});

test('is unavailable while another process holds the file, and writes nothing of what it then refuses', async () => {
  const log = new EmbeddedLog({ folder });
  await log.publish(makePublication(1));
  const reader = follow(log);
  const other = new DatabaseSync(join(folder, 'event-log.db'));
  other.exec('BEGIN IMMEDIATE');
  const refused = await Promise.allSettled([
    log.publish(makePublication(2)),
    log.publish(makePublication(3)),
  ]);
  other.exec('ROLLBACK');
  other.close();
  for (const result of refused)
    expect(result).toMatchObject({ reason: expect.any(UnavailableError) as Error });
  expect(await log.publish(makePublication(2))).toEqual({ sequence: 2, duplicate: false });
  await vi.waitFor(() => expect(reader.sequences()).toEqual([1, 2]));
  await reader.stop();
  await log.close();
});

test('takes all of what is written together or nothing of it', async () => {
  const log = new EmbeddedLog({ folder });
  const other = new DatabaseSync(join(folder, 'event-log.db'));
  other.exec(`CREATE TRIGGER fault BEFORE INSERT ON events WHEN NEW.node = 'bad'
    BEGIN SELECT RAISE(ABORT, 'planted fault'); END`);
  const nodes = ['good', 'bad', 'good'];
  const results = await Promise.allSettled(
    nodes.map((node, number) => log.publish(makePublication(number, node))),
  );
  for (const result of results) {
    expect(result).toMatchObject({
      reason: { code: 'UNAVAILABLE', message: expect.stringContaining('planted') as string },
    });
  }
  expect(await log.info()).toMatchObject({ last: 0 });
  other.exec('DROP TRIGGER fault');
  other.close();
  expect(await log.publish(makePublication(1, 'bad'))).toEqual({ sequence: 1, duplicate: false });
  expect((await readAll(log)).length).toBe(1);
  await log.close();
});
