import assert from "node:assert/strict";
import {
  expectShape,
  flattenTree,
  float32,
  gatherRows,
  isHostTensor,
  mapTree,
  Rng,
  rows,
  zeros,
} from "novae/tensor/mod.ts";

Deno.test("Philox4x32-10 gives the known answer for a zero key and counter", () => {
  // Random123's kat_vectors: philox4x32 10 rounds, counter 0, key 0.
  const rng = new Rng(0);
  const words = Array.from({ length: 4 }, () => rng.uint32());
  assert.deepEqual(words, [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
});

Deno.test("a split stream repeats and does not disturb its parent", () => {
  const a = new Rng(5), b = new Rng(5);
  a.split("x", 3).normal(10);
  assert.equal(a.uint32(), b.uint32());
  assert.deepEqual(new Rng(5).split("x", 3).normal(9), b.split("x", 3).normal(9));
  assert.notDeepEqual(b.split("x", 3).normal(9), b.split("x", 4).normal(9));
});

Deno.test("normal numbers have mean 0, variance 1 and kurtosis 3", () => {
  const n = 200_000, values = new Rng(11).normal(n);
  const moment = (k: number) => values.reduce((sum, v) => sum + v ** k, 0) / n;
  assert.ok(Math.abs(moment(1)) < 0.01 && Math.abs(moment(2) - 1) < 0.015 && Math.abs(moment(4) - 3) < 0.1);
});

Deno.test("a permutation holds each index once", () => {
  const order = new Rng(3).permutation(1000);
  assert.deepEqual([...order].sort((a, b) => a - b), Array.from({ length: 1000 }, (_, i) => i));
  assert.notDeepEqual([...order], [...order].sort((a, b) => a - b));
});

Deno.test("trees flatten to dotted paths and map back to the same form", () => {
  const tree = { a: [zeros([2]), { b: zeros([3]) }], c: zeros([]) };
  assert.deepEqual(flattenTree(tree, isHostTensor).map((l) => l.path), ["a.0", "a.1.b", "c"]);
  assert.deepEqual(mapTree(tree, isHostTensor, (v) => v), tree);
});

Deno.test("rows are views and gathered rows are copies", () => {
  const t = float32([1, 2, 3, 4, 5, 6], [3, 2]);
  assert.deepEqual([...rows(t, 1, 3).data], [3, 4, 5, 6]);
  assert.equal(rows(t, 1, 3).data.buffer, t.data.buffer);
  assert.deepEqual([...gatherRows(t, [2, 0]).data], [5, 6, 1, 2]);
});

Deno.test("a wrong shape is told with what was wanted and what came", () => {
  assert.throws(() => expectShape("Cannot decode latents", [2, 384], [null, 392]), {
    name: "TypeError",
    message: "Cannot decode latents: shape must be [any, 392], got [2, 384]",
  });
});
