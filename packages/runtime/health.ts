/**
 * The HTTP server for those who look after a process: `/metrics`, `/healthz` (is it alive: restart it when
 * not), `/readyz` (does it do its work now, and if not, why). Loopback unless told otherwise. Made by a
 * composition root; roles add their checks.
 */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ConfigError } from '@elastic-dns/model';
import type { Metrics } from './metrics.ts';

export interface CheckResult {
  ok: boolean;
  /** What is wrong, or what there is to know; shown to people. */
  why: string;
}

/** Answers at once from what is known; it does not go and look. */
export type Check = () => CheckResult;

/** The named checks of a process. */
export class Health {
  readonly #alive = new Map<string, Check>();
  readonly #ready = new Map<string, Check>();

  /** Adds what `/healthz` asks: false only where nothing but a restart of the process helps. */
  addLiveness(name: string, check: Check): void {
    this.#alive.set(name, check);
  }

  /** Adds what `/readyz` asks. */
  addReadiness(name: string, check: Check): void {
    this.#ready.set(name, check);
  }

  alive(): HealthReport {
    return report(this.#alive);
  }

  ready(): HealthReport {
    return report(this.#ready);
  }
}

export interface HealthReport {
  ok: boolean;
  checks: Record<string, CheckResult>;
}

function report(checks: ReadonlyMap<string, Check>): HealthReport {
  const results = [...checks].map(([name, check]) => [name, ask(check)] as const);
  return { ok: results.every(([, { ok }]) => ok), checks: Object.fromEntries(results) };
}

/** A check that is broken is one that fails; it must not take the process down. */
function ask(check: Check): CheckResult {
  try {
    return check();
  } catch (error) {
    return { ok: false, why: `the check itself failed: ${String(error)}` };
  }
}

export interface HealthServer {
  /** Where it listens, with the real port: `http://127.0.0.1:9464`. */
  url: string;
  /** Stops at once, open connections included. Safe to call twice. */
  close(): Promise<void>;
}

export interface HealthServerOptions {
  /** Default 127.0.0.1. */
  host?: string;
  /** 0: any free one. */
  port: number;
  metrics: Metrics;
  health: Health;
}

/** Rejects with a `ConfigError` when it cannot listen there. */
export async function startHealthServer(options: HealthServerOptions): Promise<HealthServer> {
  const { host = '127.0.0.1', port, metrics, health } = options;
  const server = createServer((request, response) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      answer(response, 405, 'text/plain', 'GET only\n');
      return;
    }
    const [path = ''] = (request.url ?? '').split('?');
    switch (path) {
      case '/healthz':
        answerReport(response, health.alive());
        return;
      case '/readyz':
        answerReport(response, health.ready());
        return;
      case '/metrics':
        metrics.metrics().then(
          (text) => answer(response, 200, metrics.contentType, text),
          (error: unknown) => answer(response, 500, 'text/plain', `${String(error)}\n`),
        );
        return;
      default:
        answer(response, 404, 'text/plain', 'there are /metrics, /healthz and /readyz\n');
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new ConfigError(`cannot listen on ${host}:${port} (http.host, http.port)`, { cause })),
    );
    server.listen(port, host, resolve);
  });
  const address = server.address() as AddressInfo;
  const shownHost = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return {
    url: `http://${shownHost}:${address.port}`,
    close: async () => {
      if (!server.listening) return;
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    },
  };
}

function answerReport(response: ServerResponse, report: HealthReport): void {
  answer(response, report.ok ? 200 : 503, 'application/json', `${JSON.stringify(report)}\n`);
}

function answer(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body);
}
