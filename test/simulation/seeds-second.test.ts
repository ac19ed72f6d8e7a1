import { SEEDS_PER_FILE, simulateSeeds } from './many-seeds.ts';

simulateSeeds(SEEDS_PER_FILE + 1, SEEDS_PER_FILE);
