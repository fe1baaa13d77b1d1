/**
 * For the tests of the NATS adapter under faults: a broker of its own that can be broken, logs on it, directly or through
 * a proxy, and clients that go on through it all.
 */
import { UnavailableError, type LogEntry } from '@elastic-dns/model';
import { startFaultProxy, type FaultProxy } from '@elastic-dns/testkit/fault-proxy';
import { startNats, type TestServer } from '@elastic-dns/testkit/servers';
import { vi, type MockInstance } from 'vitest';
import type { Log, Receipt } from './log.ts';
import { NatsLog, type NatsLogOptions, type NatsNotice } from './nats.ts';
import { makePublication } from './samples.ts';

/** An attempt takes some time as a rule; so many mean that nothing will come of it. */
const MAX_ATTEMPTS = 100_000;

export class NatsFixture {
  readonly server: TestServer;
  /** What the logs have told, all together. */
  readonly notices: NatsNotice[] = [];
  readonly #logs: NatsLog[] = [];
  readonly #proxies: FaultProxy[] = [];
  readonly #stops: (() => Promise<void>)[] = [];
  readonly #console: MockInstance[];

  private constructor(server: TestServer) {
    this.server = server;
    this.#console = ['log', 'info', 'warn', 'error'].map((method) =>
      vi.spyOn(console, method as 'log').mockImplementation(() => {}),
    );
  }

  static async start(): Promise<NatsFixture> {
    return new NatsFixture(await startNats());
  }

  /** Ends all that was begun here. Rejects when the client has told anybody but us. */
  async remove(): Promise<void> {
    for (const stop of this.#stops) await stop();
    await Promise.all(this.#logs.map((log) => log.close()));
    await Promise.all(this.#proxies.map((proxy) => proxy.close()));
    await this.server.remove();
    const lines = this.#console.flatMap(({ mock }) => mock.calls);
    vi.restoreAllMocks();
    if (lines.length > 0) throw new Error(`printed: ${JSON.stringify(lines)}`);
  }

  open(options: Partial<NatsLogOptions> = {}): NatsLog {
    const onNotice = (notice: NatsNotice): void => void this.notices.push(notice);
    const log = new NatsLog({ servers: [this.server.url], onNotice, ...options });
    this.#logs.push(log);
    return log;
  }

  async openThroughProxy(): Promise<{ log: NatsLog; proxy: FaultProxy }> {
    const proxy = await startFaultProxy(this.server);
    this.#proxies.push(proxy);
    return { log: this.open({ servers: [`${proxy.host}:${proxy.port}`] }), proxy };
  }

  count(kind: NatsNotice['kind']): number {
    return this.notices.filter((notice) => notice.kind === kind).length;
  }

  /** Reads on over all that is bridged or not, as a registrar does; keeps why it had to begin again. */
  followForever(log: Log) {
    const abort = new AbortController();
    const entries: LogEntry[] = [];
    const interruptions: unknown[] = [];
    const ended = (async () => {
      while (!abort.signal.aborted) {
        const from = (entries.at(-1)?.sequence ?? 0) + 1;
        try {
          for await (const batch of log.read({ from, signal: abort.signal })) entries.push(...batch);
        } catch (error) {
          if (!(error instanceof UnavailableError)) throw error;
          interruptions.push(error);
        }
      }
    })();
    this.#stops.push(() => {
      abort.abort();
      return ended;
    });
    return { interruptions, sequences: () => entries.map(({ sequence }) => sequence) };
  }
}

/** Publishes until it is acknowledged, as an agent does; counts the attempts whose outcome it never learned. */
export async function insist(log: Log, number: number, unknown: { attempts: number }): Promise<Receipt> {
  for (;;) {
    try {
      return await log.publish(makePublication(number));
    } catch (error) {
      if (!(error instanceof UnavailableError) || unknown.attempts >= MAX_ATTEMPTS) throw error;
      unknown.attempts += 1;
    }
  }
}

export function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}
