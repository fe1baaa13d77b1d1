/**
 * A lost promise is a daemon's worst bug, and the rules that find one depend on the linter, its type checker and the
 * compiler fitting together: here they are shown to find each kind.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

const SAMPLES = {
  'no-floating-promises': `export function f() { work(); }`,
  'no-misused-promises': `export function f() { [1].forEach(async () => { await work(); }); }`,
  'await-thenable': `export async function f() { const one = 1; return [await one]; }`,
  'switch-exhaustiveness-check': `export function f(x: 'a' | 'b') { switch (x) { case 'a': void work(); } }`,
  'return-await': `export async function f() { try { return work(); } catch { return 0; } }`,
};

test('the lint finds lost and misused promises and switches that forget a case', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'elastic-dns-lint-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const compiler = {
    extends: join(ROOT, 'tsconfig.base.json'),
    compilerOptions: { types: [] },
  };
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(compiler));
  for (const [rule, code] of Object.entries(SAMPLES)) {
    const text = `async function work(): Promise<number> { return 1; }\n${code}\nvoid work;\n`;
    await writeFile(join(folder, `${rule}.ts`), text);
  }
  const output = await new Promise<string>((resolve) => {
    const args = ['--type-aware', '--format=unix', `--config=${join(ROOT, '.oxlintrc.json')}`];
    // it exits with 1, for it finds faults
    execFile(join(ROOT, 'node_modules/.bin/oxlint'), args, { cwd: folder }, (_, stdout) => resolve(stdout));
  });
  const found = Object.keys(SAMPLES).filter((rule) =>
    output.split('\n').some((line) => line.includes(`${rule}.ts:`) && line.includes(`typescript(${rule})`)),
  );
  expect(found.join(), output).toBe(Object.keys(SAMPLES).join());
});
