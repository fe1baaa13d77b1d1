/** Holds docs and comments to what is there: a file that they name exists, a link leads somewhere. */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findDeadNames, findDeadLinks } from './docs-rules.ts';
import { readDocs, readSources, ROOT } from './source.ts';

const sources = readSources();
const docs = readDocs();
const known = new Set(sources.map(({ path }) => basename(path)));

test('files that docs and comments name are there', () => {
  expect(docs.map(({ path }) => path)).toContain('README.md');
  const inDocs = docs.flatMap(({ path, text }) => findDeadNames(path, text, known));
  const inComments = sources.flatMap(({ path, comments }) => findDeadNames(path, comments.join('\n'), known));
  expect([...inDocs, ...inComments]).toEqual([]);
});

test('links of the docs lead to files that are there', () => {
  const exists = (from: string, to: string): boolean => existsSync(join(ROOT, dirname(from), to));
  expect(docs.flatMap(({ path, text }) => findDeadLinks(path, text, exists))).toEqual([]);
});

describe('the rules on docs refuse', () => {
  test('a name of a file that is not there, and take others', () => {
    expect(findDeadNames('a.md', 'see `fold.ts` and gone.test.ts', new Set(['fold.ts']))).toEqual([
      'a.md names gone.test.ts: there is no such file',
    ]);
  });

  test('a link that leads nowhere, and take others', () => {
    const text = '[a](there.md#part) [b](gone.md) [c](https://example.org/x)';
    expect(findDeadLinks('docs/a.md', text, (_, to) => to === 'there.md')).toEqual([
      'docs/a.md links to gone.md: there is no such file',
    ]);
  });
});
