/** Holds every code file to the rules of file-rules.ts, and shows that each rule can fail. */
import { describe, expect, test } from 'vitest';
import { findFileFaults, LONG_FILES, MAX_LINES } from './file-rules.ts';
import { parseSource, readScripts, readSources } from './source.ts';

const sources = readSources();

test('code files are short, say their role, and leave nothing for later', () => {
  expect(sources.flatMap((source) => findFileFaults(source, LONG_FILES))).toEqual([]);
});

test('the list of long files names only files that are there', () => {
  expect(Object.keys(LONG_FILES).filter((path) => !sources.some((source) => source.path === path))).toEqual(
    [],
  );
});

test('shell scripts say their role below the first line', () => {
  const scripts = readScripts();
  expect(scripts.map(({ path }) => path)).toContain('setup/bootstrap');
  expect(scripts.filter(({ text }) => !/^#!.*\n# \S/.test(text))).toEqual([]);
});

describe('the rules on files refuse', () => {
  const long = '/** Role. */\n' + 'f();\n'.repeat(MAX_LINES);

  test.each([
    ['a long file', 'packages/model/a.ts', long, {}],
    [
      'a short file that is listed as long',
      'packages/model/a.ts',
      '/** Role. */',
      { 'packages/model/a.ts': 'a table' },
    ],
    ['a file that does not say its role', 'packages/model/a.ts', `import 'zod';`, {}],
    ['work left for later', 'packages/model/a.ts', '/** Role. */\nf(); // TODO the rest', {}],
    ['a test left out', 'packages/model/a.test.ts', "test.skip('x', () => {});", {}],
    ['a test that leaves the others out', 'packages/model/a.test.ts', "describe.only('x', () => {});", {}],
    ['a name in another case', 'packages/model/aB.ts', '/** Role. */', {}],
    ['a name that says nothing', 'packages/model/name-utils.ts', '/** Role. */', {}],
  ])('%s', (_, path, text, longFiles) => {
    expect(findFileFaults(parseSource(path, text), longFiles)).toHaveLength(1);
  });

  test('but not a long file that is listed with a reason', () => {
    const path = 'packages/model/a.ts';
    expect(findFileFaults(parseSource(path, long), { [path]: 'one table' })).toEqual([]);
  });
});
