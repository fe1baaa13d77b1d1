import { describe, expect, it } from 'vitest';
import type { Instance } from './instance.ts';
import { keyOf } from './record.ts';
import { Registry, type Change } from './registry.ts';
import { sampleInstance } from './samples.ts';
import { resolve, view } from './view.ts';

function registryOf(...instances: Instance[]): Registry {
  const change: Change = { puts: new Map(), deletes: new Set() };
  for (const [index, instance] of instances.entries()) {
    const record = { kind: 'instance' as const, instance, event: `n1/1/${index + 1}`, logSequence: index };
    change.puts.set(keyOf(record), record);
  }
  const registry = new Registry();
  registry.apply(change);
  return registry;
}

const front = { namespace: 'web-front-end' };
const back = { namespace: 'backoffice' };

describe('view', () => {
  it('rule 1: a bare name answers inside its own namespace', () => {
    const registry = registryOf(sampleInstance('n1', 1));
    expect(resolve(registry, front, { service: 'api', namespace: null })?.addresses).toEqual(['10.0.49.1']);
  });

  it('rule 2: service.namespace answers everywhere in the cluster', () => {
    const registry = registryOf(sampleInstance('n1', 1));
    for (const caller of [front, back, { namespace: null }]) {
      expect(
        resolve(registry, caller, { service: 'api', namespace: 'web-front-end' })?.addresses,
      ).toHaveLength(1);
    }
  });

  it('rule 3: a bare name is never answered from another namespace, alone or together', () => {
    const registry = registryOf(
      sampleInstance('n1', 1),
      sampleInstance('n1', 2, { namespace: 'backoffice' }),
    );
    expect(view(registry, front)).toEqual([
      { names: ['api.backoffice'], addresses: ['10.0.49.2'] },
      { names: ['api', 'api.web-front-end'], addresses: ['10.0.49.1'] },
    ]);
    expect(
      resolve(registryOf(sampleInstance('n1', 1)), back, { service: 'api', namespace: null }),
    ).toBeNull();
  });

  it('rule 4: a display name is not a name', () => {
    const registry = registryOf(sampleInstance('n1', 1, { application: 'shop' }));
    expect(view(registry, { namespace: 'shop' }).flatMap(({ names }) => names)).toEqual([
      'api.web-front-end',
    ]);
  });

  it('rule 5: all instances of a service share its one name, IPv6 beside IPv4', () => {
    const registry = registryOf(sampleInstance('n1', 2, { ipv6: 'fd00::2' }), sampleInstance('n1', 1));
    expect(view(registry, front)).toEqual([
      { names: ['api', 'api.web-front-end'], addresses: ['10.0.49.1', '10.0.49.2', 'fd00::2'] },
    ]);
  });

  it('rule 5: names an address once, however many instances of a node share it', () => {
    const shared = { network: 'host', ipv4: '192.0.2.1' };
    const registry = registryOf(sampleInstance('n1', 1, shared), sampleInstance('n1', 2, shared));
    expect(view(registry, front).map(({ addresses }) => addresses)).toEqual([['192.0.2.1']]);
  });

  it('rules 9 and 10: only ready instances answer, unless the service wants the others too', () => {
    const states = ['starting', 'unready', 'stopping', 'ready'] as const;
    const answers = (publishNotReady: boolean): string[] => {
      const policy = publishNotReady ? { publishNotReady } : {};
      const instances = states.map((state, index) => sampleInstance('n1', index, { state, policy }));
      return view(registryOf(...instances), front).flatMap(({ addresses }) => addresses);
    };
    expect(answers(false)).toEqual(['10.0.49.3']);
    expect(answers(true)).toEqual(['10.0.49.0', '10.0.49.1', '10.0.49.3']);
  });

  it('rule 9: a service with nothing ready has no name at all', () => {
    expect(view(registryOf(sampleInstance('n1', 1, { state: 'unready' })), front)).toEqual([]);
  });

  it('gives a node without a namespace qualified names only', () => {
    expect(view(registryOf(sampleInstance('n1', 1)), { namespace: null })).toEqual([
      { names: ['api.web-front-end'], addresses: ['10.0.49.1'] },
    ]);
    expect(
      resolve(registryOf(sampleInstance('n1', 1)), { namespace: null }, { service: 'api', namespace: null }),
    ).toBeNull();
  });
});
