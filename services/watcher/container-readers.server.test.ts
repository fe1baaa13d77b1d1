/** What readers see, inside of a container and beside it, while watcher and engine write its hosts file. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeRecord, type StoreRecord } from '@elastic-dns/model';
import { waitUntil } from '@elastic-dns/testkit/wait';
import { describe, expect, it } from 'vitest';
import { beside, commit, expectRight, hostsPathOf, run, setUpBeside } from './fixture.ts';
import { hammer } from './hammer.ts';
import { readMarked, splitLines } from './marked-line.ts';
import { instanceRecord } from './samples.ts';

/** Five seconds' worth, at 100 a second. */
const UPDATES = 500;

setUpBeside();

/** Changes `busy.shop` this many times a second until told to stop; returns how often it was. */
function keepBusy(perSecond: number): { rounds: () => number; end: () => Promise<number> } {
  let isRunning = true;
  let round = 0;
  const working = (async () => {
    const beganMs = performance.now();
    let before: StoreRecord[] = [];
    for (; isRunning; round++) {
      const next = Array.from({ length: 1 + (round % 3) }, (_, index) =>
        instanceRecord(100 + index + 3 * (round % 50), {
          namespace: 'shop',
          service: 'busy',
          ipv4: `10.8.${round % 250}.${index + 1}`,
        }),
      );
      const keys = new Set(next.map((record) => encodeRecord(record).key));
      await commit(
        next,
        before.filter((record) => !keys.has(encodeRecord(record).key)),
      );
      before = next;
      await sleep(Math.max(0, beganMs + ((round + 1) * 1_000) / perSecond - performance.now()));
    }
    return round;
  })();
  return {
    rounds: () => round,
    end: () => {
      isRunning = false;
      return working;
    },
  };
}

describe("readers of a container's hosts file", () => {
  it('misses no look-up of an unchanged name while it is written 100 times a second', async () => {
    const id = await run({
      command: [
        'sh',
        '-c',
        'n=0; m=0; while test ! -e /tmp/end; do getent ahosts calm >/dev/null || m=$((m+1)); n=$((n+1)); done; echo "$n look-ups, $m missed"; exec sleep 600',
      ],
    });
    await expectRight(id);
    const calm = '10.7.0.1 calm calm.shop';
    const reader = { path: await hostsPathOf(id), stays: [calm], answers: null, withEngine: false };
    const hammering = await hammer([1_024, 4_096].map((chunkBytes) => ({ ...reader, chunkBytes })));
    const busy = keepBusy(100);
    await waitUntil(() => busy.rounds() >= UPDATES, { what: `${UPDATES} updates`, timeoutMs: 60_000 });
    const updates = await busy.end();
    const findings = await hammering.end();
    await beside.node.docker.exec(id, ['touch', '/tmp/end']);
    const said = await waitUntil(() => beside.node.docker.logs(id), { what: 'the look-ups to end' });
    console.log(
      `${updates} updates; in the container: ${said.trim()}; beside it: ${JSON.stringify(findings)}`,
    );
    expect(said).toMatch(/^[1-9][0-9]+ look-ups, 0 missed\n$/);
    expect(findings).toMatchObject({ cut: 0, missed: 0, broken: [] });
    expect(findings.changes).toBeGreaterThan(100);
    await expectRight(id);
  });

  it('misses none that the engine’s own rewrite did not cause while networks come and go', async () => {
    const id = await run();
    await expectRight(id);
    const reader = {
      path: await hostsPathOf(id),
      stays: ['10.7.0.1 calm calm.shop'],
      answers: null,
      withEngine: true,
    };
    const hammering = await hammer([1_024, 4_096].map((chunkBytes) => ({ ...reader, chunkBytes })));
    const busy = keepBusy(100);
    for (let turn = 0; turn < 12; turn++) {
      await beside.node.docker.command(['network', 'connect', beside.network, id]);
      await beside.node.docker.command(['network', 'disconnect', beside.network, id]);
    }
    const updates = await busy.end();
    const findings = await hammering.end();
    console.log(`${updates} updates, 12 networks: ${JSON.stringify(findings)}`);
    // Not judged are `cut`, as the engine had emptied the file, and lines that both have written at the same moment.
    expect(findings.missed).toBe(0);
    await expectRight(id);
    // What the engine leaves of its own lines, it leaves in a file that nobody else writes.
    const control = await run({ labels: { 'elastic-dns.ignore': 'true' } });
    const before = readFileSync(await hostsPathOf(control), 'utf8');
    await beside.node.docker.command(['network', 'connect', beside.network, control]);
    await beside.node.docker.command(['network', 'disconnect', beside.network, control]);
    const after = readFileSync(await hostsPathOf(control), 'utf8');
    expect(after).not.toBe(before);
    const lines = [...splitLines(readFileSync(reader.path))].map(({ text }) => ({
      text,
      ...readMarked(text),
    }));
    const foreign = lines.filter(({ kind }) => kind === 'foreign').map(({ text }) => `${text}\n`);
    expect(foreign.join('')).toBe(after);
    expect(lines.filter(({ kind }) => kind === 'broken')).toEqual([]);
  });
});
