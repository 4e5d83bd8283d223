/** Every recording kernel, eager against compiled. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { RECORDING_KERNELS } from "novae/engine/kernels/register.ts";
import { assertCompiles, eager } from "./engine_harness.ts";
import { families } from "./engine_kernel_cases.ts";
import { kernelTable, TABLE_FILE } from "./kernel_table.ts";

for (const [family, cases] of Object.entries(families)) {
  Deno.test(`compiled ${family} equal eager ones`, () => assertCompiles(cases));
}

Deno.test("the cases reach every recording kernel that tfjs knows", async () => {
  await tf.setBackend("cpu");
  // EluGrad is in engine_gradients_test.ts; LogSoftmax is only used by softmaxCrossEntropy.
  const reached = new Set<string>(["EluGrad", "LogSoftmax"]);
  for (const test of Object.values(families).flat()) {
    await tf.profile(async () => {
      await eager(test);
      return tf.scalar(0);
    }).then((profile) => profile.kernelNames.forEach((name) => reached.add(name)));
  }
  const missed = Object.keys(RECORDING_KERNELS).filter((name) =>
    !name.startsWith("Novae") && !reached.has(name)
  );
  assert.deepEqual(missed, []);
});

Deno.test("the table of kernels is the registry's (deno run -A tests/kernel_table.ts makes it)", async () => {
  assert.equal(await Deno.readTextFile(TABLE_FILE), kernelTable());
});
