/** Holds every file and package to the rules of import-rules.ts, and shows that each rule can fail. */
import { describe, expect, test } from 'vitest';
import { findForbiddenDependencies, findForbiddenImports } from './import-rules.ts';
import { parseSource, readManifests, readSources, type Manifest } from './source.ts';

const manifests = readManifests();
const sources = readSources();
const root = manifests.find(({ folder }) => folder === '.')!;

function ownerOf(path: string): Manifest {
  return manifests.find(({ folder }) => path.startsWith(`${folder}/`)) ?? root;
}

test('finds the files of every package', () => {
  expect(manifests.map(({ folder }) => folder)).toEqual(
    expect.arrayContaining(['.', 'packages/model', 'services/cli', 'test']),
  );
  expect(sources.map(({ path }) => path)).toEqual(
    expect.arrayContaining(['packages/model/name.ts', 'services/cli/main.ts', 'test/house/imports.test.ts']),
  );
});

test('imports go one way only, and vendors stay in their adapters', () => {
  expect(sources.flatMap((source) => findForbiddenImports(source, ownerOf(source.path), root))).toEqual([]);
});

test('packages declare what they use, at one exact version, and nothing else', () => {
  const wrong = manifests.flatMap((own) =>
    findForbiddenDependencies(
      own,
      sources.filter(({ path }) => ownerOf(path) === own),
      manifests,
    ),
  );
  expect(wrong).toEqual([]);
});

describe('the rules on imports refuse', () => {
  const dependencies = Object.fromEntries(
    ['model', 'runtime', 'event-log', 'engine', 'watcher', 'testkit'].map((name) => [
      `@elastic-dns/${name}`,
      'workspace:*',
    ]),
  );

  function judge(path: string, text: string): string[] {
    const folder = path.split('/').slice(0, -1).join('/');
    const name = `@elastic-dns/${folder.split('/').at(-1)}`;
    const own = { folder, name, dependencies: { ...dependencies, nats: '2.29.3' }, devDependencies: {} };
    return findForbiddenImports(parseSource(path, text), own, root);
  }

  test.each([
    ['a layer above', 'packages/model/a.ts', `import { x } from '@elastic-dns/runtime';`],
    ['a type of a layer above', 'packages/model/a.ts', `import type { x } from '@elastic-dns/runtime';`],
    ['a type by its place', 'packages/model/a.ts', `export type X = import('@elastic-dns/runtime').X;`],
    ['a re-export of a layer above', 'packages/model/a.ts', `export * from '@elastic-dns/runtime';`],
    ['a late import of a layer above', 'packages/model/a.ts', `await import('@elastic-dns/runtime');`],
    ['another port', 'packages/event-log/a.ts', `import '@elastic-dns/engine';`],
    ['another port, in a test', 'packages/event-log/a.test.ts', `import '@elastic-dns/engine';`],
    ['another service', 'services/agent/a.ts', `import '@elastic-dns/watcher';`],
    ['another package by its path', 'services/agent/a.ts', `import '../../packages/model/name.ts';`],
    ['an adapter in a service', 'services/agent/a.ts', `import '@elastic-dns/event-log/nats';`],
    ['a vendor outside its adapter', 'packages/event-log/log.ts', `import 'nats';`],
    ['a database outside its adapter', 'services/agent/a.ts', `import 'node:sqlite';`],
    ['what is not declared', 'packages/model/a.ts', `import 'left-pad';`],
    ["the root's tools in a program", 'packages/model/a.ts', `import 'fast-check';`],
    ['the test kit in a program', 'services/agent/a.ts', `import '@elastic-dns/testkit';`],
    ['a contract suite in a program', 'services/agent/a.ts', `import '@elastic-dns/event-log/contract';`],
    ['samples in a program', 'services/agent/a.ts', `import './samples.ts';`],
    ["Node's modules without node:", 'services/agent/a.ts', `import 'fs';`],
  ])('%s', (_, path, text) => {
    expect(judge(path, text)).toHaveLength(1);
  });

  test.each([
    ['a layer below', 'packages/event-log/a.ts', `import '@elastic-dns/model';`],
    ['a file beside it', 'packages/event-log/a.ts', `import './b.ts';`],
    ['the vendor in its adapter', 'packages/event-log/nats-reader.ts', `import 'nats';`],
    ['the adapter in main.ts', 'services/agent/main.ts', `import '@elastic-dns/event-log/nats';`],
    ['the test kit in a test', 'services/agent/a.test.ts', `import '@elastic-dns/testkit'; import 'vitest';`],
  ])('but not %s', (_, path, text) => {
    expect(judge(path, text)).toEqual([]);
  });
});

describe('the rules on dependencies refuse', () => {
  const model: Manifest = {
    folder: 'packages/model',
    name: '@elastic-dns/model',
    dependencies: {},
    devDependencies: {},
  };
  const source = parseSource('packages/model/a.ts', `import 'zod'; import '@elastic-dns/runtime';`);

  test.each([
    ['a range', { zod: '^4.6.7' }, 'exact'],
    ['another version than elsewhere', { zod: '4.0.0' }, 'has it at 4.6.7'],
    ['a layer above', { '@elastic-dns/runtime': 'workspace:*' }, 'may depend on'],
    ['what nothing imports', { yaml: '2.9.1' }, 'nothing there'],
  ])('%s', (_, dependencies, reason) => {
    const elsewhere = { ...root, dependencies: { zod: '4.6.7' } };
    const wrong = findForbiddenDependencies({ ...model, dependencies }, [source], [model, elsewhere]);
    expect(wrong.join('\n')).toContain(reason);
  });

  test('but not a declared, exact, used one', () => {
    expect(
      findForbiddenDependencies({ ...model, dependencies: { zod: '4.6.7' } }, [source], [model]),
    ).toEqual([]);
  });
});
