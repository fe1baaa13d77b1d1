/** `elastic-dns version`: which program this is. */
import { Command } from 'commander';
import type { Cli } from './cli.ts';
import { EXIT } from './exit-codes.ts';
import manifest from './package.json' with { type: 'json' };

export const VERSION = manifest.version;

export function versionCommand(cli: Cli): Command {
  return new Command('version')
    .description('print the version of this program and of what it runs on')
    .action(
      cli.action(async () => {
        const facts = {
          version: VERSION,
          node: process.versions.node,
          platform: process.platform,
          architecture: process.arch,
        };
        if (cli.isJson) cli.printJson(facts);
        else
          cli.print(`elastic-dns ${VERSION} (Node ${facts.node}, ${facts.platform} ${facts.architecture})\n`);
        return EXIT.ok;
      }),
    );
}
