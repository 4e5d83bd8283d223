/**
 * Runs a function whose intermediate value is larger than any address space, so that its allocation fails whatever
 * the machine promises; prints what came of it as JSON. Started by engine_failures_test.ts.
 */
import * as tf from "@tensorflow/tfjs";
import { jit, read } from "novae/engine/mod.ts";
import { float32 } from "novae/tensor/mod.ts";

/** In each direction: 1 PiB. */
const HUGE = 2 ** 24;

const grow = jit((state: { x: tf.Tensor }, rim: number) => {
  const wide = tf.pad(state.x, [[0, rim], [0, rim]], 1);
  return [{ x: tf.add(state.x, 1) }, tf.sum(wide)] as const;
}, { device: "cpu", donate: [0], name: "grow" });

const [state] = await grow({ x: float32([1, 2, 3, 4], [2, 2]) }, 1);
const rssBefore = Deno.memoryUsage().rss, start = performance.now();
let failure: Error | undefined;
try {
  await grow(state, HUGE);
} catch (error) {
  failure = error as Error;
}
const wallSec = (performance.now() - start) / 1000, grownBytes = Deno.memoryUsage().rss - rssBefore;
const stateAfter = [...(await state.x.read()).data];
const [next, sum] = await read(await grow(state, 2));
const donated = await state.x.read().then(() => "still there", (error: Error) => error.message);
await grow.dispose();
console.log(JSON.stringify({
  name: failure?.name,
  message: failure?.message,
  wallSec,
  grownBytes,
  stateAfter,
  next: [...next.x.data],
  nextSum: sum.data[0],
  donated,
}));
