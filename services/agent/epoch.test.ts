import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ConfigError } from '@elastic-dns/model';
import { createLogger } from '@elastic-dns/runtime';
import { claimEpoch } from './epoch.ts';

const logger = createLogger({ level: 'silent' });
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'epoch-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('grows from start to start, also when the clock was set back', async () => {
  expect(await claimEpoch(folder, 'n1', 5_000.7, logger)).toBe(5_000);
  expect(await claimEpoch(folder, 'n1', 4_000, logger)).toBe(5_001);
  expect(await claimEpoch(folder, 'n1', 5_001, logger)).toBe(5_002);
  expect(await claimEpoch(folder, 'n1', 9_000, logger)).toBe(9_000);
  expect(readFileSync(join(folder, 'agent-n1.epoch'), 'utf8')).toBe('9000\n');
  expect(readdirSync(folder)).toEqual(['agent-n1.epoch']);
});

test("is a node's own, as several nodes may share a folder", async () => {
  expect(await claimEpoch(folder, 'n1', 5_000, logger)).toBe(5_000);
  expect(await claimEpoch(folder, 'n2', 4_000, logger)).toBe(4_000);
});

test('is the time when the file was damaged', async () => {
  for (const text of ['', 'x', '-3', '1e400', '9007199254740991']) {
    writeFileSync(join(folder, 'agent-n1.epoch'), text);
    expect(await claimEpoch(folder, 'n1', 5_000, logger)).toBe(5_000);
  }
});

test('cannot be claimed where it cannot be kept', async () => {
  await expect(claimEpoch(join(folder, 'missing'), 'n1', 5_000, logger)).rejects.toBeInstanceOf(ConfigError);
});
