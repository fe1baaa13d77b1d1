import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findBlock, replaceBlock } from './block.ts';

const LINES = '10.0.0.1 api.shop\n';

function put(text: string, lines: string | null): string {
  const place = findBlock(text);
  if (!place.ok) throw new Error(place.reason);
  return replaceBlock(text, place, lines);
}

describe('the marked block', () => {
  it('can be put into any text, changed and taken out again without a trace (S8)', () => {
    const text = fc
      .array(
        fc.oneof(fc.string(), fc.constantFrom('127.0.0.1 localhost', '\n', '\r\n', '# BEGIN', 'elastic-dns')),
      )
      .map((parts) => parts.join(''))
      // Texts that have a marker of ours have tests of their own, below.
      .filter((text) => !/^# (BEGIN|END) elastic-dns\b/m.test(text));
    fc.assert(
      fc.property(text, text, (before, behind) => {
        const first = put(before, LINES);
        expect(first).toContain(LINES);
        expect(put(first, LINES)).toBe(first);
        expect(put(put(first, `${LINES}${LINES}`), LINES)).toBe(first);
        expect(put(first, null)).toBe(before);
        // What somebody adds behind it later stays as well.
        expect(put(first + behind, null)).toBe(before + behind);
      }),
    );
  });

  it('goes behind everything, or before it when the last line has no end', () => {
    expect(put('127.0.0.1 localhost\n', LINES)).toMatch(
      /^127.0.0.1 localhost\n# BEGIN .*\n10.0.0.1 api.shop\n# END elastic-dns\n$/,
    );
    expect(put('127.0.0.1 localhost', LINES)).toMatch(
      /^# BEGIN .*\n10.0.0.1 api.shop\n# END elastic-dns\n127.0.0.1 localhost$/,
    );
  });

  it.each([
    ['begins and does not end', '# BEGIN elastic-dns\n10.0.0.1 a\n'],
    ['ends and does not begin', '10.0.0.1 a\n# END elastic-dns\n'],
    ['ends before it begins', '# END elastic-dns\n# BEGIN elastic-dns\n'],
    ['is there twice', '# BEGIN elastic-dns\n# END elastic-dns\n# BEGIN elastic-dns\n# END elastic-dns\n'],
    ['begins twice', '# BEGIN elastic-dns\n# BEGIN elastic-dns\n# END elastic-dns\n'],
  ])('is refused with what to do when it is damaged: it %s', (_, text) => {
    expect(findBlock(text)).toMatchObject({ ok: false, reason: expect.stringContaining('by hand') });
  });
});
