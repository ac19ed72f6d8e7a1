import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FairSlots } from '../../src/apply/fair-slots.ts';

/** Requests that end when the test says so. */
class Requests {
  readonly slots: FairSlots;
  readonly running: { readonly sharer: string; readonly end: () => void }[] = [];
  waiting = 0;

  constructor(concurrency: number, sharers: number) {
    this.slots = new FairSlots({ concurrency, sharers });
  }

  async ask(sharer: string): Promise<void> {
    this.waiting++;
    void this.slots.run(sharer, async () => {
      this.waiting--;
      await new Promise<void>((resolve) => this.running.push({ sharer, end: resolve }));
    });
    await settled();
  }

  async end(index: number): Promise<void> {
    for (const { end } of this.running.splice(index, 1)) end();
    await settled();
  }

  count(sharer: string): number {
    return this.running.filter((request) => request.sharer === sharer).length;
  }
}

const settled = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

describe('fair slots', () => {
  it('are all for the only sharer', async () => {
    const requests = new Requests(8, 1);
    for (let n = 0; n < 10; n++) await requests.ask('a');
    expect(requests.count('a')).toBe(8);
  });

  it('keep one free for each of the others', async () => {
    const requests = new Requests(8, 4);
    for (let n = 0; n < 10; n++) await requests.ask('a');
    expect(requests.count('a')).toBe(5);
    for (let n = 0; n < 10; n++) await requests.ask('b');
    expect(requests.count('b')).toBe(1);
    await requests.ask('c');
    await requests.ask('d');
    expect([requests.count('a'), requests.count('c'), requests.count('d')]).toEqual([5, 1, 1]);
  });

  it('give a slot that comes free to whoever has the fewest', async () => {
    const requests = new Requests(4, 2);
    for (let n = 0; n < 4; n++) await requests.ask('a');
    for (let n = 0; n < 4; n++) await requests.ask('b');
    expect([requests.count('a'), requests.count('b')]).toEqual([3, 1]);
    await requests.end(0);
    expect([requests.count('a'), requests.count('b')]).toEqual([2, 2]);
  });

  it('come free when a request fails', async () => {
    const slots = new FairSlots({ concurrency: 1, sharers: 1 });
    await expect(slots.run('a', () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    expect(await slots.run('a', async () => 'next')).toBe('next');
  });

  it('never exceed the concurrency, and never keep as many sharers as were foreseen from starting', async () => {
    const step = fc.oneof(
      fc.record({ ask: fc.constantFrom('a', 'b', 'c', 'd') }),
      fc.record({ end: fc.nat({ max: 20 }) }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 4, max: 9 }),
        fc.array(step, { maxLength: 60 }),
        async (concurrency, steps) => {
          const requests = new Requests(concurrency, 4);
          for (const each of steps) {
            if ('end' in each) {
              if (requests.running.length > 0) await requests.end(each.end % requests.running.length);
              continue;
            }
            const isFirst = requests.count(each.ask) === 0;
            await requests.ask(each.ask);
            expect(requests.running.length).toBeLessThanOrEqual(concurrency);
            if (isFirst) expect(requests.count(each.ask)).toBe(1);
          }
          while (requests.running.length > 0) await requests.end(0);
          expect(requests.waiting).toBe(0);
        },
      ),
      { numRuns: 200 },
    );
  });
});
