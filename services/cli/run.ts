/**
 * The command line as a function: arguments in, exit code out. Called by main.ts with the process, by tests with
 * streams of their own.
 */
import { InvalidInputError } from '@elastic-dns/model';
import { describeConfig, systemClock } from '@elastic-dns/runtime';
import { Command, CommanderError, Option } from 'commander';
import { cleanCommand } from './clean.ts';
import { Cli, type Io } from './cli.ts';
import { configCommand } from './config.ts';
import { eventsCommand } from './events.ts';
import { EXIT_MEANINGS, type ExitCode } from './exit-codes.ts';
import { listCommand } from './list.ts';
import { resolveCommand } from './resolve.ts';
import { agentCommand, registrarCommand, watcherCommand } from './roles.ts';
import { upCommand } from './up.ts';
import { VERSION, versionCommand } from './version.ts';

/** Every command; each file makes one. */
const COMMANDS = [
  upCommand,
  agentCommand,
  registrarCommand,
  watcherCommand,
  listCommand,
  resolveCommand,
  eventsCommand,
  configCommand,
  cleanCommand,
  versionCommand,
];

/** Flags that are shown in the help; every other setting has one as well. */
const COMMON = new Set(['dataDir', 'logging.level']);

/** Runs one command. Never throws: what goes wrong is told on stderr and is in the exit code. */
export async function run(argv: readonly string[], io: Partial<Io> = {}): Promise<ExitCode> {
  const cli = new Cli({
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    signals: process,
    clock: systemClock,
    ...io,
  });
  try {
    await createProgram(cli).parseAsync(argv, { from: 'user' });
    return cli.exitCode;
  } catch (error) {
    if (!(error instanceof CommanderError)) return cli.fail(error);
    // Help and version end like this as well.
    if (error.exitCode === 0) return cli.exitCode;
    return cli.fail(new InvalidInputError(describeUsageError(error), { cause: error }));
  }
}

function createProgram(cli: Cli): Command {
  const program = new Command('elastic-dns')
    .description('Containers on many servers find each other by name.')
    .version(VERSION)
    .option('--config <path>', 'read settings from this YAML file', (path: string) => (cli.configPath = path))
    .option('--json', 'print JSON, for programs', () => (cli.isJson = true))
    .configureOutput({
      writeOut: (text) => cli.print(text),
      writeErr: (text) => cli.io.stderr.write(text),
      // Told by run(), in the one form that all errors have.
      outputError: () => undefined,
    })
    .exitOverride()
    .addHelpText('after', describeRest());
  for (const row of describeConfig()) {
    for (const [index, flag] of row.flags.entries()) {
      const option = new Option(`${flag} <value>`, row.meaning).argParser((value: string) => {
        cli.flags.set(row.key, value);
        return value;
      });
      program.addOption(COMMON.has(row.key) && index === 0 ? option : option.hideHelp());
    }
  }
  for (const create of COMMANDS) program.addCommand(inherit(create(cli), program));
  return program;
}

/** Subcommands that were made on their own print and end as the program does. */
function inherit(command: Command, program: Command): Command {
  return command.copyInheritedSettings(program);
}

function describeRest(): string {
  const codes = Object.entries(EXIT_MEANINGS).map(([code, meaning]) => `  ${code.padEnd(4)} ${meaning}`);
  return `
Every setting is a flag, an environment variable and a key of the configuration file: see
\`elastic-dns config --reference\`.

Exit codes:
${codes.join('\n')}
`;
}

/** Commander's words on one line. */
function describeUsageError(error: CommanderError): string {
  if (error.code === 'commander.help') return 'say what to do; there is `elastic-dns --help`';
  return error.message.replace(/^error: /, '').replaceAll('\n', ' ');
}
