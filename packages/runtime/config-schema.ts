/**
 * Every setting there is: one schema, which says of each its type, its default and its meaning. Names of environment
 * variables and flags, the documentation and the checks all come from it; config.ts reads the sources.
 *
 * To add a setting, add a line to `settingsSchema`.
 */
import { isReachableIPv4, isReachableIPv6, parseLabel, parseNode } from '@elastic-dns/model';
import { z } from 'zod';
import type { HostFacts } from './host-facts.ts';
import { LOG_FORMATS, LOG_LEVELS } from './logger.ts';
import {
  address,
  boolean,
  choice,
  duration,
  integer,
  list,
  noneIfOff,
  OFF,
  parsed,
  size,
  text,
  textOrOff,
  type Milliseconds,
} from './setting-types.ts';

/** What a default may be worked out from. */
export interface DefaultContext {
  host: HostFacts;
  /** The setting `dataDir` as it is in force. */
  dataDir: string;
}

export interface Setting {
  /** What it takes, in words that finish "it has to be ...". */
  type: string;
  meaning: string;
  /** As it would be written in the file; null: not set. */
  default?: string | number | boolean | readonly string[] | null;
  /** Instead of `default`: worked out on the machine. `text` describes it, `from` names where it came from. */
  found?: { text: string; find: (context: DefaultContext) => { value: unknown; from?: string } };
  /** Its value is never shown, and it has no flag, as everybody on a machine can see other processes' flags. */
  secret?: true;
  /** Milliseconds, whatever it was written in; config.ts puts `Ms` behind the setting's name. */
  unit?: 'ms';
  /** A path whose content becomes the value of the setting without `File` in its name. */
  file?: 'secret' | 'public';
  /** A shorter flag beside the one that follows from its name. */
  alias?: string;
}

/** The settings' descriptions, by their schemas. */
export const settings = z.registry<Setting>();

function setting<Schema extends z.ZodType>(
  schema: Schema,
  about: z.output<Schema> extends Milliseconds ? Setting & { unit: 'ms' } : Setting & { unit?: never },
): Schema {
  settings.add(schema, about);
  return schema;
}

const DURATION = 'a duration such as 250ms, 30s, 5m, 12h or 30d';
const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
const PATH = 'a path';
const NONE = { default: null } as const;

/** A key and certificates for the connection to a server; the same for every kind of server. */
const tls = (server: string) => ({
  caFile: setting(textOrOff(), {
    type: PATH,
    meaning: `Certificates (PEM) that ${server}'s own is checked against. Default: the system's.`,
    file: 'public',
    ...NONE,
  }),
  certFile: setting(textOrOff(), {
    type: PATH,
    meaning: `Our certificate (PEM) for ${server}; needs keyFile.`,
    file: 'public',
    ...NONE,
  }),
  keyFile: setting(textOrOff(), {
    type: PATH,
    meaning: `The key (PEM) of our certificate for ${server}.`,
    file: 'secret',
    ...NONE,
  }),
});

/** A secret, by value or by the path of a file that holds it. */
const password = (server: string) => ({
  password: setting(textOrOff(), { type: 'text', meaning: `Password for ${server}.`, secret: true, ...NONE }),
  passwordFile: setting(textOrOff(), {
    type: PATH,
    meaning: `File that holds the password for ${server}.`,
    file: 'secret',
    ...NONE,
  }),
});

