import { describe, expect, it } from 'vitest';
import { parseLabel, parseNode, parseQuestion, parseVersion } from './name.ts';

describe('rule 7: names', () => {
  it.each(['api', 'web-worker', 'a', 'web_worker', 'api_', '3scale', 'a'.repeat(63), 'xn--bcher-kva'])(
    'takes %s as it is',
    (text) => {
      expect(parseLabel(text)).toEqual({ ok: true, value: text });
    },
  );

  it('keeps a name in lower case', () => {
    expect(parseLabel('Web-Worker')).toEqual({ ok: true, value: 'web-worker' });
  });

  it.each([
    ['', /empty/],
    ['_http', /is not a name/],
    ['-api', /is not a name/],
    ['api-', /is not a name/],
    ['a.b', /is not a name/],
    ['..', /is not a name/],
    ['a/b', /is not a name/],
    ['a b', /is not a name/],
    ['api\n10.0.0.1 bank', /is not a name/],
    ['api\0', /is not a name/],
    ['api#', /is not a name/],
    ['\u202eipa', /is not a name/],
    ['<b>', /is not a name/],
    ['bücher', /is not a name/],
    // The Kelvin sign lower-cases to "k".
    ['\u212a', /is not a name/],
    ['a'.repeat(300), /at most 63/],
    ['localhost', /reserved/],
    ['LOCALHOST', /reserved/],
    ['ip6-localhost', /reserved/],
    ['elastic-dns', /reserved/],
    ['10', /IPv4/],
    ['0x7f', /IPv4/],
  ])('refuses %j with the reason', (text, reason) => {
    const result = parseLabel(text);
    expect(result).toMatchObject({ ok: false, reason: expect.stringMatching(reason) });
    expect(result.ok ? '' : result.reason).toMatch(/^[\x20-\x7e]*$/);
  });

  it('refuses a node name that would make an instance id longer than a DNS label', () => {
    expect(parseNode('n'.repeat(50)).ok).toBe(true);
    expect(parseNode('n'.repeat(51))).toMatchObject({
      ok: false,
      reason: expect.stringMatching(/at most 50/),
    });
  });

  it('takes a version that can be shown and refuses one that cannot', () => {
    expect(parseVersion('2026.11_rc+1-a').ok).toBe(true);
    for (const text of ['', ' ', 'a b', 'v\n1', 'v'.repeat(129)]) expect(parseVersion(text).ok).toBe(false);
  });
});

describe('questions', () => {
  it('rule 1: reads a bare name as the own namespace', () => {
    expect(parseQuestion('API')).toEqual({ ok: true, value: { service: 'api', namespace: null } });
  });

  it('rule 2: reads service.namespace, with and without the trailing dot', () => {
    const value = { service: 'scheduler', namespace: 'backoffice-workers' };
    expect(parseQuestion('scheduler.backoffice-workers')).toEqual({ ok: true, value });
    expect(parseQuestion('scheduler.backoffice-workers.')).toEqual({ ok: true, value });
  });

  it('refuses more parts, and says which part is wrong', () => {
    expect(parseQuestion('a.b.c')).toMatchObject({ ok: false, reason: expect.stringMatching(/3 parts/) });
    expect(parseQuestion('a.-b')).toMatchObject({ ok: false, reason: expect.stringMatching(/^namespace /) });
    expect(parseQuestion('.b')).toMatchObject({ ok: false, reason: expect.stringMatching(/^service /) });
  });
});
