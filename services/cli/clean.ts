/** `elastic-dns clean`: takes every line that the watcher wrote out of every file again. */
import path from 'node:path';
import type { Engine } from '@elastic-dns/engine';
import { UnavailableError } from '@elastic-dns/model';
import { isDataDir, openDataDir, type Config } from '@elastic-dns/runtime';
import { clean } from '@elastic-dns/watcher';
import { Command } from 'commander';
import { openEngine } from './adapters.ts';
import type { Cli } from './cli.ts';
import { EXIT } from './exit-codes.ts';
import { printable } from './output.ts';

export function cleanCommand(cli: Cli): Command {
  return new Command('clean')
    .description("take every line of ours out of this node's hosts files; stop `up` or `watcher` first")
    .action(
      cli.action(async () => {
        const { config } = cli.load();
        const release = keepWatcherOut(config);
        const engine = config.watcher.containers ? openEngine(config) : null;
        try {
          const absence = engine && (await findAbsence(engine));
          const { hostsDir, nodeHosts } = config.watcher;
          const cleaned = await clean({ hostsDir, nodeHosts, engine: absence === null ? engine : null });
          if (cli.isJson) cli.printJson(cleaned);
          else
            cli.print(cleaned.map((each) => `${printable(each.path)}: ${printable(each.what)}\n`).join(''));
          if (absence) {
            return cli.fail(
              new UnavailableError(`the containers' files were left as they are: ${absence.message}`),
            );
          }
          if (cleaned.length === 0) cli.say('there was nothing to take out');
          return cleaned.some(({ what }) => what.startsWith('failed')) ? EXIT.failed : EXIT.ok;
        } finally {
          await engine?.close();
          release();
        }
      }),
    );
}

/** `ConfigError` while a watcher runs, which would write it all again. */
function keepWatcherOut({ dataDir }: Config): () => void {
  const folder = path.join(dataDir, 'watcher');
  if (!isDataDir(folder)) return () => undefined;
  const taken = openDataDir(folder);
  return () => taken.release();
}

/** Why the engine cannot be asked; null when it can. */
async function findAbsence(engine: Engine): Promise<UnavailableError | null> {
  try {
    await engine.info();
    return null;
  } catch (error) {
    if (error instanceof UnavailableError) return error;
    throw error;
  }
}