export const settingsSchema = z.object({
  dataDir: setting(text(), {
    type: PATH,
    meaning: 'Folder for everything that is kept between two starts. One process at a time may use it.',
    found: {
      text: '/var/lib/elastic-dns; for other users than root $XDG_STATE_HOME/elastic-dns or ~/.local/state/elastic-dns',
      find: ({ host }) => ({ value: host.dataDir }),
    },
  }),
  node: z.object({
    name: setting(parsed(parseNode), {
      type: 'a name of at most 50 letters, digits, "-" and "_"',
      meaning: 'Name of this node; no two nodes of a cluster may share one.',
      found: {
        text: "the host name's first label",
        find: ({ host }) => ({ value: host.name, from: 'the host name' }),
      },
    }),
    ipv4: setting(address(isReachableIPv4), {
      type: 'an IPv4 address that other nodes can reach, or "off"',
      meaning:
        "This node's own IPv4 address: what containers on its network or with published ports answer at.",
      found: {
        text: "the address of the default route's interface",
        find: ({ host }) => ({ value: host.ipv4, from: 'the default route' }),
      },
    }),
    ipv6: setting(address(isReachableIPv6), {
      type: 'an IPv6 address that other nodes can reach, or "off"',
      meaning: "This node's own IPv6 address.",
      found: {
        text: "the address of the default route's interface",
        find: ({ host }) => ({ value: host.ipv6, from: 'the default route' }),
      },
    }),
    zone: setting(z.preprocess(noneIfOff, parsed(parseLabel).nullable()), {
      type: 'a name, or "off"',
      meaning: 'The zone, rack or building that this node stands in.',
      ...NONE,
    }),
  }),
  log: z.object({
    kind: setting(choice(['embedded', 'nats']), {
      type: 'embedded or nats',
      meaning: 'Where events are kept: in the data folder (one server) or in NATS JetStream (a fleet).',
      default: 'embedded',
    }),
    nats: z.object({
      servers: setting(list(), {
        type: 'a list of URLs such as nats://10.0.0.1:4222 or tls://nats.example:4222',
        meaning: 'NATS servers; any of them will do.',
        default: ['nats://127.0.0.1:4222'],
      }),
      user: setting(textOrOff(), { type: 'text', meaning: 'User for NATS.', ...NONE }),
      ...password('NATS'),
      token: setting(textOrOff(), { type: 'text', meaning: 'Token for NATS.', secret: true, ...NONE }),
      tokenFile: setting(textOrOff(), {
        type: PATH,
        meaning: 'File that holds the token for NATS.',
        file: 'secret',
        ...NONE,
      }),
      credentialsFile: setting(textOrOff(), {
        type: PATH,
        meaning: 'NATS credentials file (.creds).',
        file: 'secret',
        ...NONE,
      }),
      ...tls('NATS'),
      replicas: setting(integer(1, 5), {
        type: 'a whole number from 1 to 5',
        meaning: 'Copies of the stream that NATS keeps, where this program makes the stream.',
        default: 1,
      }),
      manageStream: setting(boolean(), {
        type: 'true or false',
        meaning:
          'Whether this program makes the stream and brings its limits up to date; else it has to be there.',
        default: true,
      }),
    }),
    maxAge: setting(duration(HOUR_MS, 3650 * 24 * HOUR_MS), {
      type: `${DURATION}, from 1h to 3650d`,
      unit: 'ms',
      meaning: 'Events older than this are let go.',
      default: '30d',
    }),
    maxBytes: setting(size(2 ** 20), {
      type: 'a size such as 512MiB or 1GiB, from 1MiB',
      meaning: 'The oldest events are let go when all of them take more than this.',
      default: '1GiB',
    }),
  }),
  store: z.object({
    kind: setting(choice(['embedded', 'etcd']), {
      type: 'embedded or etcd',
      meaning: 'Where the registry is kept: in the data folder (one server) or in etcd (a fleet).',
      default: 'embedded',
    }),
    etcd: z.object({
      endpoints: setting(list(), {
        type: 'a list of URLs such as http://10.0.0.1:2379 or https://etcd.example:2379',
        meaning: "etcd's members.",
        default: ['http://127.0.0.1:2379'],
      }),
      username: setting(textOrOff(), { type: 'text', meaning: 'User for etcd.', ...NONE }),
      ...password('etcd'),
      ...tls('etcd'),
    }),
  }),
  engine: z.object({
    host: setting(text(), {
      type: 'an address such as unix:///var/run/docker.sock or tcp://127.0.0.1:2375',
      meaning: 'The container engine of this node.',
      found: {
        text: '$DOCKER_HOST, else unix:///var/run/docker.sock',
        find: ({ host }) =>
          host.dockerHost === null
            ? { value: 'unix:///var/run/docker.sock' }
            : { value: host.dockerHost, from: 'the environment variable DOCKER_HOST' },
      },
    }),
  }),
  agent: z.object({
    network: setting(textOrOff(), {
      type: 'an engine network\'s name, or "off"',
      meaning: 'Network whose address is advertised for containers that are on several and name none.',
      ...NONE,
    }),
    snapshotInterval: setting(duration(1000, 24 * HOUR_MS), {
      type: `${DURATION}, from 1s to 1d`,
      unit: 'ms',
      meaning: 'How often the agent publishes all of its containers, to mend what single events missed.',
      default: '5m',
    }),
    bufferEvents: setting(integer(1, 1_000_000), {
      type: 'a whole number from 1 to 1000000',
      meaning: 'Events that wait while the log is out of reach; beyond that, one snapshot replaces them.',
      default: 10_000,
    }),
  }),
  registrar: z.object({
    leaseTtl: setting(duration(1000, 10 * MINUTE_MS), {
      type: `${DURATION}, from 1s to 10m`,
      unit: 'ms',
      meaning: 'How long a leader that fell silent keeps the next one waiting.',
      default: '5s',
    }),
  }),
  watcher: z.object({
    hostsDir: setting(text(), {
      type: PATH,
      meaning: 'Folder for one hosts file per namespace.',
      found: { text: '<dataDir>/hosts', find: ({ dataDir }) => ({ value: `${dataDir}/hosts` }) },
    }),
    nodeHosts: setting(textOrOff(), {
      type: 'a path such as /etc/hosts, or "off"',
      meaning: "The node's own hosts file, in which a marked block is kept.",
      alias: 'node-hosts',
      ...NONE,
    }),
    containers: setting(boolean(), {
      type: 'true or false',
      meaning: "Whether the /etc/hosts of this node's containers is kept.",
      default: true,
    }),
    quiet: setting(duration(0, MINUTE_MS), {
      type: `${DURATION}, up to 1m`,
      unit: 'ms',
      meaning: 'Shortest pause between two writings of files; what changes after a calm is written at once.',
      default: '5ms',
    }),
    ceiling: setting(duration(0, MINUTE_MS), {
      type: `${DURATION}, up to 1m`,
      unit: 'ms',
      meaning: 'Longest pause between two rounds of writing files, however long a round takes.',
      default: '50ms',
    }),
  }),
  http: z.object({
    host: setting(text(), {
      type: 'an address or a host name',
      meaning: 'Where /metrics, /healthz and /readyz are served.',
      default: '127.0.0.1',
    }),
    port: setting(
      z.preprocess(
        (raw) => (raw === OFF || raw === '-1' || raw === -1 ? null : raw),
        integer(0, 65_535).nullable(),
      ),
      {
        type: 'a port from 0 (any free one) to 65535, or "off"',
        meaning: 'The port for them; -1 is "off".',
        default: 9464,
      },
    ),
  }),
  logging: z.object({
    level: setting(choice(LOG_LEVELS), {
      type: LOG_LEVELS.join(', '),
      meaning: 'The least serious messages that are shown.',
      default: 'info',
      alias: 'log-level',
    }),
    format: setting(choice(LOG_FORMATS), {
      type: LOG_FORMATS.join(', '),
      meaning: 'auto: readable on a terminal, JSON otherwise.',
      default: 'auto',
      alias: 'log-format',
    }),
  }),
});

