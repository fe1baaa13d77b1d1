import { describe, expect, it } from 'vitest';
import { decodeEvent, encodeEvent, type Event } from './event.ts';
import { EMPTY_SNAPSHOT, sampleEvent, sampleInstance } from './samples.ts';

const instance = sampleInstance('n1', 1);
const bodies = [
  { type: 'node.snapshot', data: { ...EMPTY_SNAPSHOT, instances: [instance] } },
  { type: 'instance.started', data: { instance } },
  { type: 'instance.ready', data: { instance } },
  { type: 'instance.unready', data: { instance } },
  { type: 'instance.stopping', data: { instance } },
  { type: 'instance.stopped', data: { id: instance.id, reason: 'exit code 0' } },
  { type: 'instance.refused', data: { id: instance.id, container: 'api', reason: 'service is empty' } },
] as const;

/** The event's JSON with one part replaced. */
function tampered(change: (envelope: Record<string, never>) => unknown): { node: string; data: string } {
  const envelope = JSON.parse(
    encodeEvent(sampleEvent('n1', 1, { type: 'instance.started', data: { instance } })),
  );
  return { node: 'n1', data: JSON.stringify(change(envelope)) };
}

describe('events', () => {
  it.each(bodies)('$type comes back from its envelope as it was', (body) => {
    const event: Event = sampleEvent('n1', 7, structuredClone(body) as never);
    expect(decodeEvent({ node: 'n1', data: encodeEvent(event) })).toEqual({ ok: true, event });
  });

  it('is a CloudEvents 1.0 envelope', () => {
    expect(
      JSON.parse(encodeEvent(sampleEvent('n1', 7, { type: 'instance.started', data: { instance } }))),
    ).toMatchObject({
      specversion: '1.0',
      id: 'n1/1/7',
      source: '/nodes/n1',
      type: 'instance.started',
      time: '2023-11-14T22:13:20.007Z',
      datacontenttype: 'application/json',
    });
  });

  it('sets aside an unknown type and a newer schema version, each with its reason', () => {
    expect(decodeEvent(tampered((event) => ({ ...event, type: 'instance.teleported' })))).toMatchObject({
      ok: false,
      code: 'unknown-type',
      reason: expect.stringContaining('instance.teleported'),
    });
    expect(decodeEvent(tampered((event) => ({ ...event, schemaversion: 2 })))).toMatchObject({
      ok: false,
      code: 'newer-schema',
    });
  });

  it('drops fields that it does not know and keeps the rest', () => {
    const decoded = decodeEvent(
      tampered((event) => ({ ...event, extra: 1, data: { instance, hint: 'new' } })),
    );
    expect(decoded).toEqual({
      ok: true,
      event: sampleEvent('n1', 1, { type: 'instance.started', data: { instance } }),
    });
  });

  it("S11: sets aside what a node says in the name of another, and of another one's containers", () => {
    const event = sampleEvent('n2', 1, {
      type: 'instance.started',
      data: { instance: sampleInstance('n2', 1) },
    });
    expect(decodeEvent({ node: 'n1', data: encodeEvent(event) })).toMatchObject({
      ok: false,
      code: 'foreign-node',
    });
    const foreign = sampleEvent('n1', 1, {
      type: 'instance.stopped',
      data: { id: sampleInstance('n2', 1).id, reason: 'x' },
    });
    expect(decodeEvent({ node: 'n1', data: encodeEvent(foreign) })).toMatchObject({
      ok: false,
      code: 'foreign-node',
    });
  });

  it.each([
    ['not JSON', () => 'x'],
    ['a line break in a name', () => ({ instance: { ...instance, service: 'api\n10.0.0.1 bank' } })],
    ['capitals in a name', () => ({ instance: { ...instance, service: 'API' } })],
    ['a loopback address', () => ({ instance: { ...instance, ipv4: '127.0.0.1' } })],
    ['a host name for an address', () => ({ instance: { ...instance, ipv4: 'bank.example' } })],
    ['an IPv6 zone', () => ({ instance: { ...instance, ipv6: 'fe80::1%eth0' } })],
    ['no address', () => ({ instance: { ...instance, ipv4: null } })],
    ['no data', () => null],
  ])('sets aside %s', (_, data) => {
    expect(decodeEvent(tampered((event) => ({ ...event, data: data() })))).toMatchObject({
      ok: false,
      code: 'malformed',
    });
  });

  it('sets aside a snapshot that names an instance twice', () => {
    const data = { ...EMPTY_SNAPSHOT, instances: [instance, instance] };
    const event = sampleEvent('n1', 1, { type: 'node.snapshot', data });
    expect(decodeEvent({ node: 'n1', data: encodeEvent(event) })).toMatchObject({
      ok: false,
      code: 'malformed',
    });
  });

  it('never throws and never repeats raw control characters', () => {
    for (const data of ['', 'null', '[]', '{"id":"\\u0000"}', '"\u001b[2J"', '{}'.repeat(99)]) {
      const decoded = decodeEvent({ node: 'n1', data });
      expect(decoded.ok ? 'taken' : decoded.reason).toMatch(/^[\x20-\x7e]+$/);
    }
  });
});
