/**
 * The configuration: defaults < file < environment < flags, checked against the one schema of config-schema.ts. Read
 * by every command of the CLI before it does anything else. All mistakes are told at once, each with its place,
 * and no secret is ever part of what is told.
 */
import { readFileSync, statSync } from 'node:fs';
import { ConfigError, quote } from '@elastic-dns/model';
import { closest } from 'fastest-levenshtein';
import type { z } from 'zod';
import { readConfigFile } from './config-file.ts';
import { describeConfig, ENV_PREFIX, type SettingRow, type settingsSchema } from './config-schema.ts';
import type { Milliseconds } from './setting-types.ts';
import { readHostFacts, type HostFacts } from './host-facts.ts';

/** Read when it exists and no other file is named. */
export const DEFAULT_CONFIG_PATH = '/etc/elastic-dns/config.yml';
/** Names the file, as the flag `--config` does. */
export const CONFIG_PATH_ENV = `${ENV_PREFIX}CONFIG`;

/**
 * What the program works with. As the settings are nested, but a duration `x` is `xMs`, and `xFile` is `x`, the
 * content of the file.
 */
export type Config = Finished<z.output<typeof settingsSchema>>;

type Finished<T> = {
  [K in keyof T & string as FinishedKey<K, T[K]>]: T[K] extends Milliseconds
    ? number
    : T[K] extends Leaf
      ? T[K]
      : Finished<T[K]>;
};
type Leaf = string | number | boolean | null | readonly string[];
type FinishedKey<K extends string, V> = V extends Milliseconds
  ? `${K}Ms`
  : K extends `${infer Name}File`
    ? Name
    : K;

/** Where a value came from. */
export type Source =
  | { kind: 'default' }
  | { kind: 'found'; from: string }
  | { kind: 'file'; path: string; line: number }
  | { kind: 'environment'; variable: string }
  | { kind: 'flag'; flag: string };

export interface ConfigSources {
  /** The file; a missing one is an error. Default: $ELASTIC_DNS_CONFIG, else the default file if it exists. */
  path?: string;
  /** Values by setting (`registrar.leaseTtl`), as the command line gives them. */
  flags?: ReadonlyMap<string, string>;
  env?: NodeJS.ProcessEnv;
  /** Default: this machine's. */
  host?: HostFacts;
}

export interface LoadedConfig {
  config: Config;
  /** One per setting, in the schema's order. */
  settings: SettingInForce[];
  /** What works, but should not stay so. */
  warnings: string[];
}

export interface SettingInForce {
  key: string;
  /** As it was written, masked where it is or holds a secret; null: not set. */
  shown: string | number | boolean | readonly string[] | null;
  source: Source;
}

/** Throws a `ConfigError` that has one line for each mistake. */
export function loadConfig(sources: ConfigSources = {}): LoadedConfig {
  const { env = process.env, flags = new Map() } = sources;
  const host = sources.host ?? readHostFacts(env);
  const rows = describeConfig();
  const problems: string[] = [];
  const fromFile = readFileSettings(sources.path ?? (env[CONFIG_PATH_ENV] || null), rows, problems);
  const fromEnv = readEnvironment(env, rows, problems);

  const values = new Map<string, Given>();
  for (const row of rows) {
    const given: Given =
      takeFlag(row, flags) ?? fromEnv.get(row.key) ?? fromFile.get(row.key) ?? takeDefault(row, host, values);
    const { success, data, error } = row.schema.safeParse(given.raw);
    if (success) values.set(row.key, { ...given, value: data });
    else problems.push(describeProblem(row, given, error));
  }
  fail(problems);
  const warnings: string[] = [];
  readFiles(rows, values, problems, warnings);
  checkTogether(values, problems);
  fail(problems);
  return {
    config: finish(rows, values),
    settings: rows.map((row) => {
      const { raw, source } = get(values, row.key);
      return { key: row.key, shown: mask(row, raw) as SettingInForce['shown'], source };
    }),
    warnings,
  };
}

/** Where it came from, for people. */
export function describeSource(source: Source): string {
  switch (source.kind) {
    case 'default':
      return 'default';
    case 'found':
      return source.from;
    case 'file':
      return `${source.path}:${source.line}`;
    case 'environment':
      return `the environment variable ${source.variable}`;
    case 'flag':
      return source.flag;
  }
}

/** A setting's value on its way: as it was given, and as the schema reads it. */
interface Given {
  raw: unknown;
  source: Source;
  value?: unknown;
  /** What stands in the file that the value names. */
  content?: string;
}

function fail(problems: string[]): void {
  if (problems.length > 0) throw new ConfigError(problems.join('\n'));
}

function readFileSettings(
  named: string | null,
  rows: SettingRow[],
  problems: string[],
): ReadonlyMap<string, Given> {
  const path = named ?? DEFAULT_CONFIG_PATH;
  const keys = new Set(rows.map(({ key }) => key));
  const groups = new Set([...keys].flatMap((key) => [...prefixes(key)]));
  const entries = readConfigFile(path, (key) => groups.has(key));
  if (entries === null && named !== null) throw new ConfigError(`${path} does not exist`);
  const given = new Map<string, Given>();
  for (const { key, value, line } of entries ?? []) {
    if (keys.has(key)) given.set(key, { raw: value, source: { kind: 'file', path, line } });
    else
      problems.push(
        `${path}:${line}: ${quote(key)} is no setting; the nearest is ${closest(key, [...keys, ...groups])}`,
      );
  }
  return given;
}

function* prefixes(key: string): Generator<string> {
  for (let dot = key.indexOf('.'); dot !== -1; dot = key.indexOf('.', dot + 1)) yield key.slice(0, dot);
}

