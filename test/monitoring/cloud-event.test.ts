import { describe, expect, it } from 'vitest';
import { eventOf, groupOf, nextBatch, readCloudEvent, toMessage } from '../../src/monitoring/cloud-event.ts';
import { enqueue, newOutbox } from '../../src/monitoring/outbox.ts';
import { pointCreated, progressOf, T0_US } from './arbitrary-events.ts';

const outbox = enqueue(
  newOutbox(T0_US),
  [pointCreated('20261123T043000.000000Z-crash'), progressOf('os', 7)],
  T0_US + 1,
);

describe('cloud events', () => {
  it('have the bytes that docs/monitoring.md shows', () => {
    const [queued] = outbox.queued;
    expect(queued && toMessage(queued, 'shop')).toEqual({
      messageId: 'shop:1795408200000',
      subject: 'points/20261123T043000.000000Z-crash',
      applicationProperties: { type: 'PointCreated', group: 'shop', severity: 'info' },
      body: {
        specversion: '1.0',
        id: 'shop:1795408200000',
        source: '/tidemark/groups/shop',
        type: 'Tidemark.PointCreated',
        subject: 'points/20261123T043000.000000Z-crash',
        time: '2026-11-23T04:30:00.000001Z',
        datacontenttype: 'application/json',
        dataschema: 'tidemark:events/PointCreated/v1',
        severity: 'info',
        data: pointCreated('20261123T043000.000000Z-crash').data,
      },
    });
  });

  it('carry the severity that subscriptions filter by', () => {
    const data = { machine: 'web', disk: 'os', blob: 'a.seg', offset: 88, code: 'LOG_CHECKSUM', reason: 'flipped bit' };
    const [queued] = enqueue(newOutbox(T0_US), [{ type: 'ResyncRequired', data }], T0_US).queued;
    const message = queued && toMessage(queued, 'shop');
    expect(message?.applicationProperties).toEqual({ type: 'ResyncRequired', group: 'shop', severity: 'critical' });
    expect(message?.body).toMatchObject({ severity: 'critical' });
  });

  it('are read back as the events they were', () => {
    const batch = nextBatch(outbox, 'shop', 10);
    const read = batch?.messages.map((message) => readCloudEvent(JSON.parse(JSON.stringify(message.body))));
    expect(read?.map((event) => event && [groupOf(event), eventOf(event)?.type, event.subject])).toEqual([
      ['shop', 'PointCreated', 'points/20261123T043000.000000Z-crash'],
      ['shop', 'InitialReplicationProgress', 'disks/web/os'],
    ]);
  });

  it('come in batches from the oldest on', () => {
    expect(nextBatch(outbox, 'shop', 1)).toMatchObject({ throughSequence: 1_795_408_200_000 });
    expect(nextBatch(outbox, 'shop', 9)).toMatchObject({ throughSequence: 1_795_408_200_001 });
    expect(nextBatch(newOutbox(T0_US), 'shop', 9)).toBeUndefined();
  });

  it('of others are told apart', () => {
    const foreign = {
      specversion: '1.0',
      id: '1',
      source: '/other',
      type: 'Other.Thing',
      time: '2026-11-23T04:30:00Z',
    };
    const event = readCloudEvent(foreign);
    expect(event && [groupOf(event), eventOf(event)]).toEqual([undefined, undefined]);
    expect(readCloudEvent({ ...foreign, specversion: '0.3' })).toBeUndefined();
    expect(readCloudEvent({ ...foreign, time: '2026-11-23T04:30Z' })).toBeUndefined();
    expect(readCloudEvent('text')).toBeUndefined();
    expect(readCloudEvent(undefined)).toBeUndefined();
  });
});
