/** Reads the YAML file of settings, keeping the line of each, so that a mistake can be pointed at. For config.ts. */
import { readFileSync } from 'node:fs';
import { ConfigError } from '@elastic-dns/model';
import { isAlias, isMap, isScalar, LineCounter, parseDocument, type Node } from 'yaml';

/** What the file says: a setting's value (anything that YAML can express), or a group that is not one. */
export interface FileEntry {
  key: string;
  value: unknown;
  line: number;
}

/**
 * The entries of the file, flattened: `isGroup` tells which keys hold further keys. Throws `ConfigError` when the file
 * cannot be read or is not YAML. Null: there is no such file.
 */
export function readConfigFile(path: string, isGroup: (key: string) => boolean): FileEntry[] | null {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new ConfigError(`${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  const lineOf = (node: { range?: readonly [number, ...number[]] | null } | null): number =>
    lineCounter.linePos(node?.range?.[0] ?? 0).line;
  const [mistake] = document.errors;
  if (mistake) {
    const { line, col } = lineCounter.linePos(mistake.pos[0]);
    throw new ConfigError(`${path}:${line}: column ${col}: ${mistake.message}`);
  }

  const entries: FileEntry[] = [];
  const walk = (node: Node | null, group: string, line: number): void => {
    const target = isAlias(node) ? (node.resolve(document) ?? null) : node;
    if (target === null || (isScalar(target) && target.value === null)) return;
    if (!isMap(target)) {
      throw new ConfigError(
        `${path}:${line}: ${group === '' ? 'the file' : group} has to hold "key: value" lines`,
      );
    }
    for (const pair of target.items) {
      const keyNode = pair.key as Node | null;
      const name = isScalar(keyNode) ? String(keyNode.value) : String(keyNode);
      const key = group === '' ? name : `${group}.${name}`;
      const value = pair.value as Node | null;
      if (isGroup(key)) walk(value, key, lineOf(keyNode));
      else entries.push({ key, value: value === null ? null : value.toJS(document), line: lineOf(keyNode) });
    }
  };
  walk(document.contents, '', 1);
  return entries;
}
