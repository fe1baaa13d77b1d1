/** The exit codes of every command, and which of them an error comes to. Scripts rely on them. */
import { ConfigError, InvalidInputError, UnavailableError } from '@elastic-dns/model';
import { EXIT_INTERRUPTED } from '@elastic-dns/runtime';

export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  unreachable: 4,
  interrupted: EXIT_INTERRUPTED,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** What `elastic-dns --help` and docs/cli.md say of them. */
export const EXIT_MEANINGS: Record<ExitCode, string> = {
  0: 'done; a role that was told to stop has stopped in order',
  1: 'failed, or did not stop in order',
  2: 'wrong usage or wrong configuration',
  3: 'there is no such name, or nothing answers to it',
  4: 'the log, the store or the engine is out of reach',
  130: 'told twice to stop (Ctrl-C), so ended at once',
};

export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof ConfigError || error instanceof InvalidInputError) return EXIT.usage;
  if (error instanceof UnavailableError) return EXIT.unreachable;
  return EXIT.failed;
}
