/** Holds docs/cli.md to what the commands print. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EXIT_MEANINGS } from './exit-codes.ts';
import { fillDataDir, runCli } from './fixture.ts';

const document = readFileSync(new URL('../../docs/cli.md', import.meta.url), 'utf8');

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'elastic-dns-doc-'));
  await fillDataDir(folder);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The words in code font of a section, or of one entry of its list. */
function wordsOf(section: string, entry?: string): string[] {
  const text = document.split(/^## /m).find((part) => part.startsWith(section)) ?? '';
  const part =
    entry === undefined ? text : (text.split(/^- /m).find((item) => item.startsWith(`\`${entry}\``)) ?? '');
  return [...part.matchAll(/`([^`]+)`/g)].map(([, word]) => word ?? '');
}

test('has the exit codes with the meanings of --help', () => {
  for (const [code, meaning] of Object.entries(EXIT_MEANINGS)) {
    expect(document).toContain(`- \`${code}\`: ${meaning}\n`);
  }
});

test.each(['namespaces', 'services', 'instances', 'nodes', 'refused', 'set-aside'])(
  'names every field of `list %s`',
  async (kind) => {
    const { stdout } = await runCli(['list', kind, '--json', '--data-dir', folder]);
    const [row] = JSON.parse(stdout) as object[];
    expect(wordsOf('list', kind)).toEqual(expect.arrayContaining(Object.keys(row ?? { nothing: '' })));
  },
);

test.each([
  ['resolve', ['resolve', 'api.web-front-end']],
  ['events', ['events', '--limit', '1']],
  ['events', ['events', '--limit', '1', '--from', '2']],
  ['version', ['version']],
])('names every field of `%s`', async (section, argv) => {
  const { stdout } = await runCli([...argv, '--json', '--data-dir', folder]);
  expect(wordsOf(section)).toEqual(expect.arrayContaining(Object.keys(JSON.parse(stdout) as object)));
});

test.each([[[]], [['--reference']]])('names every field of `config`: %j', async (argv) => {
  const { stdout } = await runCli(['config', '--json', ...argv]);
  const [row] = JSON.parse(stdout) as object[];
  expect(wordsOf('config')).toEqual(expect.arrayContaining(Object.keys(row ?? { nothing: '' })));
});
