import { once } from 'node:events';
import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { claim } from './claims.ts';
import { checkLeaks } from './leaks.ts';
import { reservePort } from './ports.ts';

checkLeaks();

test('a reserved port is given to nobody else, until it is released', async () => {
  const reserved = await reservePort();
  expect(await claim(`port-${reserved.port}`)).toBeUndefined();
  await reserved.release();
  const again = await claim(`port-${reserved.port}`);
  expect(again).toBeDefined();
  await again?.();
});

test('a reserved port can be listened on', async () => {
  const reserved = await reservePort();
  const server = createServer().listen(reserved.port, '127.0.0.1');
  await once(server, 'listening');
  expect(server.listening).toBe(true);
  server.close();
  await once(server, 'close');
  await reserved.release();
});
