import { expect, test } from 'vitest';
import fc from 'fast-check';
import { parseDockerEvent } from './docker-event.ts';

const id = 'c0ffee'.padEnd(64, '0');

/** A line as engine 20.10 sends it, `timeNano` last. */
function line(type: string, action: string, attributes: Record<string, string> = {}, actor = id): string {
  const scope = { scope: 'local', time: 1_795_364_011 };
  const message = { Type: type, Action: action, Actor: { ID: actor, Attributes: attributes }, ...scope };
  return `${JSON.stringify(message).slice(0, -1)},"timeNano":1795364011580426491}`;
}

const origin = { containerId: id, atNs: 1_795_364_011_580_426_491n };

test('reads every kind of event, with its time to the nanosecond', () => {
  for (const kind of ['create', 'start', 'pause', 'unpause', 'destroy', 'rename', 'oom']) {
    expect(parseDockerEvent(line('container', kind))).toEqual({ ...origin, kind });
  }
  expect(parseDockerEvent(line('container', 'kill', { signal: '15' }))).toEqual({
    ...origin,
    kind: 'kill',
    signal: 15,
  });
  expect(parseDockerEvent(line('container', 'die', { exitCode: '137' }))).toEqual({
    ...origin,
    kind: 'die',
    exitCode: 137,
  });
  expect(parseDockerEvent(line('container', 'die'))).toEqual({ ...origin, kind: 'die', exitCode: null });
  expect(parseDockerEvent(line('container', 'health_status: unhealthy'))).toEqual({
    ...origin,
    kind: 'health',
    health: 'unhealthy',
  });
});

test('finds the container of a network event among its attributes', () => {
  const attributes = { container: id, name: 'back', type: 'bridge' };
  for (const kind of ['connect', 'disconnect']) {
    expect(parseDockerEvent(line('network', kind, attributes, 'f'.repeat(64)))).toEqual({
      ...origin,
      kind,
      network: 'back',
    });
  }
});

test('leaves out what means nothing here, and what cannot be read', () => {
  const lines = [
    line('container', 'exec_create: /bin/sh -c true'),
    line('container', 'health_status: splendid'),
    line('container', 'kill', { signal: 'x' }),
    line('container', 'start', {}, 'not an id'),
    line('network', 'create', { container: id }),
    line('network', 'connect', { name: 'back' }),
    line('container', 'start').replace('timeNano', 'time'),
    '{"Type":"container"}',
    'not JSON',
    '',
  ];
  for (const text of lines) expect(parseDockerEvent(text)).toBeNull();
});

test('is not led astray by a label that looks like the time', () => {
  const labels = { 'a"timeNano":1': '"timeNano":2,', signal: '9', timeNano: '3' };
  expect(parseDockerEvent(line('container', 'start', labels))).toEqual({ ...origin, kind: 'start' });
});

test('reads the time whatever the labels are', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.string()), (labels) => {
      expect(parseDockerEvent(line('container', 'start', labels))).toEqual({ ...origin, kind: 'start' });
    }),
  );
});
