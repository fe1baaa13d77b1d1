import { stripVTControlCharacters } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatAge, formatTable, printable, toJson, type Column, type Output } from './output.ts';

interface Row {
  name: string;
  text: string;
}
const COLUMNS: Column<Row>[] = [
  { title: 'NAME', text: ({ name }) => name },
  { title: 'TEXT', text: ({ text }) => text },
];
const output = (given: Partial<Output> = {}): Output => ({ write: () => true, ...given });

describe('foreign text', () => {
  test('comes out as printable ASCII and within its bound, whatever it was', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 3000 }),
        fc.integer({ min: 3, max: 3000 }),
        (text, most) => {
          const shown = printable(text, most);
          expect(shown).toMatch(/^[\x20-\x7e]*$/);
          expect(shown.length).toBeLessThanOrEqual(6 * most);
        },
      ),
    );
  });

  test('is left alone where it is harmless', () => {
    expect(printable('service "a b" is not a name')).toBe('service "a b" is not a name');
  });

  test('is the same JSON in ASCII', () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: 'binary' }), fc.constantFrom(0, 2), (value, indent) => {
        const json = toJson(value, indent);
        expect(json).toMatch(/^[\n\x20-\x7e]*$/);
        expect(JSON.parse(json)).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });
});

describe('a table', () => {
  const rows = [
    { name: 'a', text: 'x'.repeat(100) },
    { name: 'longer', text: 'y' },
  ];

  test('aligns its columns and ends no line with spaces', () => {
    expect(formatTable(COLUMNS, rows, output())).toBe(
      `NAME    TEXT\na       ${'x'.repeat(100)}\nlonger  y\n`,
    );
  });

  test('is never cut where it does not go to a terminal', () => {
    expect(formatTable(COLUMNS, rows, output({ columns: 40 }))).toContain('x'.repeat(100));
  });

  test('fits a terminal by shortening its widest column', () => {
    const table = stripVTControlCharacters(formatTable(COLUMNS, rows, output({ isTTY: true, columns: 40 })));
    const lines = table.trimEnd().split('\n');
    expect(lines.map((line) => line.length)).toEqual([12, 40, 9]);
    expect(lines[1]).toMatch(/^a {7}x+\.\.\.$/);
  });

  test('stays readable on a terminal that is too narrow for it', () => {
    const table = formatTable(COLUMNS, rows, output({ isTTY: true, columns: 5 }));
    expect(stripVTControlCharacters(table)).toContain('xxx...');
  });

  test('shows foreign text without obeying it', () => {
    const table = formatTable(COLUMNS, [{ name: '\u001b[2J', text: 'a\nb' }], output());
    expect(table).toBe('NAME       TEXT\n\\u001b[2J  a\\u000ab\n');
  });
});

test.each([
  [-5, '0s'],
  [119_000, '119s'],
  [120_000, '2m'],
  [2 * 3_600_000, '2h'],
  [47 * 3_600_000, '47h'],
  [48 * 3_600_000, '2d'],
])('an age of %i ms is %s', (ms, text) => {
  expect(formatAge(ms)).toBe(text);
});
