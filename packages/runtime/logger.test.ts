import { describe, expect, test } from 'vitest';
import { childLogger, createLogger, type LoggerOptions } from './logger.ts';

/** A logger and what it has written so far. */
function capture(options: LoggerOptions & { isTTY?: boolean } = {}) {
  let written = '';
  const destination = { write: (text: string) => (written += text), isTTY: options.isTTY ?? false };
  return { logger: createLogger({ ...options, destination }), written: () => written };
}

describe('format', () => {
  test('is JSON where nobody is watching', () => {
    const { logger, written } = capture();
    childLogger(logger, 'agent').info({ node: 'n1' }, 'started');
    expect(JSON.parse(written())).toMatchObject({ role: 'agent', node: 'n1', msg: 'started', level: 30 });
  });

  test('is readable on a terminal', () => {
    const { logger, written } = capture({ isTTY: true, color: false });
    logger.warn('the log is out of reach');
    expect(written()).toMatch(/^\[[\d:.]+\] WARN: the log is out of reach\n$/);
  });

  test.each([
    ['json', true, /^\{/],
    ['pretty', false, /^\[/],
  ] as const)('is %s when that is asked for, terminal or not', (format, isTTY, start) => {
    const { logger, written } = capture({ format, isTTY });
    logger.info('x');
    expect(written()).toMatch(start);
  });

  test.each([
    [{ isTTY: true, color: true }, true],
    [{ isTTY: true, color: false }, false],
    [{ isTTY: false, format: 'pretty', color: true }, false],
  ] as const)('has colours on a terminal only, and not when they are unwanted: %j', (options, isColored) => {
    const { logger, written } = capture(options);
    logger.info('x');
    expect(written().includes('\u001b[')).toBe(isColored);
  });
});

test('leaves out what is less serious than the level', () => {
  const { logger, written } = capture({ level: 'warn' });
  logger.info('small');
  logger.warn('large');
  expect(written()).toContain('large');
  expect(written()).not.toContain('small');
});

test('masks secrets at the top of an entry and inside it', () => {
  const { logger, written } = capture();
  logger.info({
    password: 'swordfish',
    log: { nats: { token: 'swordfish' } },
    etcd: { password: 'swordfish' },
  });
  expect(written()).not.toContain('swordfish');
  expect(written()).toContain('***');
});

test.each([
  ['an escape sequence', '\u001b[2Jgone'],
  ['a right-to-left mark', '\u202eevil'],
  ['a C1 control sequence', '\u009b2J'],
  ['a carriage return', 'ok\rfake'],
])('shows %s in foreign text instead of obeying it', (_, text) => {
  const { logger, written } = capture({ isTTY: true, color: true });
  logger.info({ label: text, err: new Error(text) }, text);
  // oxlint-disable-next-line no-control-regex -- control characters are what it is about
  const withoutColors = written().replace(/\x1b\[\d+m/g, '');
  expect(withoutColors).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}]/u);
});
