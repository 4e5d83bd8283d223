/** A tiny encoder and a folder of images for the tests of extraction. */
import sharp from "sharp";
import { initVit, saveEncoder, VIT_SIZES, type VitConfig } from "novae/dino/mod.ts";
import { hashFile } from "novae/io/mod.ts";
import { Rng } from "novae/tensor/mod.ts";

/** Settings of the encoder. */
export const CONFIG: VitConfig = VIT_SIZES.tiny;

/** Writes the encoder. */
export async function writeEncoder(path: string, seed = 1): Promise<void> {
  await saveEncoder(path, CONFIG, initVit(new Rng(seed), CONFIG));
}

/** Writes `count` images of different sizes, in three classes, as `class/00000.png` and so on. */
export async function writeImages(folder: string, count: number): Promise<void> {
  const rng = new Rng(count), classes = ["ant", "bee", "cat"];
  for (const name of classes) await Deno.mkdir(`${folder}/${name}`, { recursive: true });
  for (let i = 0; i < count; i++) {
    const width = 16 + rng.int(10), height = 16 + rng.int(10);
    const data = Uint8Array.from({ length: width * height * 3 }, () => rng.int(256));
    const image = sharp(data, { raw: { width, height, channels: 3 } }).png({ compressionLevel: 0 });
    const class_ = classes[Math.floor(i * classes.length / count)];
    await Deno.writeFile(`${folder}/${class_}/${String(i).padStart(5, "0")}.png`, await image.toBuffer());
  }
}

/** SHA-256 of the files of a folder by name. */
export async function hashes(folder: string): Promise<Record<string, string>> {
  const names = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
  const all = names.map(async (name) => [name, await hashFile(`${folder}/${name}`)]);
  return Object.fromEntries(await Promise.all(all));
}

/** A folder that is removed afterwards. */
export async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
