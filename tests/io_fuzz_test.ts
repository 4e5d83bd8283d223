import assert from "node:assert/strict";
import { EXCESS_BYTES, fuzz, SLOWEST_MS } from "./fuzz.ts";
import { FUZZ_TARGETS } from "./fuzz_targets.ts";

for (const target of FUZZ_TARGETS) {
  Deno.test(`${target.count} damaged inputs of ${target.name} are read or refused in one line, in bounded time and memory`, async () => {
    const { read, refused, slowestMs, excessBytes, reasons } = await fuzz(target);
    console.info(
      `${target.name}: ${read} read, ${refused} refused for ${reasons.size} reasons, slowest ${
        slowestMs.toFixed(0)
      } ms`,
    );
    assert.equal(read + refused, target.count);
    assert.ok(read > 0 && reasons.size >= 5, "the inputs reach the reader's checks and pass them");
    assert.ok(slowestMs < SLOWEST_MS, `${slowestMs} ms`);
    assert.ok(excessBytes < EXCESS_BYTES, `${excessBytes} bytes beyond ten times the input`);
  });
}

Deno.test("the readers of foreign files are tried on at least 100,000 inputs", () => {
  assert.ok(FUZZ_TARGETS.reduce((sum, { count }) => sum + count, 0) >= 100_000);
});
