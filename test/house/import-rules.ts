/**
 * Who may import whom:
 *
 *     model <- runtime <- event-log, registry-store, engine <- agent, registrar, watcher <- cli
 *
 * A port never imports another port, a service never another service; `cli` alone composes them. Called by
 * imports.test.ts for every file and package of the workspace. Each function returns what is wrong, in words.
 */
import { basename } from 'node:path';
import { isBuiltin } from 'node:module';
import { isTestCode, type Manifest, type Source } from './source.ts';

const SCOPE = '@elastic-dns/';
const PORTS = ['event-log', 'registry-store', 'engine'];
const SERVICES = ['agent', 'registrar', 'watcher'];
const BELOW_SERVICES = ['model', 'runtime', ...PORTS];

/** The packages that the code of each package may import. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  model: [],
  runtime: ['model'],
  ...Object.fromEntries(PORTS.map((port) => [port, ['model', 'runtime']])),
  ...Object.fromEntries(SERVICES.map((service) => [service, BELOW_SERVICES])),
  cli: [...BELOW_SERVICES, ...SERVICES],
  testkit: BELOW_SERVICES,
  test: [...BELOW_SERVICES, ...SERVICES, 'cli', 'testkit'],
  'elastic-dns': ['cli'],
};

/** Parts of packages that are one choice among several: only who composes the program makes it. */
const ADAPTERS = [
  'event-log/nats',
  'event-log/embedded',
  'registry-store/etcd',
  'registry-store/embedded',
].concat(['engine/docker', 'engine/trace']);
const MAY_IMPORT_ADAPTERS = /^services\/(cli\/|[a-z]+\/main\.ts$)/;

/** A vendor's library is named in its own adapter and nowhere else: whatever it throws or lacks is dealt with there. */
const VENDORS: Record<string, RegExp> = {
  nats: /^packages\/event-log\/nats(-[a-z-]+)?\.ts$/,
  etcd3: /^packages\/registry-store\/etcd(-[a-z-]+)?\.ts$/,
  dockerode: /^packages\/engine\/docker(-[a-z-]+)?\.ts$/,
  // the data folder's lock is a database too
  'node:sqlite':
    /^packages\/(event-log|registry-store)\/embedded(-[a-z-]+)?\.ts$|^packages\/runtime\/data-dir\.ts$/,
};

/** What is wrong with the imports of one file; `root` is the manifest of the repository, `own` of its package. */
export function findForbiddenImports(source: Source, own: Manifest, root: Manifest): string[] {
  const { path, imports } = source;
  const inTests = isTestCode(path);
  const wrong: string[] = [];
  for (const specifier of imports) {
    const complain = (reason: string) => wrong.push(`${path} imports ${specifier}: ${reason}`);

    if (specifier.startsWith('.')) {
      const folder = own.folder === '.' ? '' : `${own.folder}/`;
      const target = new URL(specifier, `file:///${path}`).pathname.slice(1);
      if (!target.startsWith(folder)) complain('another package is imported by its name');
      if (!inTests && isTestCode(target)) complain('it is test code');
      continue;
    }

    const vendor = VENDORS[specifier];
    if (vendor !== undefined && !inTests && !vendor.test(path))
      complain('a vendor is named in its adapter only');
    if (isBuiltin(specifier)) {
      if (!specifier.startsWith('node:')) complain("Node's own modules are written node:...");
      continue;
    }

    const name = packageOf(specifier);
    const declared = inTests
      ? { ...root.devDependencies, ...own.dependencies, ...own.devDependencies }
      : own.folder === '.'
        ? { ...own.dependencies, ...own.devDependencies }
        : own.dependencies;
    if (!(name in declared)) complain(`${own.folder}/package.json does not declare it`);

    if (!specifier.startsWith(SCOPE)) continue;
    const target = specifier.slice(SCOPE.length);
    const allowed = MAY_IMPORT[shortName(own)] ?? [];
    if (!allowed.includes(packageOf(target)) && !(inTests && packageOf(target) === 'testkit'))
      complain(`${shortName(own)} may import ${allowed.join(', ') || 'no other package'}`);
    if (ADAPTERS.includes(target) && !inTests && !MAY_IMPORT_ADAPTERS.test(path))
      complain('only main.ts and the command line choose an adapter');
    if (!inTests && ['contract', 'fixture', 'samples'].includes(basename(target)))
      complain('it is test code');
  }
  return wrong;
}

/** What is wrong with the dependencies that one package declares, given all packages. */
export function findForbiddenDependencies(
  own: Manifest,
  sources: readonly Source[],
  all: readonly Manifest[],
): string[] {
  const wrong: string[] = [];
  const used = new Set(sources.flatMap(({ imports }) => imports.map(packageOf)));
  const allowed = MAY_IMPORT[shortName(own)];
  if (allowed === undefined)
    return [`${own.folder}/package.json: test/house/import-rules.ts does not know this package`];

  for (const [name, version] of Object.entries({ ...own.devDependencies, ...own.dependencies })) {
    const complain = (reason: string) => wrong.push(`${own.folder}/package.json declares ${name}: ${reason}`);
    if (name.startsWith(SCOPE)) {
      const target = name.slice(SCOPE.length);
      const forTests = name in own.devDependencies && target === 'testkit';
      if (!allowed.includes(target) && !forTests)
        complain(`${shortName(own)} may depend on ${allowed.join(', ') || 'no other package'}`);
      if (version !== 'workspace:*') complain('a package of this workspace is written workspace:*');
    } else {
      if (!/^\d+\.\d+\.\d+$/.test(version)) complain(`${version} is not one exact version`);
      for (const other of all) {
        const there = other.dependencies[name] ?? other.devDependencies[name];
        if (there !== undefined && there !== version) complain(`${other.folder} has it at ${there}`);
      }
    }
    // the root's dependencies are commands and what every test has
    if (own.folder !== '.' && !used.has(name.replace('@types/', ''))) complain('nothing there imports it');
  }
  return wrong;
}

function shortName({ name }: Manifest): string {
  return name.replace(SCOPE, '');
}

/** `@scope/name/part` -> `@scope/name`, `name/part` -> `name` */
function packageOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}
