import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodeEvent,
  encodeEvent,
  instanceSchema,
  LABELS,
  refusalSchema,
  type Container,
  type EventBody,
  type Instance,
} from '@elastic-dns/model';
import { NODE, sampleContainer } from './samples.ts';
import { translate, type NodeFacts, type Translated } from './translate.ts';

const COMPOSE = { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'api' };

interface Given {
  node?: Partial<NodeFacts>;
  network?: string | null;
  isStopping?: boolean;
}

function given(
  overrides: Partial<Container>,
  { node, network = null, isStopping = false }: Given = {},
): Translated {
  return translate(sampleContainer(1, overrides), { node: { ...NODE, ...node }, network, isStopping });
}

function instanceOf(overrides: Partial<Container>, options?: Given): Instance {
  const translated = given(overrides, options);
  if (translated?.kind !== 'instance') throw new Error(`not an instance: ${JSON.stringify(translated)}`);
  return translated.instance;
}

function reasonOf(overrides: Partial<Container>, options?: Given): string {
  const translated = given(overrides, options);
  if (translated?.kind !== 'refused') throw new Error(`not refused: ${JSON.stringify(translated)}`);
  return translated.refusal.reason;
}

const label = (name: string, value: string): { labels: Record<string, string> } => ({
  labels: { ...COMPOSE, [`elastic-dns.${name}`]: value },
});
const networks = (...names: string[]): Pick<Container, 'networks'> => ({
  networks: names.map((name, index) => ({ name, ipv4: `10.${index}.0.2`, ipv6: null })),
});

test('a Compose container becomes an instance without any label of ours', () => {
  expect(instanceOf({})).toEqual({
    id: 'n1-000000000001',
    namespace: 'shop',
    service: 'api',
    version: null,
    state: 'ready',
    ipv4: '10.0.0.1',
    ipv6: null,
    network: 'shop_default',
    ports: [{ port: 3000, protocol: 'tcp', published: null }],
    container: 'shop-api-1',
    application: null,
    startedAtMs: 1_000,
    policy: {},
    warnings: [],
  });
});

test('a container that asks for no name is nothing', () => {
  expect(given({ labels: {} })).toBeNull();
  expect(given(label('ignore', 'true'))).toBeNull();
});

test('the state is that of the process, the health check and the stop signal', () => {
  expect(instanceOf({ health: 'healthy' }).state).toBe('ready');
  expect(instanceOf({ health: 'starting' }).state).toBe('starting');
  expect(instanceOf({ health: 'unhealthy' }).state).toBe('unready');
  expect(instanceOf({ status: 'paused' }).state).toBe('unready');
  expect(instanceOf({ health: 'healthy' }, { isStopping: true }).state).toBe('stopping');
});

describe('which network is advertised', () => {
  test('the only one', () => {
    expect(instanceOf(networks('back')).network).toBe('back');
  });
  test('the configured one, where it is on it', () => {
    expect(instanceOf(networks('back', 'front'), { network: 'front' })).toMatchObject({
      network: 'front',
      ipv4: '10.1.0.2',
    });
    expect(instanceOf(networks('back'), { network: 'front' }).network).toBe('back');
  });
  test('the labelled one before all others', () => {
    const container = { ...label('network', 'back'), ...networks('back', 'front') };
    expect(instanceOf(container, { network: 'front' }).network).toBe('back');
  });
  test('none when there are several and nothing says which', () => {
    expect(reasonOf(networks('back', 'front'))).toBe(
      'it is on several networks; name one with the label elastic-dns.network: "back", "front"',
    );
    expect(reasonOf(networks('back', 'front'), { network: 'other' })).toContain('"back", "front"');
  });
  test('none when it is not on the labelled one', () => {
    expect(reasonOf({ ...label('network', 'side'), ...networks('back', 'front') })).toBe(
      'label elastic-dns.network is "side", which it is not on; it is on "back", "front"',
    );
  });
  test('none when it has no network, as one that joined another container has', () => {
    expect(reasonOf({ networks: [] })).toContain('no network of its own');
  });
  test('none when its address is none that others could reach', () => {
    for (const [ipv4, ipv6] of [
      [null, null],
      ['127.0.0.1', '::1'],
      ['169.254.0.1', 'fe80::1'],
    ] as const) {
      expect(reasonOf({ networks: [{ name: 'back', ipv4, ipv6 }] })).toBe(
        'it has no address on network "back" that others could reach',
      );
    }
  });
  test('one IPv4 and one IPv6 address', () => {
    const both = [{ name: 'back', ipv4: '10.0.0.9', ipv6: 'fd00::9' }];
    expect(instanceOf({ networks: both })).toMatchObject({ ipv4: '10.0.0.9', ipv6: 'fd00::9' });
    expect(instanceOf({ networks: [{ name: 'back', ipv4: null, ipv6: 'fd00::9' }] })).toMatchObject({
      ipv4: null,
      ipv6: 'fd00::9',
    });
  });
});

