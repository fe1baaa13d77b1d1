/**
 * What keeps a hosts file from being as it should be. Every writer of this folder keeps the newest one of its file until
 * the file is right again, and tries again by itself; index.ts counts them by kind and shows them in `/readyz`.
 */

/**
 * `missing`: not there. `read-only`: may not be written. `full`: no room on the disk. `refused`: not a file that may be
 * written, or not in a state in which it may. `failed`: anything else.
 */
export const PROBLEM_KINDS = ['missing', 'read-only', 'full', 'refused', 'failed'] as const;
export type ProblemKind = (typeof PROBLEM_KINDS)[number];

export interface WriteProblem {
  path: string;
  kind: ProblemKind;
  why: string;
}

/** Between two tries at a file that has a problem. */
export const RETRY_MS = 1_000;

const KINDS: Partial<Record<string, ProblemKind>> = {
  ENOENT: 'missing',
  EROFS: 'read-only',
  EACCES: 'read-only',
  EPERM: 'read-only',
  ENOSPC: 'full',
  EDQUOT: 'full',
  ELOOP: 'refused',
  EISDIR: 'refused',
  ENXIO: 'refused',
};

/** A file that must not be written; its message says why. Caught where it was called, never seen outside. */
export class RefusedFile extends Error {
  override readonly name = 'RefusedFile';
}

export function problemOf(path: string, error: unknown): WriteProblem {
  const why = error instanceof Error ? error.message : String(error);
  if (error instanceof RefusedFile) return { path, kind: 'refused', why };
  const { code = '' } = error as NodeJS.ErrnoException;
  return { path, kind: KINDS[code] ?? 'failed', why };
}
