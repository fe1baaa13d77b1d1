/** The same number stands in several places of the set-up, in languages that cannot share it: here they are compared. */
import { expect, test } from 'vitest';
import { readManifests, readText } from './source.ts';

const root = JSON.parse(readText('package.json')) as {
  engines: { node: string };
  packageManager: string;
  version: string;
};

test('one oldest Node: engines, set-up and command agree', () => {
  const [major, minor] = root.engines.node.replace('>=', '').split('.');
  expect(readText('setup/bootstrap')).toContain(`oldest_node='${major}.${minor}'`);
  expect(readText('services/cli/bin/elastic-dns')).toContain(
    `+a > ${major} || (+a === ${major} && +b >= ${minor})`,
  );
});

test('one pnpm: what the set-up brings is what package.json asks for', () => {
  const tools = JSON.parse(readText('setup/tools/package.json')) as {
    optionalDependencies: Record<string, string>;
  };
  for (const architecture of ['x64', 'arm64'])
    expect(root.packageManager).toBe(`pnpm@${tools.optionalDependencies[`@pnpm/exe.linux-${architecture}`]}`);
});

test('one version: every package has the one of the repository', () => {
  for (const { folder } of readManifests())
    expect([folder, JSON.parse(readText(`${folder}/package.json`))]).toEqual([
      folder,
      expect.objectContaining({ version: root.version }),
    ]);
});

test('lock files name no registry, so that every registry will do', () => {
  for (const path of ['pnpm-lock.yaml', 'setup/tools/package-lock.json'])
    expect(readText(path)).not.toMatch(/https?:/);
});
