/**
 * Takes every line that the watcher wrote out of every file again, and leaves every other byte (S8). Run by the command
 * line's `clean`, with no watcher running. Safe to repeat: the second time there is nothing to do.
 */
import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Engine } from '@elastic-dns/engine';
import { UnavailableError } from '@elastic-dns/model';
import { systemClock, type Clock } from '@elastic-dns/runtime';
import { findBlock, replaceBlock } from './block.ts';
import { ownHostsPath } from './container-hosts.ts';
import { removeNamespaceHosts } from './hosts-file.ts';
import { realPathOf, replaceFile } from './node-file.ts';
import { isSameStamp, readStamp, stampAt } from './stamp.ts';
import { problemOf } from './write-problem.ts';
import { planWithdrawal } from './withdrawal.ts';

export interface CleanOptions {
  hostsDir: string;
  /** The node's own hosts file; null: it was never written. */
  nodeHosts: string | null;
  /** Null: containers are left as they are. */
  engine: Engine | null;
  clock?: Clock;
}

/** A file that was changed, or (`failed: ...`) could not be. */
export interface Cleaned {
  path: string;
  what: string;
}

/** A file that others write as well must have stayed as it is for this long. */
const SETTLE_MS = 25;
/** Tries at a file that others keep on writing. */
const TRIES = 40;

/** `UnavailableError` when the engine cannot be asked for its containers; all else is done by then. */
export async function clean(options: CleanOptions): Promise<Cleaned[]> {
  const { hostsDir, nodeHosts, engine, clock = systemClock } = options;
  const cleaned: Cleaned[] = [];
  const attempt = async (path: string, act: () => Promise<string | null>): Promise<void> => {
    try {
      const what = await act();
      if (what !== null) cleaned.push({ path, what });
    } catch (error) {
      cleaned.push({ path, what: `failed: ${problemOf(path, error).why}` });
    }
  };
  await attempt(hostsDir, async () => {
    for (const path of removeNamespaceHosts(hostsDir)) cleaned.push({ path, what: 'file removed' });
    return null;
  });
  if (nodeHosts !== null) {
    await attempt(nodeHosts, async () => {
      const file = await realPathOf(nodeHosts);
      const isBlockGone = await removeBlock(file, clock);
      const isLineGone = await withdrawFrom(file, clock);
      return isBlockGone ? 'block removed' : isLineGone ? 'lines removed' : null;
    });
  }
  for (const container of engine ? await engine.list() : []) {
    const path = ownHostsPath(container);
    if (path !== null)
      await attempt(path, async () => ((await withdrawFrom(path, clock)) ? 'lines removed' : null));
  }
  return cleaned;
}

/** Whether there was one. */
async function removeBlock(file: string, clock: Clock): Promise<boolean> {
  for (let tries = 0; tries < TRIES; tries++) {
    const stamp = stampAt(file);
    if (stamp === null) return false;
    const text = await readFile(file, 'latin1');
    const place = findBlock(text);
    if (!place.ok) throw new Error(place.reason);
    if (place.from === place.to) return false;
    const outcome = await replaceFile(file, stamp, replaceBlock(text, place, null));
    if (outcome === 'replaced') return true;
    if (outcome === 'fixed') throw new Error('cannot be replaced: take the block out by hand');
    await clock.sleep(SETTLE_MS);
  }
  throw stillWritten();
}

/** Whether there were any of ours in this file that is written in place. */
async function withdrawFrom(file: string, clock: Clock): Promise<boolean> {
  for (let tries = 0; tries < TRIES; tries++) {
    const stamp = stampAt(file);
    if (stamp === null || planWithdrawal(readFileSync(file)) === null) return false;
    await clock.sleep(SETTLE_MS);
    const descriptor = openSync(file, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      if (!isSameStamp(readStamp(descriptor), stamp)) continue;
      const withdrawal = planWithdrawal(readFileSync(descriptor));
      if (withdrawal === null) return false;
      if (!isSameStamp(readStamp(descriptor), stamp)) continue;
      for (const { offset, bytes } of withdrawal.writes)
        writeSync(descriptor, bytes, 0, bytes.length, offset);
      ftruncateSync(descriptor, withdrawal.bytes);
      return true;
    } finally {
      closeSync(descriptor);
    }
  }
  throw stillWritten();
}

function stillWritten(): UnavailableError {
  return new UnavailableError('somebody else is writing the file all the time: try again');
}
