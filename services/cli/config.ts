/** `elastic-dns config`: what is in force and where it came from; `--reference`: everything that can be set. */
import { describeConfig, describeDefault, describeSource, type SettingInForce } from '@elastic-dns/runtime';
import { Command } from 'commander';
import type { Cli } from './cli.ts';
import { EXIT } from './exit-codes.ts';
import type { Column } from './output.ts';

interface SettingShown {
  key: string;
  /** As it was written; secrets masked; null: not set. */
  value: SettingInForce['shown'];
  source: string;
}

const IN_FORCE: Column<SettingShown>[] = [
  { title: 'SETTING', text: ({ key }) => key },
  { title: 'VALUE', text: ({ value }) => (value === null ? '-' : String(value)), whenNarrow: 'cut' },
  { title: 'FROM', text: ({ source }) => source, whenNarrow: 'cut' },
];

export function configCommand(cli: Cli): Command {
  return new Command('config')
    .description('print the settings in force and where each came from')
    .option('--reference', 'print all that can be set instead, with defaults and meanings')
    .action(
      cli.action(async ({ reference }: { reference?: true }) => {
        if (reference) printReference(cli);
        else printInForce(cli);
        return EXIT.ok;
      }),
    );
}

function printInForce(cli: Cli): void {
  const rows: SettingShown[] = cli
    .load()
    .settings.map(({ key, shown, source }) => ({ key, value: shown, source: describeSource(source) }));
  if (cli.isJson) cli.printJson(rows);
  else cli.printTable(IN_FORCE, rows);
}

function printReference(cli: Cli): void {
  const rows = describeConfig().map((row) => ({
    key: row.key,
    type: row.type,
    default: describeDefault(row),
    environment: row.env,
    flags: row.flags,
    meaning: row.meaning,
  }));
  if (cli.isJson) return cli.printJson(rows);
  const entries = rows.map(
    ({ key, type, default: fallback, environment, flags, meaning }) => `${key}
  ${meaning}
  value:   ${type}
  default: ${fallback}
  also as: ${[...flags, environment].join(', ')}
`,
  );
  cli.print(entries.join('\n'));
}
