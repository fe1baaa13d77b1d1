/**
 * Which state of which file: equal stamps mean that nobody has written in between. The kernel's own times move in steps
 * of milliseconds, so `stampFile` gives a file that we have just written a time that no other writer leaves.
 */
import { fstatSync, futimesSync, lstatSync } from 'node:fs';
import { RefusedFile } from './write-problem.ts';

export interface Stamp {
  device: bigint;
  inode: bigint;
  bytes: bigint;
  modifiedNs: bigint;
}

/** `RefusedFile` when it is anything but a regular file. */
export function readStamp(file: number | string): Stamp {
  const stats =
    typeof file === 'number' ? fstatSync(file, { bigint: true }) : lstatSync(file, { bigint: true });
  if (!stats.isFile()) throw new RefusedFile('is not a regular file');
  return { device: stats.dev, inode: stats.ino, bytes: stats.size, modifiedNs: stats.mtimeNs };
}

/** Null: it is missing. `RefusedFile` when it is no regular file. */
export function stampAt(file: string): Stamp | null {
  try {
    return readStamp(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

export function isSameStamp(a: Stamp | null, b: Stamp | null): boolean {
  return (
    a !== null &&
    b !== null &&
    a.device === b.device &&
    a.inode === b.inode &&
    a.bytes === b.bytes &&
    a.modifiedNs === b.modifiedNs
  );
}

let stamped = 0;

/**
 * Moves the file's time on by some microseconds, another number each time, and returns the stamp. It also makes readers
 * that keep what they have read as long as time and size are the same (Go's do) look again.
 */
export function stampFile(descriptor: number): Stamp {
  const { mtimeNs, atimeNs } = fstatSync(descriptor, { bigint: true });
  stamped = (stamped + 1) % 900;
  futimesSync(descriptor, Number(atimeNs) / 1e9, Number(mtimeNs + BigInt(stamped + 1) * 1_000n) / 1e9);
  return readStamp(descriptor);
}
