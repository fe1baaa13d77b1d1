import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError } from '@elastic-dns/model';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { describeSource, loadConfig, type ConfigSources } from './config.ts';
import { describeConfig, ENV_PREFIX } from './config-schema.ts';
import type { HostFacts } from './host-facts.ts';

const HOST: HostFacts = {
  name: 'web-1',
  ipv4: '10.0.0.5',
  ipv6: null,
  dataDir: '/var/lib/elastic-dns',
  dockerHost: null,
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'elastic-dns-config-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, text: string, mode = 0o600): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

/** Loads the text as the configuration file, with nothing else from this machine. */
function load(yaml: string, sources: ConfigSources = {}): ReturnType<typeof loadConfig> {
  return loadConfig({ path: write('config.yml', yaml), env: {}, host: HOST, ...sources });
}

/** The lines of the ConfigError that loading ends in. */
function problems(yaml: string, sources: ConfigSources = {}): string[] {
  try {
    load(yaml, sources);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).message.replaceAll(`${folder}/`, '').split('\n');
  }
  throw new Error('the configuration was taken');
}

function shown(loaded: ReturnType<typeof loadConfig>, key: string): [unknown, string] {
  const found = loaded.settings.find((setting) => setting.key === key);
  if (!found) throw new Error(`no setting ${key}`);
  return [found.shown, describeSource(found.source).replaceAll(`${folder}/`, '')];
}

describe('defaults', () => {
  test('are enough for a single server', () => {
    const { config } = load('');
    expect(config).toMatchObject({
      dataDir: '/var/lib/elastic-dns',
      node: { name: 'web-1', ipv4: '10.0.0.5', ipv6: null, zone: null },
      log: { kind: 'embedded', maxAgeMs: 30 * 86_400_000, maxBytes: 2 ** 30 },
      store: { kind: 'embedded' },
      engine: { host: 'unix:///var/run/docker.sock' },
      agent: { snapshotIntervalMs: 300_000 },
      registrar: { leaseTtlMs: 5000 },
      watcher: {
        hostsDir: '/var/lib/elastic-dns/hosts',
        nodeHosts: null,
        containers: true,
        quietMs: 5,
        ceilingMs: 50,
      },
      http: { host: '127.0.0.1', port: 9464 },
      logging: { level: 'info', format: 'auto' },
    });
  });

  test('are what the schema itself takes, for every setting', () => {
    const refused = describeConfig().filter(
      (row) => !row.found && !row.schema.safeParse(row.default).success,
    );
    expect(refused.map(({ key }) => key)).toEqual([]);
  });

  test('follow the data folder that is in force', () => {
    expect(load('dataDir: /srv/dns').config.watcher.hostsDir).toBe('/srv/dns/hosts');
  });

  test('take the engine from DOCKER_HOST, and say so', () => {
    const loaded = load('', { host: { ...HOST, dockerHost: 'tcp://127.0.0.1:2375' } });
    expect(loaded.config.engine.host).toBe('tcp://127.0.0.1:2375');
    expect(shown(loaded, 'engine.host')[1]).toContain('DOCKER_HOST');
  });

  test("refuse a host name that cannot be a node's name, and say why", () => {
    const [problem] = problems('', { host: { ...HOST, name: 'localhost' } });
    expect(problem).toMatch(/^the host name: node\.name is "localhost" \("localhost" is reserved\)/);
  });
});

describe('sources', () => {
  test('override each other in the order default, file, environment, flag', () => {
    const yaml = 'http:\n  port: 1\n';
    const env = { ELASTIC_DNS_HTTP_PORT: '2' };
    const flags = new Map([['http.port', '3']]);
    expect(shown(load(''), 'http.port')).toEqual([9464, 'default']);
    expect(shown(load(yaml), 'http.port')).toEqual([1, 'config.yml:2']);
    expect(shown(load(yaml, { env }), 'http.port')).toEqual([
      '2',
      'the environment variable ELASTIC_DNS_HTTP_PORT',
    ]);
    expect(shown(load(yaml, { env, flags }), 'http.port')).toEqual(['3', '--http-port']);
    expect(load(yaml, { env, flags }).config.http.port).toBe(3);
  });

  test('include the file that the environment names', () => {
    const path = write('other.yml', 'node: {name: other}');
    expect(loadConfig({ env: { ELASTIC_DNS_CONFIG: path }, host: HOST }).config.node.name).toBe('other');
  });

  test('are an error when a named file is missing', () => {
    expect(() => loadConfig({ path: join(folder, 'none.yml'), env: {}, host: HOST })).toThrow(
      'does not exist',
    );
  });

  test('leave a variable that is set to nothing out of account', () => {
    expect(load('', { env: { ELASTIC_DNS_NODE_NAME: '' } }).config.node.name).toBe('web-1');
  });

  test('take every setting from the environment, each under a name of its own', () => {
    const rows = describeConfig();
    expect(new Set(rows.map(({ env }) => env)).size).toBe(rows.length);
    const flags = rows.flatMap((row) => row.flags);
    expect(new Set(flags).size).toBe(flags.length);
    expect(rows.every(({ env }) => env.startsWith(ENV_PREFIX))).toBe(true);
    expect(rows.find(({ key }) => key === 'registrar.leaseTtl')).toMatchObject({
      env: 'ELASTIC_DNS_REGISTRAR_LEASE_TTL',
      flags: ['--registrar-lease-ttl'],
    });
  });
});

