/** What a document may name. Called by docs.test.ts for every document and every comment. Returns what is wrong, in words. */

export function findDeadNames(path: string, text: string, known: ReadonlySet<string>): string[] {
  const named = text.match(/[a-z0-9][a-z0-9.-]*\.ts\b/g) ?? [];
  return [...new Set(named)]
    .filter((name) => !known.has(name))
    .map((name) => `${path} names ${name}: there is no such file`);
}

export function findDeadLinks(
  path: string,
  text: string,
  exists: (from: string, to: string) => boolean,
): string[] {
  return [...text.matchAll(/\]\(([^)#]+)[^)]*\)/g)]
    .map(([, target = '']) => target)
    .filter((target) => !/^[a-z]+:/.test(target) && !exists(path, target))
    .map((target) => `${path} links to ${target}: there is no such file`);
}
