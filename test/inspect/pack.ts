/** node pack.ts IMAGES-FOLDER FIXTURES-FOLDER: packs every `NAME.img` to `NAME.zst`. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pack } from './packed.ts';

/** Key material of containers and tables of NTFS do not shrink, and nothing looks at them. */
const KEPT_BYTES: Readonly<Record<string, (image: Buffer, offsetBytes: number) => boolean>> = {
  luks1: (_, at) => at < 4096,
  luks2: (_, at) => at < 32 * 1024,
  ntfs: (image, at) => at < 64 * 1024 || at >= image.length - 4096 || image.readInt32LE(at) === -1,
};

const [from = '', to = ''] = process.argv.slice(2);
for (const file of readdirSync(from)) {
  if (!file.endsWith('.img')) continue;
  const image = readFileSync(join(from, file));
  const keeps = KEPT_BYTES[file.replace('.img', '')];
  writeFileSync(
    join(to, file.replace('.img', '.zst')),
    pack(image, (at) => keeps?.(image, at) ?? true),
  );
}
