import { cp, rm } from 'node:fs/promises';
import { CompactedError, UnavailableError } from '@elastic-dns/model';
import { checkLeaks } from '@elastic-dns/testkit/leaks';
import { startEtcd, type TestServer } from '@elastic-dns/testkit/servers';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { puts, readAll } from './contract.ts';
import { EtcdStore } from './etcd.ts';
import { at, numbers, range, Recorder, twice, write } from './fixture.ts';

checkLeaks();

describe('etcd store whose server breaks', () => {
  let server: TestServer;
  let store: EtcdStore;

  beforeEach(async () => {
    server = await startEtcd();
    store = new EtcdStore({ endpoints: [server.url] });
  });
  afterEach(async () => {
    await store.close();
    await server.remove();
  });

  test('a server that accepts and answers nothing is noticed by calls and by a watch, which goes on when it wakes', async () => {
    const recorder = new Recorder(store, range, await write(store, ['before']));
    await write(store, ['a']);
    await waitUntil(() => recorder.values.length === 2, { what: 'the first change' });
    await server.pause();
    await expect(store.commit({ puts: puts(at, ['never']), deletes: [] })).rejects.toThrow(UnavailableError);
    await expect(store.get(at('a'))).rejects.toThrow(UnavailableError);
    await waitUntil(() => recorder.errors.length > 0, { what: 'the watch to notice', timeoutMs: 40_000 });
    expect(server.state()).toBe('paused');
    expect(recorder.errors[0]).toBeInstanceOf(UnavailableError);
    await server.resume();
    await waitUntil(() => store.get(at('a')), { what: 'an answer' });
    await write(store, ['b']);
    await waitUntil(() => recorder.values.includes('b'), { what: 'the next change' });
    await recorder.stop();
    // What was sent to the stopped server may be in or not: that is what the error has said.
    expect(recorder.values.filter((value) => value !== 'never')).toEqual(twice(['a', 'b']));
  });

  test('a watch loses and repeats nothing over a restart', async () => {
    const recorder = new Recorder(store, range, await write(store, ['before']));
    await write(store, numbers(0, 50));
    const pid = server.pid();
    await server.restart();
    expect(server.pid()).not.toBe(pid);
    await waitUntil(() => store.get(at('before')), { what: 'an answer' });
    await write(store, numbers(50, 100));
    await waitUntil(() => recorder.values.length >= 200, { what: 'all changes' });
    await recorder.stop();
    expect(recorder.values).toEqual(twice(numbers(0, 100)));
  });

  test('a watch tells of an outage of more than 20 s, and goes on after it without loss or repetition', async () => {
    const recorder = new Recorder(store, range, await write(store, ['before']));
    await write(store, ['a']);
    await waitUntil(() => recorder.values.length === 2, { what: 'the first change' });
    await server.kill();
    const killedAtMs = performance.now();
    await waitUntil(() => performance.now() - killedAtMs > 21_000, { what: 'the outage', timeoutMs: 30_000 });
    expect(server.state()).toBe('gone');
    expect(recorder.errors.length).toBeGreaterThan(0);
    expect(recorder.errors.every((error) => error instanceof UnavailableError)).toBe(true);
    await server.start();
    await waitUntil(() => store.get(at('a')), { what: 'an answer' });
    await write(store, ['b']);
    await waitUntil(() => recorder.values.includes('b'), { what: 'the next change' });
    await recorder.stop();
    expect(recorder.values).toEqual(twice(['a', 'b']));
  });

  test('a watch ends when the server was put back to an older state, instead of staying silent', async () => {
    const copy = `${server.dataDir}.copy`;
    await write(store, ['old']);
    await server.stop();
    await cp(server.dataDir, copy, { recursive: true });
    await server.start();
    await waitUntil(() => store.get(at('old')), { what: 'an answer' });
    const revision = await write(store, numbers(0, 20));
    const recorder = new Recorder(store, range, revision);
    await server.kill();
    await rm(server.dataDir, { recursive: true });
    await cp(copy, server.dataDir, { recursive: true });
    await server.start();
    await waitUntil(() => recorder.errors.at(-1) instanceof CompactedError, { what: 'the error' });
    expect((await readAll(store, range)).revision).toBeLessThan(revision);
    await recorder.stop();
    expect(recorder.values).toEqual([]);
  });
});
