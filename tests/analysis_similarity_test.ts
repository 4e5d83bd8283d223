import assert from "node:assert/strict";
import fc from "fast-check";
import { centerGroups, columnMeans, cosineSimilarities, matrixOf, rowOf } from "novae/analysis/mod.ts";
import { type Matrix, Rng } from "novae/tensor/mod.ts";

function normal(label: string, rows: number, cols: number): Matrix {
  return { data: new Rng(9).split(label).normal(rows * cols), rows, cols };
}

Deno.test("cosines equal those of known angles", () => {
  const a = matrixOf([[2, 0], [1, Math.sqrt(3)], [0, 0]]), b = matrixOf([[5, 0], [0, 0.1], [-3, 0]]);
  const { data, rows, cols } = cosineSimilarities(a, b);
  const wanted = [1, 0, -1, 0.5, Math.sqrt(3) / 2, -0.5, 0, 0, 0];
  assert.deepEqual([rows, cols], [3, 3]);
  wanted.forEach((cosine, i) => assert.ok(Math.abs(data[i] - cosine) < 1e-15, `${data[i]} at ${i}`));
});

Deno.test("cosines follow the definition, stay within ±1 and do not depend on lengths", () => {
  const a = normal("a", 7, 33), b = normal("b", 5, 33), { data } = cosineSimilarities(a, b);
  for (let i = 0; i < 7; i++) {
    for (let j = 0; j < 5; j++) {
      let inner = 0, left = 0, right = 0;
      rowOf(a, i).forEach((x, c) => {
        const y = rowOf(b, j)[c];
        inner += x * y;
        left += x * x;
        right += y * y;
      });
      assert.ok(Math.abs(data[i * 5 + j] - inner / Math.sqrt(left * right)) < 1e-14);
    }
  }
  const longer = { ...a, data: a.data.map((value) => 8 * value) };
  assert.deepEqual(cosineSimilarities(longer, b).data, data);
  const self = cosineSimilarities(a, a).data;
  for (let i = 0; i < 7; i++) assert.ok(self[8 * i] <= 1 && self[8 * i] > 1 - 1e-15);
  assert.throws(() => cosineSimilarities(a, normal("c", 2, 3)), TypeError);
});

Deno.test("groups lose their mean and nothing else", () => {
  const known = matrixOf([[1, 10], [3, 20], [-5, 0], [5, 1]]);
  assert.deepEqual([...centerGroups(known, 2).data], [-1, -5, 1, 5, -5, -0.5, 5, 0.5]);
  assert.deepEqual(centerGroups(known, 1).data, new Float64Array(8));
  fc.assert(fc.property(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 2, max: 6 }), (groups, size) => {
    const matrix = normal(`${groups}.${size}`, groups * size, 3), centred = centerGroups(matrix, size);
    for (let g = 0; g < groups; g++) {
      const part = (of: Matrix) => ({
        data: of.data.slice(3 * g * size, 3 * (g + 1) * size),
        rows: size,
        cols: 3,
      });
      assert.ok(columnMeans(part(centred)).every((mean) => Math.abs(mean) < 1e-15));
      const [before, after] = [part(matrix).data, part(centred).data];
      for (let i = 3; i < before.length; i++) {
        assert.ok(Math.abs(before[i] - before[i - 3] - (after[i] - after[i - 3])) < 1e-14);
      }
    }
  }));
});

Deno.test("without a size all rows are one group, and a size that does not fill them is refused", () => {
  const matrix = normal("all", 6, 4);
  assert.deepEqual(centerGroups(matrix).data, centerGroups(matrix, 6).data);
  assert.equal(centerGroups({ data: new Float64Array(0), rows: 0, cols: 4 }).rows, 0);
  for (const size of [4, 0, 1.5, -2]) {
    assert.throws(
      () => centerGroups(matrix, size),
      new RangeError(`Cannot centre groups: size must divide the 6 rows, got ${size}`),
    );
  }
});
