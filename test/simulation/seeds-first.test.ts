import { simulateSeeds } from './many-seeds.ts';

simulateSeeds(1, 1000);
