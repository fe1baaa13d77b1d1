/**
 * The check that a test leaves nothing behind: no child process, no socket or server, no folder or network namespace.
 * Called at the top of a test file: `checkLeaks()`. What was there before a test (a server of `beforeAll`) may stay.
 */
import { afterEach, beforeEach } from 'vitest';
import { listProcesses, readProcess } from './processes.ts';
import { ownRuns } from './run.ts';
import { waitUntil } from './wait.ts';

/** Kinds of process.getActiveResourcesInfo() that a test opens itself. */
const HANDLES = new Set([
  'TCPSocketWrap',
  'TCPServerWrap',
  'PipeWrap',
  'UDPWrap',
  'ProcessWrap',
  'FSEventWrap',
]);
/** Closing takes a moment (the engine's answer, a socket's last packet), never this long. */
const GRACE_MS = 5_000;

/** What this process holds outside of its own memory, one line per thing. */
export function listHoldings(): string[] {
  const handles = process.getActiveResourcesInfo().filter((kind) => HANDLES.has(kind));
  const children = listProcesses()
    .map(readProcess)
    .filter((entry) => entry?.parent === process.pid)
    .map((entry) => `child process ${entry?.command}`);
  return count([...handles, ...children, ...ownRuns().map((run) => `folder of run ${run}`)]);
}

/** Compares with an earlier list; rejects after a moment's grace with what has come and not gone. */
export async function assertNoneLeft(before: readonly string[], graceMs = GRACE_MS): Promise<void> {
  const known = new Set(before);
  let left: string[] = [];
  await waitUntil(
    () => {
      left = listHoldings().filter((thing) => !known.has(thing));
      return left.length === 0;
    },
    { what: 'the test to leave nothing behind', timeoutMs: graceMs },
  ).catch(() => {
    throw new Error(`the test has left behind: ${left.join(', ')}`);
  });
}

/** Registers the check around each test of the file. Call it first: hooks run in reverse order after a test. */
export function checkLeaks(): void {
  let before: string[] = [];
  beforeEach(() => {
    before = listHoldings();
  });
  afterEach(async () => {
    await assertNoneLeft(before);
  });
}

/**
 * Things of a kind are numbered, so that one more is one line more, while a server that a test has restarted (another
 * process, or another socket to it) is the same line.
 */
function count(kinds: readonly string[]): string[] {
  const seen = new Map<string, number>();
  return kinds.map((kind) => {
    const number = (seen.get(kind) ?? 0) + 1;
    seen.set(kind, number);
    return `${kind} ${number}`;
  });
}
