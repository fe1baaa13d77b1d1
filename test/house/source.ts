/**
 * Reads the workspace for the house rules: each code file with what it imports, each package with what it declares.
 * Called by the tests beside this file; the rules themselves are pure functions over what is read here.
 */
import { globSync, readFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { parseSync, Visitor, type StringLiteral, type Expression } from 'oxc-parser';

export const ROOT = `${import.meta.dirname}/../..`;

/** A code file. Paths are relative to the root of the repository, with forward slashes. */
export type Source = {
  path: string;
  text: string;
  /** Every module that it names: imports and re-exports, of types as well, and dynamic imports of a fixed name. */
  imports: string[];
  comments: string[];
  /** Whether the first thing in it is a comment. */
  opensWithComment: boolean;
  /** Methods that it calls, by name: `skip` for `test.skip(...)`. */
  calledMethods: string[];
};

/** A package.json: `folder` is where it stands, '.' for the root's own. */
export type Manifest = {
  folder: string;
  name: string;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
};

/** @throws Error where the text does not parse */
export function parseSource(path: string, text: string): Source {
  const { program, comments, errors } = parseSync(path, text);
  if (errors.length > 0) throw new Error(`${path} does not parse: ${errors[0]?.message}`);
  const imports = new Set<string>();
  const calledMethods = new Set<string>();
  const note = (module: StringLiteral | Expression | null) => {
    if (module?.type === 'Literal' && typeof module.value === 'string') imports.add(module.value);
  };
  new Visitor({
    ImportDeclaration: ({ source }) => note(source),
    ExportNamedDeclaration: ({ source }) => note(source),
    ExportAllDeclaration: ({ source }) => note(source),
    ImportExpression: ({ source }) => note(source),
    TSImportType: ({ source }) => note(source),
    CallExpression: ({ callee }) => {
      if (callee.type === 'MemberExpression' && callee.property.type === 'Identifier')
        calledMethods.add(callee.property.name);
    },
  }).visit(program);
  const opensWithComment = /^(#!.*\n)?\s*(\/\*\*|\/\/)/.test(text);
  return {
    path,
    text,
    imports: [...imports],
    comments: comments.map(({ value }) => value),
    opensWithComment,
    calledMethods: [...calledMethods],
  };
}

export function readSources(): Source[] {
  return findFiles('{packages,services,setup,test}/**/*.ts', '*.ts').map((path) =>
    parseSource(path, readText(path)),
  );
}

export function readManifests(): Manifest[] {
  return findFiles('package.json', '{packages,services}/*/package.json', 'test/package.json').map((path) => {
    const { name, dependencies = {}, devDependencies = {} } = JSON.parse(readText(path)) as Partial<Manifest>;
    return { folder: dirname(path), name: name ?? '', dependencies, devDependencies };
  });
}

/** What is written for people. */
export function readDocs(): { path: string; text: string }[] {
  return findFiles('*.md', 'docs/**/*.md').map((path) => ({ path, text: readText(path) }));
}

/** The shell scripts of the set-up and of the command. */
export function readScripts(): { path: string; text: string }[] {
  return findFiles('setup/*', 'services/cli/bin/*', '.ci/*')
    .filter((path) => !basename(path).includes('.'))
    .filter((path) => path !== 'setup/tools')
    .map((path) => ({ path, text: readText(path) }));
}

export function readText(path: string): string {
  return readFileSync(`${ROOT}/${path}`, 'utf8');
}

function findFiles(...patterns: string[]): string[] {
  return globSync(patterns, { cwd: ROOT, exclude: (path) => basename(path) === 'node_modules' }).toSorted();
}

/** Test code: what no program that a user runs may hold. */
export function isTestCode(path: string): boolean {
  return (
    /^(test|packages\/testkit)\//.test(path) ||
    /(\.test|\/contract|\/fixture|\/samples)\.ts$/.test(path) ||
    path === 'vitest.config.ts'
  );
}
