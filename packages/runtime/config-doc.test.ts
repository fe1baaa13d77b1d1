/** Holds docs/configuration.md equal to the schema; `vitest run -u` on this file writes it anew. */
import { expect, test } from 'vitest';
import { CONFIG_PATH_ENV, DEFAULT_CONFIG_PATH } from './config.ts';
import { describeConfig, describeDefault, type SettingRow } from './config-schema.ts';

test('docs/configuration.md says what the schema says', async () => {
  await expect(document()).toMatchFileSnapshot('../../docs/configuration.md');
});

function document(): string {
  return [
    '# Configuration',
    `Every setting has a default that is right for a single server. Settings come from, the later the stronger:

1. their defaults;
2. a YAML file: the one that \`--config PATH\` or \`${CONFIG_PATH_ENV}\` names, else \`${DEFAULT_CONFIG_PATH}\` if it is there;
3. environment variables (one that is set to nothing counts as not set);
4. flags, which every command takes.

\`elastic-dns config\` prints what is in force and where each value came from, with secrets masked. A key that is not
known is an error, in the file and among the variables that start with \`ELASTIC_DNS_\` alike.

A setting \`watcher.quiet\` stands in the file as:

\`\`\`yaml
watcher:
  quiet: 5ms
\`\`\`

Durations are written as \`250ms\`, \`30s\`, \`5m\`, \`12h\`, \`30d\` or as a number of milliseconds; sizes as \`512MiB\`, \`1GiB\`
or a number of bytes; lists as YAML lists or as text with commas. A secret can be given by value (in the file or the
environment; it has no flag, as everybody on a machine can see those) or by the path of a file that holds it; a file
that everybody may read is warned about.`,
    ...sections(),
  ]
    .join('\n\n')
    .concat('\n');
}

function* sections(): Generator<string> {
  let section = '';
  for (const row of describeConfig()) {
    const [group = '', ...rest] = row.key.split('.');
    const title = rest.length === 0 ? 'General' : group;
    if (title !== section) yield `## ${title}`;
    section = title;
    yield describe(row);
  }
}

function describe(row: SettingRow): string {
  const names = [row.env, ...row.flags].map(code).join(', ');
  return `### ${row.key}

${row.meaning}

- Value: ${row.type}
- Default: ${row.found ? row.found.text : row.default === null ? 'not set' : code(describeDefault(row))}
- Also as: ${names}`;
}

function code(text: string): string {
  return `\`${text}\``;
}
