import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatMarked, readMarked, splitLines } from './marked-line.ts';
import { planWithdrawal, type Withdrawal } from './withdrawal.ts';

const foreign = fc.constantFrom(
  '127.0.0.1\tlocalhost',
  '172.17.0.2\t0c1f2a3b4c5d',
  '10.9.9.9 by-hand',
  '# a comment',
  '',
  '\u00e9',
  `10.9.9.8 ${'long '.repeat(20)}`,
);
const ours = fc
  .record({ line: fc.constantFrom('10.0.0.1 api api.shop', null), bytes: fc.constantFrom(64, 128, 300) })
  .map(({ line, bytes }) => formatMarked(line, bytes).slice(0, -1));

function withdraw(content: Buffer, { writes, bytes }: Withdrawal, seen: (state: Buffer) => void): Buffer {
  const file = Buffer.alloc(content.length + 2);
  content.copy(file);
  for (const write of writes) {
    write.bytes.copy(file, write.offset ?? file.length);
    seen(Buffer.from(file.subarray(0, content.length)));
  }
  return file.subarray(0, bytes);
}

describe('planWithdrawal', () => {
  it('leaves exactly the foreign bytes, wherever our lines stand (S8)', () => {
    const lines = fc.array(fc.oneof(foreign, ours), { maxLength: 12 });
    fc.assert(
      fc.property(lines, fc.boolean(), (lines, ended) => {
        const content = Buffer.from(lines.join('\n') + (ended && lines.length > 0 ? '\n' : ''));
        const kept = [...splitLines(content)].filter(({ text }) => readMarked(text).kind === 'foreign');
        const expected = Buffer.concat(
          kept.map(({ offset, length }) => content.subarray(offset, offset + length)),
        );
        const plan = planWithdrawal(content);
        expect(plan === null ? content : withdraw(content, plan, () => undefined)).toEqual(expected);
        expect(planWithdrawal(expected)).toBeNull();
      }),
    );
  });

  it('shows every foreign line whole after each write, and no line that was never there (S9)', () => {
    const before = fc.array(foreign, { maxLength: 3 });
    // As short as a foreign line and its end, which leaves one byte, and longer.
    const region = fc.array(fc.oneof(ours, fc.constant(formatMarked(null, 31).slice(0, -1))), {
      minLength: 1,
      maxLength: 6,
    });
    const after = fc.array(
      fc.oneof(
        foreign.filter((line) => line.length < 30),
        fc.constant('10.9.9.7 twenty-nine-letters-'),
      ),
      { maxLength: 4 },
    );
    fc.assert(
      fc.property(before, region, after, (before, region, after) => {
        const all = [...before, ...region, ...after];
        const content = Buffer.from(`${all.join('\n')}\n`);
        const plan = planWithdrawal(content);
        expect(plan).not.toBeNull();
        withdraw(content, plan as Withdrawal, (state) => {
          const answers = state
            .toString()
            .split('\n')
            .filter((line) => line !== '' && !line.startsWith('#'));
          expect(all).toEqual(expect.arrayContaining(answers));
          const needed = [...before, ...after].filter((line) => line !== '' && !line.startsWith('#'));
          expect(answers).toEqual(expect.arrayContaining(needed));
        });
      }),
      { numRuns: 500 },
    );
  });
});
