import { describe, expect, test } from 'vitest';
import { chooseAddress, parseRoutes4, parseRoutes6, readHostFacts } from './host-facts.ts';

const ROUTES_4 = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
wlan0	00000000	0102A8C0	0003	0	0	600	00000000	0	0	0
eth0	00000000	0100000A	0003	0	0	100	00000000	0	0	0
docker0	000011AC	00000000	0001	0	0	0	0000FFFF	0	0	0
`;
const NONE = '0'.repeat(32);
const ROUTES_6 = `fd000000000000000000000000000000 40 ${NONE} 00 ${NONE} 00000100 00000001 00000000 00000001     eth0
${NONE} 00 ${NONE} 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0
${NONE} 00 ${NONE} 00 ${NONE} ffffffff 00000001 00000000 00200200       lo
`;
const ipv4 = (address: string) => ({ address, family: 'IPv4' });
const ipv6 = (address: string) => ({ address, family: 'IPv6' });

test('reads the default routes and no others', () => {
  expect(parseRoutes4(ROUTES_4)).toEqual([
    { interface: 'wlan0', metric: 600 },
    { interface: 'eth0', metric: 100 },
  ]);
  expect(parseRoutes6(ROUTES_6)).toEqual([{ interface: 'eth0', metric: 0x400 }]);
  expect(parseRoutes4('')).toEqual([]);
});

describe('chooseAddress', () => {
  const routes = parseRoutes4(ROUTES_4);

  test('takes the address of the route with the smallest metric', () => {
    const interfaces = {
      wlan0: [ipv4('192.168.2.9')],
      eth0: [ipv4('10.0.0.5')],
      docker0: [ipv4('172.17.0.1')],
    };
    expect(chooseAddress(interfaces, routes, 'IPv4')).toBe('10.0.0.5');
  });

  test('passes over an interface without an address that others can reach', () => {
    const interfaces = { wlan0: [ipv4('192.168.2.9')], eth0: [ipv4('169.254.1.1')] };
    expect(chooseAddress(interfaces, routes, 'IPv4')).toBe('192.168.2.9');
  });

  test('passes over a link-local IPv6 address', () => {
    const interfaces = { eth0: [ipv4('10.0.0.5'), ipv6('fe80::1'), ipv6('fd00::2')] };
    expect(chooseAddress(interfaces, parseRoutes6(ROUTES_6), 'IPv6')).toBe('fd00::2');
  });

  test('finds none without a default route', () => {
    expect(chooseAddress({ eth0: [ipv4('10.0.0.5')] }, [], 'IPv4')).toBeNull();
  });
});

test('takes DOCKER_HOST from the environment, and an empty one for none', () => {
  expect(readHostFacts({ DOCKER_HOST: 'tcp://127.0.0.1:2375' }).dockerHost).toBe('tcp://127.0.0.1:2375');
  expect(readHostFacts({ DOCKER_HOST: '' }).dockerHost).toBeNull();
});
