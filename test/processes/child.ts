/** `tidemark …` as processes that no test leaves behind. */
import { afterEach } from 'vitest';
import { killAll } from './tidemark-process.ts';

export { Child } from './tidemark-process.ts';

afterEach(killAll);
