/**
 * The recorded life of two applications on three nodes, for `up` on a machine without an engine. Recorded from real
 * engines by test/record/demo.ts.
 */
import demo from './traces/demo.json' with { type: 'json' };
import type { Trace } from './trace.ts';

export const demoTrace = demo as Trace;
