import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatAge, formatTable, layoutFor, printable, toJson, type Column, type Layout } from './output.ts';

interface Row {
  name: string;
  text: string;
}
const COLUMNS: Column<Row>[] = [
  { title: 'NAME', text: ({ name }) => name },
  { title: 'TEXT', text: ({ text }) => text },
];

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
  const plain: Layout = { width: null, isStyled: false };

  test('aligns its columns, cuts nothing and ends no line with spaces', () => {
    expect(formatTable(COLUMNS, rows, plain)).toBe(`NAME    TEXT\na       ${'x'.repeat(100)}\nlonger  y\n`);
  });

  describe('on a terminal', () => {
    const narrow = (...whenNarrow: Column<Row>['whenNarrow'][]): Column<Row>[] =>
      COLUMNS.map((column, index) => {
        const how = whenNarrow[index];
        return how === undefined ? column : { ...column, whenNarrow: how };
      });
    const print = (columns: Column<Row>[], width: number): string[] =>
      formatTable(columns, rows, { width, isStyled: false }).trimEnd().split('\n');

    test('is left as it is while it fits', () => {
      expect(print(narrow('drop', 'cut'), 108)).toEqual(
        formatTable(COLUMNS, rows, plain).trimEnd().split('\n'),
      );
    });

    test('loses what may be dropped before anything is cut', () => {
      expect(print(narrow('drop', 'cut'), 100)).toEqual(['TEXT', 'x'.repeat(100), 'y']);
    });

    test('is cut where that may be done, and nowhere else', () => {
      const lines = print(narrow(undefined, 'cut'), 40);
      expect(lines.map((line) => line.length)).toEqual([12, 40, 9]);
      expect(lines[1]).toMatch(/^a {7}x+\.\.\.$/);
      expect(print(narrow('cut', undefined), 40)[1]).toContain('x'.repeat(100));
    });

    test('stays readable when it is too narrow for anything', () => {
      expect(print(narrow('drop', 'cut'), 5)).toEqual(['TEXT', 'xxxxxxxxx...', 'y']);
    });
  });

  test('shows foreign text without obeying it', () => {
    const table = formatTable(COLUMNS, [{ name: '\u001b[2J', text: 'a\nb' }], plain);
    expect(table).toBe('NAME       TEXT\n\\u001b[2J  a\\u000ab\n');
  });

  test('has its titles in bold where that is wanted', () => {
    expect(formatTable(COLUMNS, [], { width: null, isStyled: true })).toBe('\u001b[1mNAME  TEXT\u001b[22m\n');
  });

  test.each([
    [{ isTTY: true, columns: 80 }, {}, { width: 80, isStyled: true }],
    [{ isTTY: true, columns: 80 }, { NO_COLOR: '1' }, { width: 80, isStyled: false }],
    [{ isTTY: true, columns: 80 }, { NO_COLOR: '' }, { width: 80, isStyled: true }],
    [{ isTTY: true }, {}, { width: null, isStyled: true }],
    [{ columns: 80 }, {}, { width: null, isStyled: false }],
  ])('is laid out for where it goes: %j %j', (output, env, layout) => {
    expect(layoutFor({ write: () => true, ...output }, env)).toEqual(layout);
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
