/**
 * The types of settings, for config-schema.ts: each takes what a YAML file can say and the same as text, since
 * environment variables and flags are nothing else.
 */
import type { Result } from '@elastic-dns/model';
import { z } from 'zod';

export const OFF = 'off';

/** Text in any source; a number in the file has lost its zeros and its quotes, so it is not taken. */
export const text = (): z.ZodType<string> => z.string().min(1);
export const textOrOff = (): z.ZodType<string | null> => z.preprocess(noneIfOff, text().nullable());
export const choice = <const T extends readonly string[]>(choices: T): z.ZodEnum<{ [K in T[number]]: K }> =>
  z.enum(choices);
export const boolean = (): z.ZodType<boolean> =>
  z.preprocess((raw) => (raw === 'true' ? true : raw === 'false' ? false : raw), z.boolean());
export const integer = (min: number, max: number): z.ZodType<number> =>
  z.preprocess(
    (raw) => (typeof raw === 'string' && /^-?\d+$/.test(raw) ? Number(raw) : raw),
    z.int().min(min).max(max),
  );
export const list = (): z.ZodType<string[]> =>
  z.preprocess(
    (raw) => (typeof raw === 'string' ? raw.split(',').map((item) => item.trim()) : raw),
    z.array(text()).min(1),
  );

/** Marks durations in the schema's type, as `unit` does in its data. */
export type Milliseconds = number & z.core.$brand<'ms'>;
const UNIT_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
export const duration = (minMs: number, maxMs: number): z.ZodType<Milliseconds> =>
  z.preprocess(
    (raw) => amount(raw, /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/, UNIT_MS),
    z.number().min(minMs).max(maxMs).brand<'ms'>(),
  );
const UNIT_BYTES: Record<string, number> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
export const size = (minBytes: number): z.ZodType<number> =>
  z.preprocess(
    (raw) => amount(raw, /^(\d+(?:\.\d+)?)(B|KiB|MiB|GiB|TiB)$/, UNIT_BYTES),
    z.int().min(minBytes),
  );

function amount(raw: unknown, form: RegExp, units: Record<string, number>): unknown {
  if (typeof raw !== 'string') return raw;
  if (/^\d+$/.test(raw)) return Number(raw);
  const [, count, unit = ''] = form.exec(raw) ?? [];
  const factor = units[unit];
  return factor === undefined ? raw : Number(count) * factor;
}

export function noneIfOff(raw: unknown): unknown {
  return raw === OFF ? null : raw;
}

/** Text that one of the model's parsers takes, in the form that it gives. */
export function parsed(parse: (text: string) => Result<string>): z.ZodType<string> {
  return z.string().transform((raw, context) => {
    const result = parse(raw);
    if (result.ok) return result.value;
    context.addIssue({ code: 'custom', message: result.reason });
    return z.NEVER;
  });
}

export function address(isRight: (text: string) => boolean): z.ZodType<string | null> {
  return z.preprocess(noneIfOff, z.string().refine(isRight).nullable());
}
