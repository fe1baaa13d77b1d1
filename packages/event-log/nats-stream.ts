/**
 * The stream that holds the log: its names, its making, and what must be true of one that is there already.
 * Called by `nats.ts` and `nats-reader.ts`.
 *
 * Keeps S6: a stream's identity is its creation time, which a stream that was deleted and made again does not share.
 */
import { ConfigError } from '@elastic-dns/model';
import { DiscardPolicy, nanos, RetentionPolicy, StorageType } from 'nats';
import type { JetStreamManager, StreamConfig, StreamInfo } from 'nats';
import type { LogInfo } from './log.ts';
import { isStreamMissing } from './nats-errors.ts';
import { DUPLICATE_WINDOW_MS, resolveRetention, type RetentionOptions } from './retention.ts';

export const STREAM = 'ELASTIC_DNS';
const PREFIX = 'elastic-dns.events';
const SUBJECTS = `${PREFIX}.*.>`;

export interface StreamOptions extends RetentionOptions {
  /** Copies in a cluster. Default 1. */
  replicas?: number;
}

export function subjectOf(node: string, type: string): string {
  return `${PREFIX}.${node}.${type}`;
}

export function subjectsOf(node: string): string {
  return `${PREFIX}.${node}.>`;
}

/** The third token; the stream takes no subject without it. */
export function nodeOf(subject: string): string {
  const start = PREFIX.length + 1;
  return subject.slice(start, subject.indexOf('.', start));
}

/** The stream, made if it is not there; never changed if it is. `ConfigError` when what is there cannot be the log. */
export async function ensureStream(
  manager: JetStreamManager,
  options: StreamOptions,
): Promise<{ info: StreamInfo; created: boolean; differences: string[] }> {
  const { maxAgeMs, maxBytes } = resolveRetention(options);
  const wanted = {
    name: STREAM,
    subjects: [SUBJECTS],
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    discard: DiscardPolicy.Old,
    max_age: nanos(maxAgeMs),
    max_bytes: maxBytes,
    num_replicas: options.replicas ?? 1,
    duplicate_window: nanos(DUPLICATE_WINDOW_MS),
    deny_delete: true,
    deny_purge: true,
  };
  let info: StreamInfo;
  try {
    info = await manager.streams.info(STREAM);
  } catch (error) {
    if (!isStreamMissing(error)) throw error;
    return { info: await manager.streams.add(wanted), created: true, differences: [] };
  }
  const unfit = listUnfit(info.config);
  if (unfit.length > 0) throw new ConfigError(`stream ${STREAM} cannot be the log: ${unfit.join('; ')}`);
  return { info, created: false, differences: listDifferences(info.config, wanted, options) };
}

/** What breaks the port's promises: events that are not kept, not in order, not once, or not all. */
function listUnfit(config: StreamConfig): string[] {
  const unfit: string[] = [];
  if (!config.subjects?.includes(SUBJECTS))
    unfit.push(`its subjects are ${config.subjects?.join(', ')}, not ${SUBJECTS}`);
  if (config.retention !== RetentionPolicy.Limits)
    unfit.push(`its retention is ${config.retention}, not limits`);
  if (config.discard !== DiscardPolicy.Old)
    unfit.push(`it discards ${config.discard} messages when full, not old`);
  if (config.duplicate_window < nanos(DUPLICATE_WINDOW_MS))
    unfit.push('its duplicate window is under two minutes');
  if (config.max_msgs_per_subject > 0) unfit.push('it limits messages per subject');
  if (config.no_ack === true) unfit.push('it does not acknowledge');
  if (config.sealed) unfit.push('it is sealed');
  return unfit;
}

/** What is not as it would be made, or as it was asked for. */
function listDifferences(
  config: StreamConfig,
  wanted: Partial<StreamConfig>,
  asked: StreamOptions,
): string[] {
  const fields: (keyof StreamConfig)[] = ['storage', 'deny_delete', 'deny_purge'];
  if (asked.maxAgeMs !== undefined) fields.push('max_age');
  if (asked.maxBytes !== undefined) fields.push('max_bytes');
  if (asked.replicas !== undefined) fields.push('num_replicas');
  return fields
    .filter((field) => config[field] !== wanted[field])
    .map((field) => `${field} is ${JSON.stringify(config[field])}, not ${JSON.stringify(wanted[field])}`);
}

export function incarnationOf(info: StreamInfo): string {
  return `${STREAM}@${info.created}`;
}

export function toLogInfo(info: StreamInfo, maxBytes: number): LogInfo {
  const { first_seq: first, last_seq: last, messages } = info.state;
  return { incarnation: incarnationOf(info), first: messages === 0 ? last + 1 : first, last, maxBytes };
}
