import { connect } from 'node:net';
import { once } from 'node:events';
import { ConfigError } from '@elastic-dns/model';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { afterEach, expect, test } from 'vitest';
import { Health, startHealthServer, type HealthServer } from './health.ts';
import { counter, createMetrics } from './metrics.ts';

checkLeaks();

const servers: HealthServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function start(health = new Health(), port = 0): Promise<HealthServer> {
  const metrics = createMetrics({ processMetrics: false });
  counter(metrics, { name: 'elastic_dns_things_total', help: 'Things.' }).inc(3);
  const server = await startHealthServer({ port, metrics, health });
  servers.push(server);
  return server;
}

test('listens on loopback, on a port of its own when asked for 0', async () => {
  const { url } = await start();
  expect(url).toMatch(/^http:\/\/127\.0\.0\.1:[1-9]\d*$/);
});

test('serves metrics in the format that scrapers read', async () => {
  const response = await fetch(`${(await start()).url}/metrics`);
  expect(response.headers.get('content-type')).toContain('text/plain; version=0.0.4');
  expect(await response.text()).toContain('elastic_dns_things_total 3');
});

test('is ready when every check is, and names the one that is not', async () => {
  const health = new Health();
  let isStoreReady = false;
  health.addReadiness('store', () => ({
    ok: isStoreReady,
    why: isStoreReady ? 'revision 7' : 'out of reach',
  }));
  health.addReadiness('engine', () => ({ ok: true, why: 'Docker 20.10' }));
  const { url } = await start(health);

  const before = await fetch(`${url}/readyz`);
  expect(before.status).toBe(503);
  expect(await before.json()).toEqual({
    ok: false,
    checks: { store: { ok: false, why: 'out of reach' }, engine: { ok: true, why: 'Docker 20.10' } },
  });
  isStoreReady = true;
  expect((await fetch(`${url}/readyz`)).status).toBe(200);
});

test('is not ready, and stays up, when a check itself breaks', async () => {
  const health = new Health();
  health.addReadiness('store', () => {
    throw new TypeError('undefined is not a function');
  });
  const response = await fetch(`${(await start(health)).url}/readyz`);
  expect(response.status).toBe(503);
  expect(await response.text()).toContain('undefined is not a function');
});

test('stays alive while it is not ready, and is dead when a loop is', async () => {
  const health = new Health();
  let loop = { ok: true, why: 'running' };
  health.addReadiness('store', () => ({ ok: false, why: 'out of reach' }));
  health.addLiveness('loop', () => loop);
  const { url } = await start(health);
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  loop = { ok: false, why: 'given up' };
  expect((await fetch(`${url}/healthz`)).status).toBe(503);
});

test("takes a scraper's query string, refuses other paths and other methods", async () => {
  const { url } = await start();
  expect((await fetch(`${url}/readyz?verbose=1`)).status).toBe(200);
  expect((await fetch(`${url}/admin`)).status).toBe(404);
  expect((await fetch(`${url}/metrics`, { method: 'POST' })).status).toBe(405);
});

test('is a ConfigError that names the address when the port is taken', async () => {
  const { url } = await start();
  const port = Number(new URL(url).port);
  await expect(start(new Health(), port)).rejects.toThrow(ConfigError);
  await expect(start(new Health(), port)).rejects.toThrow(`127.0.0.1:${port}`);
});

test('closes while a client keeps its connection open', async () => {
  const server = await start();
  const { hostname, port } = new URL(server.url);
  const socket = connect(Number(port), hostname);
  await once(socket, 'connect');
  const closed = once(socket, 'close');
  await server.close();
  await server.close();
  expect(await closed).toHaveLength(1);
});
