/**
 * Records what the containers of real engines live through, as a trace that packages/engine/trace.ts plays. Called by
 * demo.ts, which makes them live.
 */
import type { Engine, EngineEvent } from '@elastic-dns/engine';
import type { Trace, TraceNode, TraceStep } from '@elastic-dns/engine/trace';
import type { Container } from '@elastic-dns/model';

/** The times of the playing take the place of the recorded ones, and files of this machine mean nothing elsewhere. */
type Recorded = Omit<Container, 'startedAtMs' | 'hostsPath'>;

export class Recorder {
  readonly #abort = new AbortController();
  readonly #recordings: Promise<void>[] = [];
  readonly #steps: { atNs: bigint; step: TraceStep }[] = [];
  readonly #nodes: TraceNode[] = [];

  /** Records from now on what happens on an engine that has no containers yet. */
  async follow(engine: Engine, node: Omit<TraceNode, 'engine'>): Promise<void> {
    const events = await engine.subscribe(this.#abort.signal);
    const { version } = await engine.info();
    this.#nodes.push({ ...node, engine: { name: `Docker on ${node.name}`, version } });
    const recording = this.#record(engine, node.name, events);
    // What went wrong is told at the end.
    recording.catch(() => undefined);
    this.#recordings.push(recording);
  }

  /** Ends the recording and gives what has been recorded. */
  async finish(): Promise<Trace> {
    this.#abort.abort();
    await Promise.all(this.#recordings);
    const steps = this.#steps.toSorted((a, b) => (a.atNs < b.atNs ? -1 : 1));
    const firstNs = steps[0]?.atNs ?? 0n;
    return {
      nodes: this.#nodes,
      steps: steps.map(({ atNs, step }) => ({ ...step, atMs: Number((atNs - firstNs) / 1_000_000n) })),
    };
  }

  async #record(engine: Engine, node: string, events: AsyncIterable<EngineEvent>): Promise<void> {
    const known = new Map<string, Recorded>();
    for await (const event of events) {
      const { containerId, atNs, ...happening } = event;
      const before = known.get(containerId);
      const after = await this.#see(engine, event, before);
      if (after) known.set(containerId, after);
      const step: TraceStep = { atMs: 0, node, container: containerId.slice(0, 12), event: happening };
      const set = after && before ? difference(before, after) : after;
      if (set === null || Object.keys(set).length > 0) step.set = set;
      this.#steps.push({ atNs, step });
    }
  }

  /** The container as it was after the event, which may be before the answer. */
  async #see(engine: Engine, event: EngineEvent, before: Recorded | undefined): Promise<Recorded | null> {
    if (event.kind === 'destroy') return null;
    if (before && ['connect', 'kill', 'oom', 'disconnect'].includes(event.kind)) return before;
    if (before && event.kind === 'die')
      return { ...before, status: 'exited', networks: unset(before.networks) };
    if (before && event.kind === 'health') return { ...before, health: event.health };
    const container = await engine.inspect(event.containerId);
    if (!container) throw new Error(`${event.containerId} went before it was seen: ${event.kind}`);
    const { startedAtMs: _startedAtMs, hostsPath: _hostsPath, ...recorded } = container;
    if (event.kind === 'create')
      return { ...recorded, status: 'created', networks: unset(recorded.networks) };
    if (recorded.status !== (event.kind === 'pause' ? 'paused' : 'running'))
      throw new Error(`${recorded.name} was ${recorded.status} at ${event.kind}: record again, slower`);
    return recorded;
  }
}

function unset(networks: Recorded['networks']): Recorded['networks'] {
  return networks.map(({ name }) => ({ name, ipv4: null, ipv6: null }));
}

function difference(before: Recorded, after: Recorded): Partial<Recorded> {
  const changed = Object.entries(after).filter(
    ([field, value]) => JSON.stringify(value) !== JSON.stringify(before[field as keyof Recorded]),
  );
  return Object.fromEntries(changed);
}
