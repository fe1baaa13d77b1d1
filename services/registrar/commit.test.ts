import { UnavailableError } from '@elastic-dns/model';
import { EMPTY_SNAPSHOT, sampleEvent, sampleInstance } from '@elastic-dns/model/samples';
import type { Commit } from '@elastic-dns/registry-store';
import { readSnapshot } from '@elastic-dns/registry-store/snapshot';
import { describe, expect, it } from 'vitest';
import { expectStoreIsFold, interposed, makeBeds, publish, start, started, sumOf } from './fixture.ts';

const bed = makeBeds();

describe('commits', () => {
  it('commits a batch with its cursor in one transaction', async () => {
    for (let sequence = 1; sequence <= 50; sequence++) await publish(bed, started('n1', sequence));
    const commits: Commit[] = [];
    start(bed, { store: interposed(bed, (request) => (commits.push(request), bed.store.commit(request))) });
    await expectStoreIsFold(bed);
    expect(commits).toHaveLength(1);
    expect(commits[0]?.puts.map(({ key }) => key)).toContain('/elastic-dns/cursor');
    expect(commits[0]?.leadership).toBeDefined();
  });

  it('looks at the cursor after a lost answer, and writes nothing twice', async () => {
    let lost = 0;
    const metrics = start(bed, {
      store: interposed(bed, async (request, number) => {
        const revision = await bed.store.commit(request);
        if (number % 3 !== 0) return revision;
        lost++;
        throw new UnavailableError('the answer was lost');
      }),
    });
    for (let sequence = 1; sequence <= 30; sequence++) await publish(bed, started('n1', sequence));
    await expectStoreIsFold(bed);
    expect(lost).toBeGreaterThan(0);
    expect(await sumOf(metrics, 'elastic_dns_registrar_commit_retries_total')).toBe(lost);
    expect(await sumOf(metrics, 'elastic_dns_loop_restarts_total')).toBe(0);
  });

  it('tries again after a lost request', async () => {
    let lost = 0;
    start(bed, {
      store: interposed(bed, (request, number) => {
        if (number % 2 === 0) return bed.store.commit(request);
        lost++;
        return Promise.reject(new UnavailableError('the request was lost'));
      }),
    });
    for (let sequence = 1; sequence <= 10; sequence++) await publish(bed, started('n1', sequence));
    await expectStoreIsFold(bed);
    expect(lost).toBeGreaterThan(0);
  });

  it('settles a commit that lands only after it was looked for', async () => {
    let late: Commit | undefined;
    const metrics = start(bed, {
      store: interposed(bed, async (request, number) => {
        if (number === 1) {
          late = request;
          throw new UnavailableError('still on its way');
        }
        if (late) {
          await bed.store.commit(late);
          late = undefined;
        }
        return bed.store.commit(request);
      }),
    });
    await publish(bed, started('n1', 1));
    await expectStoreIsFold(bed);
    expect(late).toBeUndefined();
    expect(await sumOf(metrics, 'elastic_dns_loop_restarts_total')).toBe(0);
    await publish(bed, started('n1', 2));
    await expectStoreIsFold(bed);
  });

  it('splits a snapshot that is larger than a commit: puts, then deletes, then cursor and barrier', async () => {
    const many = Array.from({ length: 300 }, (_, index) => sampleInstance('n1', index + 1));
    const others = many.map(({ id }, index) => ({ ...sampleInstance('n1', index + 1_000), container: id }));
    await publish(
      bed,
      sampleEvent('n1', 1, { type: 'node.snapshot', data: { ...EMPTY_SNAPSHOT, instances: many } }),
    );
    await publish(
      bed,
      sampleEvent('n1', 2, { type: 'node.snapshot', data: { ...EMPTY_SNAPSHOT, instances: others } }),
    );
    const commits: Commit[] = [];
    start(bed, { store: interposed(bed, (request) => (commits.push(request), bed.store.commit(request))) });
    const stored = await expectStoreIsFold(bed);
    expect(stored.instances('web-front-end', 'api').size).toBe(300);
    const kinds = commits.map(({ puts, deletes }) =>
      deletes.length > 0
        ? 'deletes'
        : puts.some(({ key }) => key === '/elastic-dns/cursor')
          ? 'cursor'
          : 'puts',
    );
    expect(kinds).toEqual([
      ...fill('puts', 3),
      'cursor',
      ...fill('puts', 3),
      ...fill('deletes', 3),
      'cursor',
    ]);
  });

  it('S4: a leader that dies between the parts of a change leaves a registry that the next one completes', async () => {
    const before = Array.from({ length: 200 }, (_, index) => sampleInstance('n1', index + 1));
    const after = Array.from({ length: 200 }, (_, index) => sampleInstance('n1', index + 1_000));
    await publish(
      bed,
      sampleEvent('n1', 1, { type: 'node.snapshot', data: { ...EMPTY_SNAPSHOT, instances: before } }),
    );
    await publish(
      bed,
      sampleEvent('n1', 2, { type: 'node.snapshot', data: { ...EMPTY_SNAPSHOT, instances: after } }),
    );
    let leaders = 0;
    for (let sequence = 0; sequence < 2 && leaders < 20; leaders++) {
      const death = new AbortController();
      start(bed, {
        candidate: `r${leaders}`,
        signal: death.signal,
        store: interposed(bed, async (request) => {
          const revision = await bed.store.commit(request);
          death.abort();
          return Promise.reject(new Error(`dead after revision ${revision}`));
        }),
      });
      await bed.running.at(-1);
      const { registry } = await readSnapshot(bed.store);
      // Puts come before deletes: the name is never without an address in between.
      expect(registry.instances('web-front-end', 'api').size).toBeGreaterThan(0);
      sequence = registry.cursor?.sequence ?? 0;
    }
    expect(leaders).toBeGreaterThan(4);
    start(bed, { candidate: 'survivor' });
    const stored = await expectStoreIsFold(bed);
    expect(stored.instances('web-front-end', 'api').size).toBe(200);
  });
});

function fill(kind: string, count: number): string[] {
  return Array.from({ length: count }, () => kind);
}
