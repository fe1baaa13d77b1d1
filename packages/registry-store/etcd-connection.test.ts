import { ConfigError } from '@elastic-dns/model';
import { expect, test } from 'vitest';
import { translateError } from './etcd-connection.ts';
import { EtcdStore } from './etcd.ts';

test.each([
  [{ endpoints: [] }, 'no etcd endpoint given'],
  [{ endpoints: ['localhost:2379'] }, 'use http://host:port or https://host:port'],
  [{ endpoints: ['http://a:1', 'https://b:1'] }, 'use https for all or for none'],
  [{ endpoints: ['http://a:1'], ca: 'x' }, 'use https endpoints'],
  [{ endpoints: ['https://a:1'], cert: 'x' }, 'a certificate and its key together'],
  [{ endpoints: ['http://u:hush@a:1'] }, 'an etcd endpoint is http://host:port without user and password'],
  [{ endpoints: ['http://a:1'], username: 'x' }, 'a user name and a password together'],
  [{ endpoints: ['https://a:1'], ca: 'not PEM', cert: 'x', key: 'y' }, 'cannot be read'],
])('refuses options that cannot work: %j', (options, message) => {
  expect(() => new EtcdStore(options)).toThrow(ConfigError);
  expect(() => new EtcdStore(options)).toThrow(message);
});

test.each([
  [14, '14 UNAVAILABLE: No connection established', 'UNAVAILABLE'],
  [14, '14 UNAVAILABLE: etcdserver: request timed out', 'UNAVAILABLE'],
  [4, '4 DEADLINE_EXCEEDED: Deadline exceeded', 'UNAVAILABLE'],
  [8, '8 RESOURCE_EXHAUSTED: etcdserver: mvcc: database space exceeded', 'UNAVAILABLE'],
  [16, '16 UNAUTHENTICATED: etcdserver: invalid auth token', 'UNAVAILABLE'],
  [11, '11 OUT_OF_RANGE: etcdserver: mvcc: required revision has been compacted', 'COMPACTED'],
  [11, '11 OUT_OF_RANGE: etcdserver: mvcc: required revision is a future revision', 'COMPACTED'],
  [3, '3 INVALID_ARGUMENT: etcdserver: request is too large', 'INVALID_INPUT'],
  [3, '3 INVALID_ARGUMENT: etcdserver: user name is empty', 'CONFIG'],
  [7, '7 PERMISSION_DENIED: etcdserver: permission denied', 'CONFIG'],
])('translates error %i of the transport, "%s", to %s, with its cause', (code, message, translated) => {
  const error = translateError(Object.assign(new Error(message), { code }));
  expect(error.code).toBe(translated);
  expect(error.cause).toBeInstanceOf(Error);
  // The same when the client has made it one of its own classes.
  expect(translateError(error.cause).code).toBe(translated);
});

test('translates what is no error at all, and leaves alone what is ours', () => {
  expect(translateError('broken').code).toBe('UNAVAILABLE');
  const ours = new ConfigError('ours');
  expect(translateError(ours)).toBe(ours);
});
