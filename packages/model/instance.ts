/**
 * An instance: one running container (or declared endpoint) of a service, as its owner described it. Made by the
 * agent, carried by events, kept in the store, shown by the CLI. Addresses and names are checked here once
 * more, so that nothing unchecked gets past an event (S12) into a key or a hosts file (S8).
 */
import { isIPv4, isIPv6 } from 'node:net';
import { z } from 'zod';
import { parseLabel, parseVersion } from './name.ts';
import type { Result } from './result.ts';

/** A zod string that one of the parsers takes as it stands (already lower case). */
function checked(parse: (text: string) => Result<string>): z.ZodString {
  return z.string().check((context) => {
    const result = parse(context.value);
    if (result.ok && result.value === context.value) return;
    context.issues.push({
      code: 'custom',
      input: context.value,
      message: result.ok ? 'is not lower case' : result.reason,
    });
  });
}

export const labelSchema = checked(parseLabel);

/** Text of people's, only ever shown: printable ASCII. */
export const textSchema = z.string().regex(/^[\x20-\x7e]{1,200}$/, 'is not 1-200 printable ASCII characters');

/** `starting`: health not known yet. `ready`: in answers (rule 9). `unready`: unhealthy or paused. `stopping`: rule 10. */
export const stateSchema = z.enum(['starting', 'ready', 'unready', 'stopping']);
export type InstanceState = z.infer<typeof stateSchema>;

export const portSchema = z.object({
  port: z.int().min(1).max(65535),
  protocol: z.enum(['tcp', 'udp', 'sctp']),
  /** The node's port that leads to it, where it is published. */
  published: z.int().min(1).max(65535).nullable(),
});
export type Port = z.infer<typeof portSchema>;

/** What a container asks for its service; absent means the default. */
export const policySchema = z.object({
  loadBalancing: z.enum(['roundrobin', 'sticky', 'closest']).optional(),
  dnsBehaviour: z.enum(['versioned', 'non-versioned']).optional(),
  visibility: z.enum(['public', 'private']).optional(),
  publishNotReady: z.boolean().optional(),
});
export type Policy = z.infer<typeof policySchema>;

/** An IPv4 address that another machine can be reached at: no unspecified, loopback, link-local, multicast, broadcast. */
export function isReachableIPv4(text: string): boolean {
  return isIPv4(text) && !/^(?:0|127|22[4-9]|23[0-9]|24[0-9]|25[0-5])\.|^169\.254\./.test(text);
}

/** The same for IPv6: no unspecified, loopback, IPv4-mapped, link-local (needs a zone), multicast; no zone index. */
export function isReachableIPv6(text: string): boolean {
  return isIPv6(text) && !/^(?:[0:]+1?$|[0:]+ffff:|fe[89ab]|ff)|%/i.test(text);
}

export const instanceSchema = z
  .object({
    /** `<node>-<first 12 digits of the container's id>`. */
    id: labelSchema,
    namespace: labelSchema,
    service: labelSchema,
    /** The deploy; null: carries none, and all such instances are of one version. */
    version: checked(parseVersion).nullable(),
    state: stateSchema,
    /** At least one of the two is there. */
    ipv4: z.string().refine(isReachableIPv4, 'is not a reachable IPv4 address').nullable(),
    ipv6: z.string().refine(isReachableIPv6, 'is not a reachable IPv6 address').nullable(),
    /** The engine's network that the addresses belong to; `host` for the node's own. */
    network: textSchema,
    ports: z.array(portSchema).max(64),
    /** The container's name, for people. */
    container: textSchema,
    /** The application's display name (rule 4), for people. */
    application: textSchema.nullable(),
    /** When the container started, by the engine's clock, ms since 1970. */
    startedAtMs: z.int().min(0),
    policy: policySchema,
    /** What was asked for and could not be followed, in words. */
    warnings: z.array(textSchema).max(8),
  })
  .refine((instance) => instance.ipv4 !== null || instance.ipv6 !== null, 'has no address');
export type Instance = z.infer<typeof instanceSchema>;

/** A container that wanted a name and could not get one; listed, never answered. */
export const refusalSchema = z.object({
  id: labelSchema,
  container: textSchema,
  reason: z.string().regex(/^[\x20-\x7e]{1,500}$/, 'is not 1-500 printable ASCII characters'),
});
export type Refusal = z.infer<typeof refusalSchema>;

/** The id of a container's instance; the node's name in it keeps one node from naming another's (S11). */
export function instanceId(node: string, containerId: string): string {
  return `${node}-${containerId.slice(0, 12)}`;
}

/** Whether answers hold it (rules 9 and 10); decides which prefix of the store it lives under. */
export function isAnswerable(instance: Pick<Instance, 'state' | 'policy'>): boolean {
  switch (instance.state) {
    case 'ready':
      return true;
    case 'starting':
    case 'unready':
      return instance.policy.publishNotReady === true;
    case 'stopping':
      return false;
  }
}