describe('values', () => {
  test.each([
    ['250ms', 250],
    ['1.5s', 1500],
    ['1m', 60_000],
    ['2000', 2000],
    ['"2000"', 2000],
  ])('read the duration %s', (text, ms) => {
    expect(load(`watcher: {ceiling: ${text}}`).config.watcher.ceilingMs).toBe(ms);
  });

  test.each([
    ['512MiB', 512 * 2 ** 20],
    ['2GiB', 2 ** 31],
    ['1048576', 2 ** 20],
  ])('read the size %s', (text, bytes) => {
    expect(load(`log: {maxBytes: ${text}}`).config.log.maxBytes).toBe(bytes);
  });

  test('read a list as a list, and as text with commas', () => {
    const servers = ['nats://a:4222', 'nats://b:4222'];
    expect(load(`log: {nats: {servers: [${servers.join(', ')}]}}`).config.log.nats.servers).toEqual(servers);
    const env = { ELASTIC_DNS_LOG_NATS_SERVERS: servers.join(', ') };
    expect(load('', { env }).config.log.nats.servers).toEqual(servers);
  });

  test.each(['off', '-1'])('read the port %s as none', (port) => {
    expect(load(`http: {port: ${port}}`).config.http.port).toBeNull();
    expect(load('', { env: { ELASTIC_DNS_HTTP_PORT: port } }).config.http.port).toBeNull();
  });

  test('keep names in lower case', () => {
    expect(load('node: {name: Web-7}').config.node.name).toBe('web-7');
  });
});

describe('mistakes', () => {
  test('in a key are told with file, line and the nearest key', () => {
    expect(problems('node:\n  name: a\n  zoone: x\n')).toEqual([
      'config.yml:3: "node.zoone" is no setting; the nearest is node.zone',
    ]);
    expect(problems('loging: {level: info}')).toEqual([
      'config.yml:1: "loging" is no setting; the nearest is logging',
    ]);
  });

  test("in a variable's name are told with the nearest name", () => {
    expect(problems('', { env: { ELASTIC_DNS_NODE_NAM: 'x' } })).toEqual([
      'the environment variable "ELASTIC_DNS_NODE_NAM" is no setting; the nearest is ELASTIC_DNS_NODE_NAME',
    ]);
  });

  test.each([
    [
      'registrar:\n  leaseTtl: 5 parsecs\n',
      'config.yml:2: registrar.leaseTtl is "5 parsecs"; it has to be a duration',
    ],
    ['registrar:\n  leaseTtl: 1ms\n', 'config.yml:2: registrar.leaseTtl is "1ms"; it has to be a duration'],
    ['http:\n  port: 70000\n', 'config.yml:2: http.port is 70000; it has to be a port'],
    ['log:\n  kind: kafka\n', 'config.yml:2: log.kind is "kafka"; it has to be embedded or nats'],
    [
      'watcher:\n  containers: maybe\n',
      'config.yml:2: watcher.containers is "maybe"; it has to be true or false',
    ],
    ['node:\n  ipv4: 127.0.0.1\n', 'config.yml:2: node.ipv4 is "127.0.0.1"; it has to be an IPv4 address'],
    ['log:\n  maxBytes: 1 GB\n', 'config.yml:2: log.maxBytes is "1 GB"; it has to be a size'],
    ['node:\n  name: {a: 1}\n', 'config.yml:2: node.name is {\\"a\\":1}; it has to be a name'],
    [
      'engine:\n  host: 1\n',
      'config.yml:2: engine.host is 1; it has to be an address such as unix:///var/run/docker.sock or tcp://127.0.0.1:2375: put it in quotes',
    ],
    ['node: x\n', 'config.yml:1: node has to hold "key: value" lines'],
    ['- a\n', 'config.yml:1: the file has to hold "key: value" lines'],
    ['node: {name: a\n', 'config.yml:2: column 1: '],
    ['node: {name: a}\nnode: {name: b}\n', 'config.yml:2: column 1: Map keys must be unique'],
  ])('in a value are told with place and remedy: %j', (yaml, start) => {
    const [problem] = problems(yaml);
    expect(problem?.slice(0, start.length)).toBe(start);
  });

  test('from the environment and from flags name their source', () => {
    const env = { ELASTIC_DNS_HTTP_PORT: 'x' };
    expect(problems('', { env })[0]).toMatch(
      /^the environment variable ELASTIC_DNS_HTTP_PORT: http\.port is "x"/,
    );
    const flags = new Map([['http.port', 'x']]);
    expect(problems('', { flags })[0]).toMatch(/^--http-port: http\.port is "x"/);
  });

  test('are all told at once', () => {
    expect(problems('nodes: {}\nhttp: {port: x}\nlog: {kind: x}\n')).toHaveLength(3);
  });

  test('that hide in hostile text cannot steer a terminal', () => {
    expect(problems('"\\u001b[2J": 1\n')[0]).toContain('"\\u001b[2J"');
  });

  test('between settings are told: quiet longer than ceiling, a certificate without its key', () => {
    expect(problems('watcher: {quiet: 1s}')[0]).toContain(
      'watcher.ceiling (default) has to be at least watcher.quiet',
    );
    const certFile = write('cert.pem', 'x');
    expect(problems(`store: {etcd: {certFile: ${certFile}}}`)[0]).toContain('needs store.etcd.keyFile');
  });
});