/** One setting with everything that follows from its place in the schema. */
export interface SettingRow extends Setting {
  /** `registrar.leaseTtl`: how the file nests it. */
  key: string;
  /** `ELASTIC_DNS_REGISTRAR_LEASE_TTL`. */
  env: string;
  /** `--registrar-lease-ttl`, the alias first where there is one; none for secrets. */
  flags: string[];
  schema: z.ZodType;
}

export const ENV_PREFIX = 'ELASTIC_DNS_';

/** Every setting, in the schema's order. */
export function describeConfig(): SettingRow[] {
  return [...rows(settingsSchema, [])];
}

function* rows(group: z.ZodObject, path: string[]): Generator<SettingRow> {
  for (const [name, schema] of Object.entries(group.shape)) {
    const here = [...path, name];
    if (schema instanceof z.ZodObject) {
      yield* rows(schema, here);
      continue;
    }
    const about = settings.get(schema as z.ZodType);
    if (!about) throw new TypeError(`the setting ${here.join('.')} is not described`);
    const words = here.flatMap((part) => part.split(/(?=[A-Z])/)).map((word) => word.toLowerCase());
    const flags =
      about.secret === true ? [] : [...(about.alias === undefined ? [] : [about.alias]), words.join('-')];
    yield {
      ...about,
      key: here.join('.'),
      env: ENV_PREFIX + words.join('_').toUpperCase(),
      flags: flags.map((flag) => `--${flag}`),
      schema: schema as z.ZodType,
    };
  }
}

/** A default as it would be written. */
export function describeDefault(row: SettingRow): string {
  if (row.found) return row.found.text;
  return row.default === null ? 'not set' : String(row.default);
}
