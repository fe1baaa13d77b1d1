import { expect, test } from 'vitest';
import {
  containerOfInspect,
  containerOfSummary,
  signalNumber,
  type InspectAnswer,
  type SummaryAnswer,
} from './docker-container.ts';

const id = 'c0ffee'.padEnd(64, '0');
const ROOT = '/var/lib/docker';

/** As engine 20.10 answers for a container that runs, shortened to what is read. */
function inspectAnswer(changes: {
  [Part in keyof InspectAnswer]?: Partial<InspectAnswer[Part]>;
}): InspectAnswer {
  const answer: InspectAnswer = {
    Id: id,
    Name: '/shop-api-1',
    HostsPath: `${ROOT}/containers/${id}/hosts`,
    State: { Status: 'running', StartedAt: '2026-11-22T16:13:31.579426491Z' },
    Config: { Labels: { 'com.docker.compose.service': 'api' }, ExposedPorts: { '80/tcp': {} } },
    HostConfig: { NetworkMode: 'shop_default' },
    NetworkSettings: {
      Networks: { shop_default: { IPAddress: '10.1.0.2', GlobalIPv6Address: '' } },
      Ports: { '80/tcp': null },
    },
  };
  const merged = Object.fromEntries(
    Object.entries(answer).map(([part, value]) => {
      const change: unknown = changes[part as keyof InspectAnswer];
      return [part, typeof value === 'object' ? { ...value, ...(change as object) } : (change ?? value)];
    }),
  );
  return merged as unknown as InspectAnswer;
}

test('describes a running container', () => {
  expect(containerOfInspect(inspectAnswer({}), ROOT)).toEqual({
    id,
    name: 'shop-api-1',
    labels: { 'com.docker.compose.service': 'api' },
    status: 'running',
    health: 'none',
    startedAtMs: Date.parse('2026-11-22T16:13:31.579Z'),
    hostNetwork: false,
    networks: [{ name: 'shop_default', ipv4: '10.1.0.2', ipv6: null }],
    ports: [{ port: 80, protocol: 'tcp', published: null }],
    stopSignal: 15,
    hostsPath: `${ROOT}/containers/${id}/hosts`,
  });
});

test('a container that never started has no start time, and its hosts file is known before it is there', () => {
  const answer = inspectAnswer({
    HostsPath: '',
    State: { Status: 'created', StartedAt: '0001-01-01T00:00:00Z' },
  });
  expect(containerOfInspect(answer, '/data')).toMatchObject({
    status: 'created',
    startedAtMs: 0,
    hostsPath: `/data/containers/${id}/hosts`,
  });
});

test('health is what the engine says, and starting where a check is declared but has not begun', () => {
  const healthOf = (State: object, Config: object): string =>
    containerOfInspect(inspectAnswer({ State, Config }), ROOT).health;
  const declared = { Healthcheck: { Test: ['CMD-SHELL', 'true'] } };
  expect(healthOf({ Health: { Status: 'unhealthy' } }, declared)).toBe('unhealthy');
  expect(healthOf({}, declared)).toBe('starting');
  expect(healthOf({ Health: { Status: 'none' } }, { Healthcheck: { Test: ['NONE'] } })).toBe('none');
  expect(healthOf({}, { Healthcheck: {} })).toBe('none');
});

test('the host network and none are no networks', () => {
  const host = inspectAnswer({
    HostConfig: { NetworkMode: 'host' },
    NetworkSettings: { Networks: { host: { IPAddress: '' } } },
  });
  expect(containerOfInspect(host, ROOT)).toMatchObject({ hostNetwork: true, networks: [] });
  const none = inspectAnswer({
    HostConfig: { NetworkMode: 'none' },
    NetworkSettings: { Networks: { none: {} } },
  });
  expect(containerOfInspect(none, ROOT)).toMatchObject({ hostNetwork: false, networks: [] });
});

test('a container in the network of another has no hosts file of its own', () => {
  const answer = inspectAnswer({
    HostConfig: { NetworkMode: `container:${'d'.repeat(64)}` },
    NetworkSettings: { Networks: {} },
  });
  expect(containerOfInspect(answer, ROOT)).toMatchObject({ networks: [], hostsPath: null });
});

test('a port that is published on loopback only counts as not published', () => {
  const answer = inspectAnswer({
    NetworkSettings: {
      Ports: {
        '80/tcp': [
          { HostIp: '127.0.0.1', HostPort: '8081' },
          { HostIp: '0.0.0.0', HostPort: '8082' },
          { HostIp: '::', HostPort: '8083' },
        ],
        '81/tcp': [{ HostIp: '::1', HostPort: '8084' }],
        '82/udp': [{ HostIp: '', HostPort: '8085' }],
        '99999/tcp': null,
        '83/quic': null,
      },
    },
  });
  expect(containerOfInspect(answer, ROOT).ports).toEqual([
    { port: 80, protocol: 'tcp', published: 8082 },
    { port: 81, protocol: 'tcp', published: null },
    { port: 82, protocol: 'udp', published: 8085 },
  ]);
});

test('the short description gives what it can', () => {
  const summary: SummaryAnswer = {
    Id: id,
    Names: ['/other/alias', '/shop-api-1'],
    Labels: { a: 'b' },
    State: 'running',
    Status: 'Up 5 seconds (health: starting)',
    Ports: [
      { IP: '0.0.0.0', PrivatePort: 80, PublicPort: 8080, Type: 'tcp' },
      { IP: '::', PrivatePort: 80, PublicPort: 8080, Type: 'tcp' },
      { PrivatePort: 81, Type: 'udp' },
    ],
    HostConfig: { NetworkMode: 'default' },
    NetworkSettings: { Networks: { bridge: { IPAddress: '10.0.0.2', GlobalIPv6Address: 'fd00::2' } } },
  };
  expect(containerOfSummary(summary, ROOT)).toEqual({
    id,
    name: 'shop-api-1',
    labels: { a: 'b' },
    status: 'running',
    health: 'starting',
    startedAtMs: 0,
    hostNetwork: false,
    networks: [{ name: 'bridge', ipv4: '10.0.0.2', ipv6: 'fd00::2' }],
    ports: [
      { port: 80, protocol: 'tcp', published: 8080 },
      { port: 81, protocol: 'udp', published: null },
    ],
    stopSignal: 15,
    hostsPath: `${ROOT}/containers/${id}/hosts`,
  });
  expect(containerOfSummary({ ...summary, Status: 'Up 5 seconds (unhealthy)' }, ROOT).health).toBe(
    'unhealthy',
  );
  expect(containerOfSummary({ Id: id, State: 'oddly' }, ROOT)).toMatchObject({
    status: 'dead',
    health: 'none',
    networks: [],
  });
});

test('stop signals are read by name and by number', () => {
  const numbers = {
    '': 15,
    SIGQUIT: 3,
    quit: 3,
    '28': 28,
    'SIGRTMIN+3': 37,
    RTMAX: 64,
    'RTMAX-2': 62,
    NO: 15,
  };
  for (const [text, number] of Object.entries(numbers)) expect(signalNumber(text)).toBe(number);
});
