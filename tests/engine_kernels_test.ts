/** Every recording kernel, eager against compiled. */
import assert from "node:assert/strict";
import { RECORDING_KERNELS } from "novae/engine/kernels/register.ts";
import { families, kernelsOf } from "./engine_cases/mod.ts";
import { assertCompiles } from "./engine_harness.ts";
import { kernelTable, TABLE_FILE } from "./kernel_table.ts";

for (const [family, cases] of Object.entries(families)) {
  Deno.test(`compiled ${family} equal eager ones`, () => assertCompiles(cases));
}

Deno.test("the cases reach every recording kernel", () => {
  const reached = new Set(Object.values(families).flat().flatMap((test) => [...kernelsOf(test)]));
  assert.deepEqual(Object.keys(RECORDING_KERNELS).filter((name) => !reached.has(name)), []);
});

Deno.test("the table of kernels is the registry's (deno run -A tests/kernel_table.ts makes it)", async () => {
  assert.equal(await Deno.readTextFile(TABLE_FILE), kernelTable());
});
