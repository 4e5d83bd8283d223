/**
 * Run by data_generated_images_test.ts: writes the images of a fixed plan, telling when it begins to make a part, and
 * goes on until it is done or killed.
 */
import { type ImagePlan, writeGeneratedImages } from "novae/data/mod.ts";
import { float32, type HostTensor } from "novae/tensor/mod.ts";

export const PLAN: ImagePlan = {
  config: { model: "abc", steps: 5 },
  labels: Array.from({ length: 50 }, (_, i) => i % 3),
  imagesPerPart: 8,
};

/** Images that depend on their numbers alone. */
export function imagesOf(first: number, last: number): HostTensor {
  const size = 6 * 4 * 3, count = last - first;
  const data = Float32Array.from({ length: count * size }, (_, i) => 0.5 + 0.6 * Math.sin(first * size + i));
  return float32(data, [count, 6, 4, 3]);
}

if (import.meta.main) {
  const [folder, pauseMs] = Deno.args;
  const made = await writeGeneratedImages(folder, PLAN, async (first, last) => {
    console.log(`begin ${first}`);
    await new Promise((resolve) => setTimeout(resolve, Number(pauseMs)));
    return imagesOf(first, last);
  }, { heartbeatSec: 0.2, staleSec: 5 });
  console.log(`made ${made}`);
}
