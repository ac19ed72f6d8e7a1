import { SEEDS_PER_FILE, simulateSeeds } from './many-seeds.ts';

simulateSeeds(1, SEEDS_PER_FILE);
