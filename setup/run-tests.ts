/**
 * Runs every check and every test, and ends with one line that adds them up: `N passed, N failed`.
 * Called by setup/test, after the set-up. Arguments go to vitest.
 *
 * A check that fails (format, lint, types) counts as one failed, so does a test file that cannot be loaded, and so
 * does a vitest that fails without naming a test. The exit code is 0 only if something passed and nothing failed.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The part of vitest's JSON report that is read here. */
type Report = {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  testResults: { status: string; assertionResults: unknown[] }[];
};

/** Runs a command on this terminal; resolves to its exit code, -1 when a signal ended it. */
function run(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'inherit' });
    // A terminal's Ctrl-C reaches the child by itself and the child cleans up: wait for it.
    const wait = () => {};
    const passOn = () => child.kill('SIGTERM');
    process.on('SIGINT', wait).on('SIGTERM', passOn);
    child.once('error', reject);
    child.once('close', (code) => {
      process.off('SIGINT', wait).off('SIGTERM', passOn);
      resolve(code ?? -1);
    });
  });
}

let passed = 0;
let failed = 0;
let skipped = 0;

for (const check of ['format', 'lint', 'types']) {
  if ((await run('pnpm', ['run', check])) !== 0) failed += 1;
}

const folder = await mkdtemp(join(tmpdir(), 'elastic-dns-tests-'));
try {
  const file = join(folder, 'report.json');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const code = await run('pnpm', ['exec', 'vitest', 'run', ...reporters, ...process.argv.slice(2)]);
  const text = await readFile(file, 'utf8').catch(() => undefined);
  let failedHere = 0;
  if (text !== undefined) {
    const report = JSON.parse(text) as Report;
    const unloadable = report.testResults.filter(
      ({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0,
    );
    passed = report.numPassedTests;
    skipped = report.numPendingTests + report.numTodoTests;
    failedHere = report.numFailedTests + unloadable.length;
  }
  failed += code !== 0 && failedHere === 0 ? 1 : failedHere;
} finally {
  await rm(folder, { recursive: true });
}

process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
