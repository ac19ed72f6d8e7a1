/** Which process a pid means: the number alone is used again after a while. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

/**
 * When the process `pid` started, as an opaque text that no later process with the same pid shares; undefined when there is no such
 * process, or only a zombie of it.
 */
export function processStart(pid: number): string | undefined {
  if (existsSync('/proc/self/stat')) return linuxStart(pid);
  try {
    const line = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8', stdio: 'pipe' });
    const [state = 'Z', ...start] = line.trim().split(/\s+/);
    return state.startsWith('Z') ? undefined : start.join(' ');
  } catch {
    return undefined;
  }
}

/** `/proc/PID/stat`: field 3 is the state, field 22 the start in clock ticks since boot (proc(5)). */
function linuxStart(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // Field 2, the command in parentheses, may hold blanks and parentheses itself.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

export interface ProcessIdentity {
  readonly pid: number;
  /** From {@link processStart}. */
  readonly start: string;
}

export const isAlive = ({ pid, start }: ProcessIdentity): boolean => processStart(pid) === start;
