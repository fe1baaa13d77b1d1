import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cursor, instance, keysOf, MirrorFixture } from './fixture.ts';

describe('mirror whose store is put back', () => {
  let fixture: MirrorFixture;
  beforeEach(() => {
    fixture = new MirrorFixture();
  });
  afterEach(() => fixture.remove());

  /** What the mirror has reached when the store changes under it. */
  const reached = [instance(1), instance(2), cursor(5)];
  beforeEach(async () => {
    await fixture.commit([instance(1), cursor(1)]);
    await fixture.commit([instance(2), cursor(5)]);
    fixture.start();
    await fixture.enter('live');
  });
  const expectFrozen = async (): Promise<void> => {
    await fixture.enter('frozen');
    expect(fixture.keys()).toEqual(keysOf(...reached));
    expect(fixture.changes.length).toBe(1);
  };

  test('keeps what it has when the store is empty, until that is rebuilt from the log', async () => {
    await fixture.replaceStore(async () => {});
    await expectFrozen();
    await fixture.commit([instance(1), cursor(2)]);
    await fixture.commit([instance(2), cursor(5)]);
    await fixture.enter('live');
    expect(fixture.keys()).toEqual(keysOf(...reached));
    // All that it removed and added, it has added again: nobody need hear of it.
    expect(fixture.changes.length).toBe(1);
  });

  test('keeps what it has when the store is an older state, until that has caught up', async () => {
    await fixture.replaceStore((other) => fixture.commit([instance(1), cursor(1)], [], other));
    await expectFrozen();
    await fixture.commit([instance(3), cursor(6)]);
    await fixture.enter('live');
    expect(fixture.told(1).puts).toEqual(keysOf(instance(3), cursor(6)));
    expect(fixture.told(1).deletes).toEqual(keysOf(instance(2)));
  });

  test('keeps what it has when store and log were both built anew, until an operator accepts that', async () => {
    await fixture.replaceStore((other) => fixture.commit([instance(9), cursor(1, 'log-2')], [], other));
    await expectFrozen();
    fixture.mirror.accept();
    await fixture.enter('live');
    expect(fixture.keys()).toEqual(keysOf(instance(9), cursor(1)));
    // Accepted once, not for ever.
    await fixture.store.commit({ puts: [], deletes: keysOf(cursor(1)) });
    await fixture.enter('frozen');
  });

  test('reads again when the store was put back and has grown past it meanwhile', async () => {
    await fixture.replaceStore(async (other) => {
      await fixture.commit([instance(1), cursor(2)], [], other);
      // In the place of the commit that the mirror had last; nothing in what follows goes back.
      await fixture.commit([instance(11), cursor(6)], [instance(1)], other);
      for (const next of [7, 8, 9]) await fixture.commit([instance(next), cursor(next)], [], other);
    });
    await fixture.change(2);
    await fixture.enter('live');
    expect(fixture.breakable.reads).toBe(2);
    for await (const page of fixture.store.read({ from: '/', to: '0' })) {
      expect(fixture.keys()).toEqual(page.entries.map(({ key }) => key));
    }
  });

  test.each([
    { what: 'is deleted', change: () => fixture.store.commit({ puts: [], deletes: keysOf(...reached) }) },
    { what: 'goes back', change: () => fixture.commit([cursor(4)], [instance(1)]) },
  ])('keeps what it has when the cursor $what before its eyes', async ({ change }) => {
    await change();
    await expectFrozen();
    await fixture.commit([instance(1), instance(2), cursor(5)]);
    await fixture.enter('live');
    expect(fixture.changes.length).toBe(1);
  });

  test('goes on when the log was built anew and the store was not', async () => {
    const revision = await fixture.commit([instance(3), cursor(1, 'log-2')]);
    await fixture.reach(revision);
    expect(fixture.mirror.state).toBe('live');
    fixture.breakable.break();
    await fixture.enter('stale');
    fixture.breakable.mend();
    await fixture.enter('live');
    await fixture.reach(await fixture.commit([cursor(2, 'log-2')], [instance(3)]));
    expect(fixture.breakable.reads).toBe(1);
  });
});