describe('secrets', () => {
  test('are read from a file, without the new line at its end', () => {
    const path = write('password', 'swordfish\n');
    expect(load(`log: {nats: {passwordFile: ${path}}}`).config.log.nats.password).toBe('swordfish');
  });

  test('are masked wherever a setting is shown', () => {
    const loaded = load(
      'log: {nats: {password: swordfish, servers: ["nats://u:swordfish@a:1", "nats://swordfish@b"]}}\nengine: {host: "tcp://u:swordfish@h"}',
    );
    expect(loaded.config.log.nats.password).toBe('swordfish');
    expect(JSON.stringify(loaded.settings)).not.toContain('swordfish');
    expect(shown(loaded, 'log.nats.servers')[0]).toEqual(['nats://u:***@a:1', 'nats://***@b']);
  });

  test('are not in what is said of a mistake', () => {
    const yaml = 'log: {nats: {password: [swordfish], servers: {a: "nats://u:swordfish@h"}}}\n';
    expect(problems(yaml)).toHaveLength(2);
    expect(problems(yaml).join()).not.toContain('swordfish');
    expect(problems('log: {nats: {password: 12345}}')[0]).toBe(
      'config.yml:1: log.nats.password: it has to be text: put it in quotes',
    );
  });

  test('have no flag, as everybody can see those', () => {
    const withoutFlag = describeConfig().filter(({ flags }) => flags.length === 0);
    expect(withoutFlag.map(({ key }) => key)).toEqual([
      'log.nats.password',
      'log.nats.token',
      'store.etcd.password',
    ]);
  });

  test('are warned about when everybody may read their file', () => {
    const path = write('token', 'swordfish', 0o644);
    const { config, warnings } = load(`log: {nats: {tokenFile: ${path}}}`);
    expect(config.log.nats.token).toBe('swordfish');
    expect(warnings).toEqual([expect.stringContaining(`chmod o-r`)]);
    chmodSync(path, 0o640);
    expect(load(`log: {nats: {tokenFile: ${path}}}`).warnings).toEqual([]);
  });

  test('are an error when their file is missing, or when they are given twice', () => {
    expect(problems('log: {nats: {tokenFile: /no/such}}')[0]).toMatch(
      /^config\.yml:1: log\.nats\.tokenFile: ENOENT/,
    );
    const path = write('token', 'swordfish');
    expect(problems(`log: {nats: {tokenFile: ${path}, token: swordfish}}`)[0]).toBe(
      'log.nats.token (config.yml:1) and log.nats.tokenFile (config.yml:1) are both set; keep one',
    );
  });
});
