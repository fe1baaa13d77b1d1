import fc from 'fast-check';
import { Registry, view, type Caller } from '@elastic-dns/model';
import { describe, expect, it } from 'vitest';
import { keyOfLine, linesOf, parseHosts, renderHosts } from './hosts-text.ts';
import { instanceRecord, registryOf } from './samples.ts';

const namespaces = ['shop', 'web-front-end', 'a'];
const callers: Caller[] = [...namespaces, 'elsewhere', null].map((namespace) => ({ namespace }));

const instances = fc.array(
  fc.record({
    namespace: fc.constantFrom(...namespaces),
    service: fc.constantFrom('api', 'web_worker', 'a', 'shop', 'n'.repeat(63)),
    state: fc.constantFrom('ready', 'starting', 'unready', 'stopping'),
    ipv4: fc.option(fc.tuple(fc.nat(255), fc.nat(255)).map(([c, d]) => `10.1.${c}.${d}`)),
    ipv6: fc.constantFrom(null, 'fd00::1', 'fd00::abcd:2', '2001:db8:0:1:2:3:4:5'),
  }),
  { maxLength: 30 },
);

describe('renderHosts', () => {
  it('gives text that reads back as the view, for every registry and caller (S8)', () => {
    fc.assert(
      fc.property(instances, (drawn) => {
        const records = drawn
          .filter(({ ipv4, ipv6 }) => ipv4 !== null || ipv6 !== null)
          .map((instance, index) => instanceRecord(index + 1, instance));
        const registry = registryOf(records);
        for (const caller of callers) {
          const answers = view(registry, caller);
          expect(parseHosts(renderHosts(answers))).toEqual(answers);
        }
      }),
    );
  });

  it('writes one line per address, in order, with the qualified name last and no tabulator', () => {
    const registry = registryOf([
      instanceRecord(2, { ipv4: '10.0.0.2' }),
      instanceRecord(1, { ipv4: '10.0.0.1', ipv6: 'fd00::1' }),
    ]);
    const text = renderHosts(view(registry, { namespace: 'web-front-end' }));
    expect(text).toBe(
      '10.0.0.1 api api.web-front-end\nfd00::1 api api.web-front-end\n10.0.0.2 api api.web-front-end\n',
    );
  });

  it('writes nothing for an empty view', () => {
    expect(renderHosts(view(new Registry(), { namespace: 'shop' }))).toBe('');
    expect(linesOf(null)).toEqual([]);
  });
});

describe('keyOfLine', () => {
  it('is the same for a service whatever else it answers to', () => {
    expect(keyOfLine('10.0.0.1 api api.shop')).toBe('api.shop');
    expect(keyOfLine('fd00::1 api.shop')).toBe('api.shop');
  });
});

describe('parseHosts', () => {
  it('leaves comments and blank lines out and takes what other programs write', () => {
    const text =
      '# comment\n\n127.0.0.1\tlocalhost\n 10.0.0.1  api   api.shop # elastic-dns####\n#0.0.0.2 api api.shop # elastic-dns\n';
    expect(parseHosts(text)).toEqual([
      { names: ['localhost'], addresses: ['127.0.0.1'] },
      { names: ['api', 'api.shop'], addresses: ['10.0.0.1'] },
    ]);
  });
});
