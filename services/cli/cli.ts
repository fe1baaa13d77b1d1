/** What every command gets: where it reads from and prints to, the global flags, the configuration. Made by run.ts. */
import { ElasticDnsError } from '@elastic-dns/model';
import { loadConfig, type Clock, type LoadedConfig, type SignalSource } from '@elastic-dns/runtime';
import { EXIT, exitCodeOf, type ExitCode } from './exit-codes.ts';
import { formatTable, layoutFor, printable, toJson, type Column, type Output } from './output.ts';

/** The world outside of the program; tests bring their own. */
export interface Io {
  stdout: Output;
  stderr: Output;
  env: NodeJS.ProcessEnv;
  signals: SignalSource;
  clock: Clock;
}

export class Cli {
  readonly io: Io;
  /** `--json`: for programs. */
  isJson = false;
  /** `--config`. */
  configPath: string | undefined;
  /** Settings that were given as flags, by key. */
  readonly flags = new Map<string, string>();
  exitCode: ExitCode = EXIT.ok;
  #loaded: LoadedConfig | undefined;

  constructor(io: Io) {
    this.io = io;
  }

  /** Makes a command's action out of a function that resolves to the exit code. */
  action<Arguments extends unknown[]>(
    act: (...given: Arguments) => Promise<ExitCode>,
  ): (...given: Arguments) => Promise<void> {
    return async (...given) => {
      this.exitCode = await act(...given);
    };
  }

  /** The configuration in force; read once. `ConfigError` when it cannot be. */
  load(): LoadedConfig {
    if (!this.#loaded) {
      const { configPath: path, flags } = this;
      this.#loaded = loadConfig({ ...(path === undefined ? {} : { path }), flags, env: this.io.env });
      for (const warning of this.#loaded.warnings) this.say(`warning: ${warning}`);
    }
    return this.#loaded;
  }

  print(text: string): void {
    this.io.stdout.write(text);
  }

  printJson(value: unknown): void {
    this.print(`${toJson(value, 2)}\n`);
  }

  /** One object per line, for output that has no end. */
  printJsonLine(value: unknown): void {
    this.print(`${toJson(value)}\n`);
  }

  printTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): void {
    this.print(formatTable(columns, rows, layoutFor(this.io.stdout, this.io.env)));
  }

  /** A line for people beside the output. */
  say(text: string): void {
    for (const line of text.split('\n')) this.io.stderr.write(`elastic-dns: ${printable(line)}\n`);
  }

  /** Tells of an error, and resolves what the process exits with. */
  fail(error: unknown): ExitCode {
    const code = error instanceof ElasticDnsError ? error.code : 'UNEXPECTED';
    const message = error instanceof Error ? error.message : String(error);
    if (this.isJson) this.io.stderr.write(`${toJson({ error: { code, message } })}\n`);
    else for (const line of message.split('\n')) this.say(`${line} (${code})`);
    if (this.#isDebugging && error instanceof Error) this.say(error.stack ?? '');
    return exitCodeOf(error);
  }

  get #isDebugging(): boolean {
    const level = this.flags.get('logging.level') ?? this.io.env['ELASTIC_DNS_LOGGING_LEVEL'];
    return level === 'debug' || level === 'trace';
  }
}
