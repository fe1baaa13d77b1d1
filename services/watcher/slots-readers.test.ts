import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { apply, ENGINE_LINES, findFault, walk, type Wanted } from './samples.ts';
import { LEAVE_MS, Slots, type Write } from './slots.ts';

describe('slots, seen while they are written,', () => {
  it('leave every line whole and every answer there when the writer is killed after any byte (S9)', () => {
    fc.assert(
      fc.property(walk, fc.nat(), (steps, drawn) => {
        let content: Buffer = Buffer.from(ENGINE_LINES);
        let nowMs = 0;
        const slots = new Slots(content, nowMs);
        let before: Wanted = new Map();
        for (const { wanted, pauseMs } of steps) {
          for (const write of slots.plan(wanted, nowMs)) {
            // The end of a file moves over whole blocks only, so an append is cut between two of them or not at all.
            const { length } = write.bytes;
            const cuts =
              write.offset === null ? blockCuts(content.length, length) : [0, 1, drawn % length, length];
            for (const upTo of cuts)
              expect(findFault(apply(content, write, upTo), [before, wanted])).toBeNull();
            content = apply(content, write);
          }
          nowMs = slots.dueMs ?? nowMs;
          for (const write of slots.plan([], nowMs)) content = apply(content, write);
          nowMs += pauseMs;
          before = wanted;
        }
      }),
      { numRuns: 30 },
    );
  });

  it('show a reader that goes forward, however its reads fall between the writes, whole lines and every answer', () => {
    const reads = fc.array(fc.record({ bytes: fc.integer({ min: 1, max: 700 }), writes: fc.nat(6) }), {
      minLength: 10,
      maxLength: 60,
    });
    const pauses = fc.array(fc.constantFrom(0, 1, 3), { minLength: 12, maxLength: 12 });
    fc.assert(
      fc.property(walk, walk, pauses, reads, (history, steps, pauses, reads) => {
        let content: Buffer = Buffer.from(ENGINE_LINES);
        let nowMs = 0;
        const slots = new Slots(content, nowMs);
        let before: Wanted = new Map();
        for (const { wanted, pauseMs } of history) {
          for (const write of slots.plan(wanted, nowMs)) content = apply(content, write);
          nowMs = Math.max(slots.dueMs ?? 0, nowMs) + pauseMs;
          for (const write of slots.plan([], nowMs)) content = apply(content, write);
          before = wanted;
        }
        // A reader takes less than LEAVE_MS from its first byte to its last.
        const states = [before];
        const beganMs = nowMs;
        const pending: Write[] = [];
        const remaining = steps.map(({ wanted }, index) => ({ wanted, pauseMs: pauses[index] ?? 0 }));
        const nextWrite = (): Write | undefined => {
          while (pending.length === 0) {
            const step = remaining.shift();
            if (!step || nowMs + step.pauseMs - beganMs >= LEAVE_MS) return undefined;
            nowMs += step.pauseMs;
            pending.push(...slots.plan(step.wanted, nowMs));
            states.push(step.wanted);
          }
          return pending.shift();
        };
        let seen: Buffer = Buffer.alloc(0);
        for (let read = 0; ; read++) {
          const { bytes, writes } = reads[read % reads.length] ?? { bytes: 1, writes: 0 };
          const piece = content.subarray(seen.length, seen.length + bytes);
          if (piece.length === 0) break;
          seen = Buffer.concat([seen, piece]);
          for (let count = 0; count < writes; count++) {
            const write = nextWrite();
            if (write) content = apply(content, write);
          }
        }
        expect(findFault(seen, states)).toBeNull();
      }),
      { numRuns: 200 },
    );
  });
});

function blockCuts(start: number, length: number): number[] {
  const cuts = [0, length];
  for (let at = 512 - (start % 512); at < length; at += 512) cuts.push(at);
  return cuts;
}
