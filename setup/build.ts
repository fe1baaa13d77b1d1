/**
 * Bundles the command line, and with it every role, into one file, dist/elastic-dns.mjs, which needs Node and
 * nothing else. Called by setup/bootstrap and by the `build` script.
 */
import { createRequire } from 'node:module';
import { readFile } from 'node:fs/promises';
import { build, type Plugin } from 'esbuild';

const root = new URL('..', import.meta.url).pathname;

/** CommonJS dependencies expect these three names; an ES module has none of them. */
const banner = [
  `import { createRequire as createRequireForBundle } from 'node:module';`,
  `const require = createRequireForBundle(import.meta.url);`,
  `const __filename = import.meta.filename;`,
  `const __dirname = import.meta.dirname;`,
].join('\n');

/** The part of protobufjs that is used here. */
type ProtocolRoot = { loadSync(file: string, options: { keepCase: boolean }): { toJSON(): object } };

/**
 * etcd3 reads its protocol from a .proto file beside it when it is loaded; a bundle has no file beside it. So the
 * parsed protocol goes into the bundle as JSON, loaded with the options of etcd3's own call.
 */
const inlineEtcdProtocol: Plugin = {
  name: 'inline-etcd-protocol',
  setup(bundler) {
    bundler.onLoad({ filter: /\/etcd3\/lib\/connection-pool\.js$/ }, async ({ path }) => {
      const fromEtcd = createRequire(path);
      const fromLoader = createRequire(fromEtcd.resolve('@grpc/proto-loader'));
      const { Root } = fromLoader('protobufjs') as { Root: new () => ProtocolRoot };
      // keepCase as in etcd3's own call: without it every field of two words is silently undefined
      const protocol = new Root()
        .loadSync(fromEtcd.resolve('../proto/rpc.proto'), { keepCase: true })
        .toJSON();

      const source = await readFile(path, 'utf8');
      const call = '(0, proto_loader_1.loadSync)(`${__dirname}/../proto/rpc.proto`,';
      if (!source.includes(call))
        throw new Error(`${path} no longer loads its protocol in the way known here`);
      const inlined = `(0, proto_loader_1.fromJSON)(${JSON.stringify(protocol)},`;
      return { contents: source.replace(call, () => inlined), loader: 'js' };
    });
  },
};

await build({
  entryPoints: [`${root}services/cli/main.ts`],
  outfile: `${root}dist/elastic-dns.mjs`,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node22.18',
  banner: { js: banner },
  external: ['cpu-features', '*.node'],
  plugins: [inlineEtcdProtocol],
  logLevel: 'warning',
}).catch(() => {
  // esbuild has said why
  process.exitCode = 1;
});
