/** Run by dino_extraction_memory_test.ts: extracts a folder and prints the most memory it ever had, in MB. */
import { openImageFolder } from "novae/data/mod.ts";
import { extractFeatures, loadEncoder } from "novae/dino/mod.ts";

const [encoder, images, out] = Deno.args;
await extractFeatures(out, {
  images: await openImageFolder(images),
  encoder: await loadEncoder(encoder),
  device: "cpu",
  dtype: "float32",
  size: 64,
  batchSize: 16,
  rowsPerShard: 64,
  workers: 2,
});
const [, kilobytes] = /VmHWM:\s+(\d+)/.exec(await Deno.readTextFile("/proc/self/status"))!;
console.log(Number(kilobytes) / 1000);