describe('a container that is reached at its node', () => {
  const ports = [
    { port: 80, protocol: 'tcp', published: 8080 },
    { port: 443, protocol: 'tcp', published: 443 },
    { port: 9000, protocol: 'tcp', published: null },
  ] as const;
  test('advertises published ports at the address of the node, and warns of those with another number', () => {
    expect(
      instanceOf({ ...label('advertise', 'host'), ports: [...ports] }, { node: { ipv6: 'fd00::1' } }),
    ).toMatchObject({
      ipv4: '192.168.0.1',
      ipv6: 'fd00::1',
      network: 'host',
      ports: [
        { port: 443, protocol: 'tcp', published: 443 },
        { port: 8080, protocol: 'tcp', published: 8080 },
      ],
      warnings: ['port 80/tcp is published as 8080: callers by hosts file have to use 8080'],
    });
  });
  test('warns when it publishes nothing', () => {
    expect(instanceOf(label('advertise', 'host'))).toMatchObject({
      ports: [],
      warnings: ['it advertises its node but publishes no port that others could reach'],
    });
  });
  test('has all of its own ports there when it uses the network of the node', () => {
    expect(instanceOf({ hostNetwork: true, networks: [], ports: [...ports] })).toMatchObject({
      ipv4: '192.168.0.1',
      network: 'host',
      ports: [{ port: 80 }, { port: 443 }, { port: 9000 }],
      warnings: [],
    });
  });
  test('is refused when the node has no address', () => {
    const node = { ipv4: null };
    expect(reasonOf({ hostNetwork: true, networks: [] }, { node })).toContain('node n1 has none');
    expect(reasonOf(label('advertise', 'host'), { node })).toContain('node n1 has none');
  });
});

test('the lowest TCP port comes first, and no more ports than fit are shown', () => {
  const many = Array.from({ length: 70 }, (_, index) => ({
    port: 1_000 - index,
    protocol: 'udp' as const,
    published: null,
  }));
  const tcp = [5_000, 4_000].map((port) => ({ port, protocol: 'tcp' as const, published: null }));
  const instance = instanceOf({ ports: [...many, ...tcp] });
  expect(instance.ports).toHaveLength(64);
  expect(instance.ports.slice(0, 3).map(({ port }) => port)).toEqual([4_000, 5_000, 931]);
  expect(instance.warnings).toEqual(['it has 72 ports; the first 64 are shown']);
});

const HOSTILE = {
  newline: 'api\n10.0.0.1 bank',
  NUL: 'api\0',
  comment: 'api # ',
  'dot dot': '..',
  slash: 'a/b',
  localhost: 'localhost',
  '300 characters': 'a'.repeat(300),
  'right-to-left mark': 'api\u202eipa',
  HTML: '<script>alert(1)</script>',
  empty: '',
};

describe('hostile labels are refused with the reason', () => {
  for (const [name, value] of Object.entries(HOSTILE)) {
    test(`with ${name}`, () => {
      for (const part of ['service', 'namespace', 'version']) {
        // A version is no name: this one is fine.
        if (part === 'version' && value === 'localhost') continue;
        expect(reasonOf(label(part, value))).toMatch(new RegExp(`^${part} [\\x20-\\x7e]+$`));
      }
      expect(reasonOf({ ...label('network', value), ...networks('back') })).toContain('it is on "back"');
    });
  }
});

/** Text as an attacker would write it, mixed with what is right. */
const text = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary', maxLength: 400 }),
  fc.constantFrom(
    ...Object.values(HOSTILE),
    'api',
    'shop',
    'true',
    'host',
    'container',
    'sticky',
    'private',
    'back',
  ),
);
const address = fc.option(fc.oneof(fc.ipV4(), fc.ipV6(), fc.constantFrom('127.0.0.1', '::1', 'nonsense')));
const port = fc.record({
  port: fc.integer({ min: 1, max: 65_535 }),
  protocol: fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const),
  published: fc.option(fc.integer({ min: 1, max: 65_535 })),
});
const containers: fc.Arbitrary<Container> = fc.record({
  id: fc.string({ unit: fc.constantFrom(...'0123456789abcdef'.split('')), minLength: 64, maxLength: 64 }),
  name: text,
  labels: fc.dictionary(
    fc.oneof(
      fc.constantFrom(
        ...LABELS.map((name) => `elastic-dns.${name}`),
        'com.docker.stack.namespace',
        'com.docker.swarm.service.name',
        'com.docker.compose.project',
        'com.docker.compose.service',
      ),
      text.map((rest) => `elastic-dns.${rest}`),
    ),
    text,
  ),
  status: fc.constantFrom('running', 'paused'),
  health: fc.constantFrom('none', 'starting', 'healthy', 'unhealthy'),
  startedAtMs: fc.oneof(fc.nat(), fc.double({ min: 0, max: 2e12, noNaN: true })),
  hostNetwork: fc.boolean(),
  networks: fc.array(fc.record({ name: text, ipv4: address, ipv6: address }), { maxLength: 3 }),
  ports: fc.array(port, { maxLength: 80 }),
  stopSignal: fc.constant(15),
  hostsPath: fc.constant(null),
});

test('whatever a container says of itself, the log takes what is made of it', () => {
  const kinds = new Set<string | undefined>();
  fc.assert(
    fc.property(containers, fc.option(text), fc.boolean(), (container, network, isStopping) => {
      const translated = translate(container, { node: NODE, network, isStopping });
      kinds.add(translated?.kind);
      if (!translated) return;
      const body: EventBody =
        translated.kind === 'instance'
          ? { type: 'instance.ready', data: { instance: translated.instance } }
          : { type: 'instance.refused', data: translated.refusal };
      const shape = translated.kind === 'instance' ? instanceSchema : refusalSchema;
      expect(
        shape.safeParse(translated.kind === 'instance' ? translated.instance : translated.refusal).error,
      ).toBe(undefined);
      const id = { node: NODE.name, epoch: 1, sequence: 1 };
      const data = encodeEvent({ ...body, id, cause: 'test', observedAtMs: 0 });
      expect(decodeEvent({ node: NODE.name, data })).toMatchObject({ ok: true, event: body });
    }),
    { numRuns: 2_000 },
  );
  // The property says nothing when all of them are of one kind.
  expect(kinds).toEqual(new Set([undefined, 'instance', 'refused']));
});
