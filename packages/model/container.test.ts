import { describe, expect, it } from 'vitest';
import { callerOf, identify } from './container.ts';

const compose = { 'com.docker.compose.project': 'web-front-end', 'com.docker.compose.service': 'api' };

describe('identify', () => {
  it('takes namespace and service from Compose', () => {
    expect(identify(compose)).toMatchObject({
      ok: true,
      value: { namespace: 'web-front-end', service: 'api' },
    });
  });

  it('takes them from Swarm, without the stack in front of the service', () => {
    const labels = { 'com.docker.stack.namespace': 'shop', 'com.docker.swarm.service.name': 'shop_api' };
    expect(identify(labels)).toMatchObject({ ok: true, value: { namespace: 'shop', service: 'api' } });
  });

  it('prefers its own labels to Swarm, and Swarm to Compose', () => {
    const swarm = { 'com.docker.stack.namespace': 'shop', 'com.docker.swarm.service.name': 'shop_cart' };
    expect(identify({ ...compose, ...swarm })).toMatchObject({
      value: { namespace: 'shop', service: 'cart' },
    });
    const own = { 'elastic-dns.namespace': 'mine', 'elastic-dns.service': 'Till' };
    expect(identify({ ...compose, ...swarm, ...own })).toMatchObject({
      value: { namespace: 'mine', service: 'till' },
    });
  });

  it('leaves alone what gives no service name or says ignore', () => {
    expect(identify({})).toBeNull();
    expect(identify({ 'com.docker.compose.project': 'web-front-end' })).toBeNull();
    expect(identify({ ...compose, 'elastic-dns.ignore': 'true' })).toBeNull();
  });

  it('refuses a service without a namespace, and says which label is missing', () => {
    expect(identify({ 'elastic-dns.service': 'api' })).toMatchObject({
      ok: false,
      reason: expect.stringMatching(/elastic-dns\.namespace/),
    });
  });

  it('reads version, policy, network and display name', () => {
    const labels = {
      ...compose,
      'elastic-dns.version': '42',
      'elastic-dns.application': 'Web Front End',
      'elastic-dns.network': 'backend',
      'elastic-dns.advertise': 'host',
      'elastic-dns.load-balancing': 'sticky',
      'elastic-dns.dns-behaviour': 'non-versioned',
      'elastic-dns.visibility': 'private',
      'elastic-dns.publish-not-ready': 'true',
    };
    expect(identify(labels)).toMatchObject({
      value: {
        version: '42',
        // Rule 4: shown beside the namespace, never asked for.
        application: 'Web Front End',
        network: 'backend',
        advertise: 'host',
        policy: {
          loadBalancing: 'sticky',
          dnsBehaviour: 'non-versioned',
          visibility: 'private',
          publishNotReady: true,
        },
        warnings: [],
      },
    });
  });

  it('warns about a setting that does not fit and uses the default', () => {
    const labels = {
      ...compose,
      'elastic-dns.load-balancing': 'randm\u0007',
      'elastic-dns.visiblity': 'private',
    };
    const identity = identify(labels);
    expect(identity).toMatchObject({ ok: true, value: { policy: {} } });
    const warnings = identity?.ok ? identity.value.warnings : [];
    expect(warnings).toHaveLength(2);
    expect(warnings.join('\n')).toMatch(/can be roundrobin or sticky or closest/);
    expect(warnings.join('\n')).toMatch(/elastic-dns\.visiblity" is not known/);
  });

  it('bounds what hostile labels can make it say', () => {
    const noise = Object.fromEntries(
      Array.from({ length: 500 }, (_, index) => [`elastic-dns.${'\u0001'.repeat(300)}${index}`, 'x']),
    );
    const identity = identify({ ...compose, ...noise, 'elastic-dns.application': `a\n${'b'.repeat(999)}` });
    const value = identity?.ok ? identity.value : null;
    expect(value?.warnings.length).toBeLessThan(8);
    for (const text of [...(value?.warnings ?? []), value?.application ?? ''])
      expect(text).toMatch(/^[\x20-\x7e]{1,200}$/);
  });
});

describe('callerOf', () => {
  it('is of the namespace that the strongest label gives, with or without a service of its own', () => {
    expect(callerOf(compose)).toEqual({ namespace: 'web-front-end' });
    expect(callerOf({ 'com.docker.compose.project': 'web-front-end' })).toEqual({
      namespace: 'web-front-end',
    });
    expect(callerOf({ ...compose, 'com.docker.stack.namespace': 'Shop' })).toEqual({ namespace: 'shop' });
    expect(
      callerOf({ ...compose, 'com.docker.stack.namespace': 'shop', 'elastic-dns.namespace': 'mine' }),
    ).toEqual({ namespace: 'mine' });
  });

  it('has no namespace, and so no bare names, when none is given or the given one cannot be a name', () => {
    expect(callerOf({})).toEqual({ namespace: null });
    expect(callerOf({ ...compose, 'elastic-dns.namespace': 'a\nb' })).toEqual({ namespace: null });
    expect(callerOf({ ...compose, 'elastic-dns.namespace': '' })).toEqual({ namespace: null });
  });

  it('is nobody when the container says ignore', () => {
    expect(callerOf({ ...compose, 'elastic-dns.ignore': 'TRUE' })).toBeNull();
    expect(callerOf({ ...compose, 'elastic-dns.ignore': 'false' })).toEqual({ namespace: 'web-front-end' });
  });
});
