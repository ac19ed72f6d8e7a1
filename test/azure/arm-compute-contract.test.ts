import { computeContract } from '../contracts/compute.contract.ts';
import { useArm } from './arm-support.ts';

const arm = useArm();

computeContract('the ARM emulator', async () => {
  const world = arm();
  return {
    compute: world.compute(),
    putSource: (bytes) => world.putSource(bytes),
    changeSource: async (url, offsetBytes, bytes) => {
      await world.sourceAt(url).uploadPages(bytes, offsetBytes, bytes.length);
    },
    readDisk: (name) => world.readDisk(name),
  };
});