function readEnvironment(
  env: NodeJS.ProcessEnv,
  rows: SettingRow[],
  problems: string[],
): ReadonlyMap<string, Given> {
  const byVariable = new Map(rows.map((row) => [row.env, row.key]));
  const given = new Map<string, Given>();
  for (const [variable, raw] of Object.entries(env)) {
    if (!variable.startsWith(ENV_PREFIX) || variable === CONFIG_PATH_ENV) continue;
    const key = byVariable.get(variable);
    if (key === undefined) {
      const nearest = closest(variable, [...byVariable.keys()]);
      problems.push(`the environment variable ${quote(variable)} is no setting; the nearest is ${nearest}`);
      // Compose and systemd set a variable to nothing where a person means "not set".
    } else if (raw !== '') given.set(key, { raw, source: { kind: 'environment', variable } });
  }
  return given;
}

function takeFlag(row: SettingRow, flags: ReadonlyMap<string, string>): Given | null {
  const raw = flags.get(row.key);
  return raw === undefined ? null : { raw, source: { kind: 'flag', flag: row.flags[0] ?? row.key } };
}

function takeDefault(row: SettingRow, host: HostFacts, values: ReadonlyMap<string, Given>): Given {
  if (!row.found) return { raw: row.default, source: { kind: 'default' } };
  const dataDir = values.get('dataDir')?.value ?? host.dataDir;
  const { value, from } = row.found.find({ host, dataDir: dataDir as string });
  return { raw: value, source: from === undefined ? { kind: 'default' } : { kind: 'found', from } };
}

function describeProblem(row: SettingRow, { raw, source }: Given, error: z.ZodError): string {
  const isQuotedRight =
    (typeof raw === 'number' || typeof raw === 'boolean') && row.schema.safeParse(String(raw)).success;
  const right = `it has to be ${row.type}${isQuotedRight ? ': put it in quotes' : ''}`;
  const place = `${describeSource(source)}: ${row.key}`;
  if (row.secret === true) return `${place}: ${right}`;
  const shown =
    typeof raw === 'string' ? quote(maskUrl(raw)) : quote(maskUrl(JSON.stringify(raw))).slice(1, -1);
  const own = error.issues.find(({ code, message }) => code === 'custom' && message !== 'Invalid input');
  return `${place} is ${shown}${own === undefined ? '' : ` (${own.message})`}; ${right}`;
}

/** Puts the contents of the files that are named into the place of their paths. */
function readFiles(
  rows: SettingRow[],
  values: Map<string, Given>,
  problems: string[],
  warnings: string[],
): void {
  for (const row of rows) {
    const given = get(values, row.key);
    const path = given.value as string | null;
    if (row.file === undefined || path === null) continue;
    const place = `${describeSource(given.source)}: ${row.key}`;
    try {
      // Editors end a file with a new line that is no part of a password.
      given.content = readFileSync(path, 'utf8').replace(/\r?\n$/, '');
      if (row.file === 'secret' && (statSync(path).mode & 0o004) !== 0) {
        warnings.push(`${place}: everybody on this machine may read ${path}: chmod o-r it`);
      }
    } catch (error) {
      problems.push(`${place}: ${(error as Error).message}`);
    }
  }
}

function checkTogether(values: ReadonlyMap<string, Given>, problems: string[]): void {
  const isSet = (key: string): boolean => (values.get(key)?.value ?? null) !== null;
  const place = (key: string): string => `${key} (${describeSource(get(values, key).source)})`;
  for (const key of values.keys()) {
    const file = `${key}File`;
    if (isSet(key) && isSet(file)) problems.push(`${place(key)} and ${place(file)} are both set; keep one`);
  }
  for (const group of ['log.nats', 'store.etcd']) {
    const [cert, key] = [`${group}.certFile`, `${group}.keyFile`];
    if (isSet(cert) !== isSet(key)) {
      const [has, lacks] = isSet(cert) ? [cert, key] : [key, cert];
      problems.push(`${place(has)} needs ${lacks} as well`);
    }
  }
  const [quiet, ceiling] = ['watcher.quiet', 'watcher.ceiling'];
  if ((get(values, quiet).value as number) > (get(values, ceiling).value as number)) {
    problems.push(`${place(ceiling)} has to be at least ${place(quiet)}`);
  }
}

function get(values: ReadonlyMap<string, Given>, key: string): Given {
  const given = values.get(key);
  if (!given) throw new TypeError(`there is no setting ${key}`);
  return given;
}

function finish(rows: SettingRow[], values: ReadonlyMap<string, Given>): Config {
  const config: Record<string, unknown> = {};
  for (const row of rows) {
    const { value, content } = get(values, row.key);
    const path = row.key.split('.');
    const name = path.pop() ?? '';
    let group = config;
    for (const part of path) group = (group[part] ??= {}) as Record<string, unknown>;
    if (row.file === undefined) group[row.unit === 'ms' ? `${name}Ms` : name] = value;
    else group[name.replace(/File$/, '')] ??= content ?? null;
  }
  return config as Config;
}

function mask(row: SettingRow, raw: unknown): unknown {
  if (row.secret === true && raw !== null) return '***';
  if (typeof raw === 'string') return maskUrl(raw);
  return Array.isArray(raw)
    ? raw.map((item: unknown) => (typeof item === 'string' ? maskUrl(item) : item))
    : raw;
}

/** A URL may carry a password, or a token in its place. */
function maskUrl(text: string): string {
  return text.replace(/:\/\/(?:([^:/@]*):)?[^/@]*@/g, (_, user: string | undefined) =>
    user === undefined ? '://***@' : `://${user}:***@`,
  );
}
