/**
 * Names: what may be a namespace, a service, a node, a version. Used by everything that takes names from
 * outside (labels, events, store keys, command lines). Naming rules 1-4 and 7 of docs/rules.md.
 */
import { accept, quote, refuse, type Result } from './result.ts';

const MAX_LABEL_LENGTH = 63;
/** `<node>-<12 hex digits>` is an instance's id and has to stay a DNS label (SRV targets). */
const MAX_NODE_LENGTH = 50;
/** Without the `u` flag, so that no letter beyond ASCII counts as the other case of one within. */
const LABEL = /^[a-z0-9](?:[a-z0-9_-]*[a-z0-9_])?$/i;
const VERSION = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$/;

/** Names that containers' own hosts files already give, and the control plane's. */
const RESERVED = new Set([
  'localhost',
  'localdomain',
  'ip6-localhost',
  'ip6-loopback',
  'ip6-localnet',
  'ip6-mcastprefix',
  'ip6-allnodes',
  'ip6-allrouters',
  'broadcasthost',
  'elastic-dns',
]);

/**
 * Resolvers read `10`, `0x7f` and `10.1` as IPv4 addresses and URL parsers refuse `api.10`, so an all-number
 * label could never be asked for by name.
 */
const READ_AS_NUMBER = /^(?:[0-9]+|0x[0-9a-f]*)$/;

/** A namespace or a service: rule 7. Gives the lower-case form; refuses what does not fit, never mends it. */
export function parseLabel(text: string): Result<string> {
  if (text.length === 0) return refuse('is empty');
  if (text.length > MAX_LABEL_LENGTH) {
    return refuse(`${quote(text)} has ${text.length} characters; a name has at most ${MAX_LABEL_LENGTH}`);
  }
  if (!LABEL.test(text)) {
    return refuse(
      `${quote(text)} is not a name: letters, digits, "-" and "_" only, starting with a letter or digit and not ending with "-"`,
    );
  }
  const label = text.toLowerCase();
  if (RESERVED.has(label)) return refuse(`${quote(text)} is reserved`);
  if (READ_AS_NUMBER.test(label)) {
    return refuse(`${quote(text)} would be read as a number or an IPv4 address; put a letter in it`);
  }
  return accept(label);
}

/** A node's name: a label of at most 50 characters. */
export function parseNode(text: string): Result<string> {
  if (text.length > MAX_NODE_LENGTH) {
    return refuse(
      `${quote(text)} has ${text.length} characters; a node's name has at most ${MAX_NODE_LENGTH}`,
    );
  }
  return parseLabel(text);
}

/** A version is shown and compared for equality only; it is never a name. */
export function parseVersion(text: string): Result<string> {
  return VERSION.test(text)
    ? accept(text)
    : refuse(
        `${quote(text)} is not a version: 1-128 letters, digits, ".", "_", "+", "-", starting with a letter or digit`,
      );
}

/** What somebody asks for: `api` (own namespace, rules 1 and 3) or `api.backoffice` (rule 2). */
export interface Question {
  service: string;
  /** Null: the caller's own. */
  namespace: string | null;
}

/** Reads `service` or `service.namespace`; a trailing dot is the root's and does not count. */
export function parseQuestion(text: string): Result<Question> {
  const labels = text.replace(/\.$/, '').split('.');
  if (labels.length > 2) {
    return refuse(`${quote(text)} has ${labels.length} parts; ask for "service" or "service.namespace"`);
  }
  const service = parseLabel(labels[0] ?? '');
  if (!service.ok) return refuse(`service ${service.reason}`);
  if (labels[1] === undefined) return accept({ service: service.value, namespace: null });
  const namespace = parseLabel(labels[1]);
  if (!namespace.ok) return refuse(`namespace ${namespace.reason}`);
  return accept({ service: service.value, namespace: namespace.value });
}

/** The address of a service for callers of other namespaces. */
export function qualify(service: string, namespace: string): string {
  return `${service}.${namespace}`;
}
