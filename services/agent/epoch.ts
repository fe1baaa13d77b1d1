/**
 * The agent's epoch: a number that grows from start to start, so that all that one incarnation says is newer than all
 * that the one before said (S5). Called once per start by index.ts.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '@elastic-dns/model';
import { writeFileAtomic, type Logger } from '@elastic-dns/runtime';

/**
 * The next epoch of the node: the time in ms, or one more than the last epoch if that is later, so that neither a
 * clock that was set back nor a lost data folder alone makes it smaller. It is on the disk before it is used.
 * `ConfigError` when it cannot be written.
 */
export async function claimEpoch(
  dataDir: string,
  node: string,
  nowMs: number,
  logger: Logger,
): Promise<number> {
  const path = join(dataDir, `agent-${node}.epoch`);
  const last = await readEpoch(path, logger);
  const epoch = Math.max(last + 1, Math.floor(nowMs));
  try {
    await writeFileAtomic(path, `${epoch}\n`);
  } catch (cause) {
    throw new ConfigError(
      `${path} cannot be written: ${cause instanceof Error ? cause.message : String(cause)}`,
      {
        cause,
      },
    );
  }
  return epoch;
}

async function readEpoch(path: string, logger: Logger): Promise<number> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw new ConfigError(`${path} cannot be read: ${String(error)}`, { cause: error });
  }
  const epoch = Number(text);
  if (Number.isSafeInteger(epoch) && epoch > 0 && epoch < Number.MAX_SAFE_INTEGER) return epoch;
  logger.warn({ path }, 'the epoch file holds no number; the time is used instead');
  return 0;
}
