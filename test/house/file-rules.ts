/**
 * What a code file looks like: short, opened by a comment that says its role, named in kebab-case by what it holds,
 * with nothing left for later and no test left out. Called by files.test.ts for every file. Returns what is wrong, in
 * words.
 */
import { basename } from 'node:path';
import { isTestCode, type Source } from './source.ts';

/** More than this is read again and split, or listed below with the reason why it stays whole. */
export const MAX_LINES = 300;

/** Files over the limit -> why they stay whole. One that has become short again is taken off the list. */
export const LONG_FILES: Record<string, string> = {
  'packages/event-log/contract.ts': 'all that a log promises, one case after another',
  'packages/registry-store/contract.ts': 'all that a store promises, one case after another',
  'packages/runtime/config-schema.ts': 'one table: every setting with its default and its meaning',
};

/** Calls that leave tests out, or all the others. */
const LEAVES_OUT = ['skip', 'only', 'todo', 'skipIf', 'runIf', 'fails'];

/** What a comment says of work put off. */
const LEFT_FOR_LATER = /\b(TODO|FIXME|XXX)\b/;

/** Names that say nothing of what is inside. */
const EMPTY_NAMES = /(^|-)(utils?|helpers?|manager|misc|common)(-|\.|$)/;

export function findFileFaults(source: Source, longFiles: Record<string, string>): string[] {
  const { path, text, comments, calledMethods } = source;
  const wrong: string[] = [];
  const complain = (reason: string) => wrong.push(`${path}: ${reason}`);

  const lines = text.split('\n').length - 1;
  if (lines > MAX_LINES && longFiles[path] === undefined) complain(`has ${lines} lines, over ${MAX_LINES}`);
  if (lines <= MAX_LINES && longFiles[path] !== undefined) complain('is listed as long and is not');
  if (!isTestCode(path) && !source.opensWithComment)
    complain('does not open with a comment that says its role');
  if (comments.some((comment) => LEFT_FOR_LATER.test(comment))) complain('leaves something for later');
  for (const method of isTestCode(path) ? calledMethods : [])
    if (LEAVES_OUT.includes(method)) complain(`calls .${method}()`);
  if (!/^[a-z0-9]+(-[a-z0-9]+)*(\.(server|test|config))*\.ts$/.test(basename(path)))
    complain('is not named in kebab-case');
  if (EMPTY_NAMES.test(basename(path))) complain('has a name that does not say what it holds');
  return wrong;
}
