/** What Event Grid calls a segment of a group. */
export const segmentSubject = (group: string, sequence = 1): string =>
  `/blobServices/default/containers/replication-logs/blobs/${group}/web/disk0/00000001/${String(sequence).padStart(12, '0')}.seg`;
