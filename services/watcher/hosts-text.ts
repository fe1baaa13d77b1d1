/**
 * A view as the lines of a hosts file, and back: parse(render(view)) = view (S8). Pure. Every file that the watcher
 * writes is made of these lines; the tests read files back with the same functions.
 *
 * One line per address, as musl loses what stands late on a long line, and glibc gives several addresses of a name
 * in the order of their lines. The names of a line are all that a service answers to, its qualified name last, so the
 * last name says which service a line belongs to. Words are separated by one space, never by a tabulator: an engine
 * drops lines that end with a tabulator and its container's name.
 */
import type { Answer } from '@elastic-dns/model';

/** The lines of one service, in the order of its addresses; none when there is no answer. */
export function linesOf(answer: Answer | null): string[] {
  if (answer === null) return [];
  const names = answer.names.join(' ');
  return answer.addresses.map((address) => `${address} ${names}`);
}

/** The whole view, each line ended. */
export function renderHosts(answers: readonly Answer[]): string {
  return answers
    .flatMap(linesOf)
    .map((line) => `${line}\n`)
    .join('');
}

/** The service that a line belongs to, by its qualified name. */
export function keyOfLine(line: string): string {
  return line.slice(line.lastIndexOf(' ') + 1);
}

/**
 * What a hosts file answers: comments and blank lines left out, lines with the same names put together, in the order
 * in which they first appear.
 */
export function parseHosts(text: string): Answer[] {
  const answers = new Map<string, Answer>();
  for (const line of text.split('\n')) {
    const [address, ...names] = line.replace(/#.*/, '').split(/\s+/).filter(Boolean);
    if (address === undefined || names.length === 0) continue;
    const key = names.join(' ');
    const answer = answers.get(key);
    if (answer) answer.addresses.push(address);
    else answers.set(key, { names, addresses: [address] });
  }
  return [...answers.values()];
}
