/**
 * Global set-up of the vitest projects `server` and `e2e`: the tests' own engine before the first file, gone after the
 * last one. Files then start the servers that they need themselves; workers inherit where the engine is.
 */
import { startTestEngine } from './test-engine.ts';

export default function setup(): Promise<() => Promise<void>> {
  return startTestEngine();
}
