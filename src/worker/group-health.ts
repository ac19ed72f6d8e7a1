/** Pure. How a group stands, from its progress and what waits in the cache. */
import type { Backlog } from '../drain/backlog.ts';
import { diskLabel } from '../model/names.ts';
import { assessHealth, type HealthReport } from '../monitoring/health.ts';
import type { Policy } from '../retention/policy.ts';
import { groupState } from './group-state.ts';
import type { DiskProgress, ProgressDocument } from './progress.ts';

export type DiskFacts = Pick<DiskProgress, 'machine' | 'disk' | 'state' | 'baseCompleteUs' | 'watermarkUs'>;

export interface GroupFacts {
  readonly progress: Pick<ProgressDocument, 'health' | 'newestPoint' | 'newestAppCutUs'>;
  readonly disks: readonly DiskFacts[];
  /** One per disk, in the order of `disks`. */
  readonly backlogs: readonly Backlog[];
  readonly policy: Policy;
  readonly nowUs: number;
}

export function judgeGroup({ progress, disks, backlogs, policy, nowUs }: GroupFacts): HealthReport {
  const watermarks = disks.map(({ watermarkUs }, index) => backlogs[index]?.watermarkUs ?? watermarkUs);
  const completes = disks.map(({ baseCompleteUs }) => baseCompleteUs);
  return assessHealth(
    {
      nowUs,
      watermarkUs: watermarks.some((time) => time === null) ? null : Math.min(...watermarks.map(Number)),
      newestCutUs: progress.newestPoint?.cutUs ?? null,
      newestAppCutUs: progress.newestAppCutUs,
      protectedSinceUs: completes.some((time) => time === null) ? null : Math.max(...completes.map(Number)),
      policy,
      backlogBytes: backlogs.reduce((sum, { bytes }) => sum + bytes, 0),
      state: groupState(disks),
      resyncDisks: disks.filter(({ state }) => state === 'resync-required').map(diskLabel),
    },
    progress.health,
  );
}
