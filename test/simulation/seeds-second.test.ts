import { simulateSeeds } from './many-seeds.ts';

simulateSeeds(1001, 1000);
