import assert from "node:assert/strict";
import fc from "fast-check";
import { batchIndices, packDataset, renderContactSheet } from "novae/data/mod.ts";
import { loadSolids } from "novae/data/mod.ts";

Deno.test("batches hold each image exactly once an epoch, whatever their size", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60 }),
      fc.integer({ min: 1, max: 90 }),
      fc.nat(1000),
      (size, batch, seed) => {
        const epochs = 3, steps = Math.ceil(epochs * size / batch);
        const stream = Array.from({ length: steps }, (_, step) => [...batchIndices(seed, step, batch, size)])
          .flat();
        for (let e = 0; e < epochs; e++) {
          const epoch = stream.slice(e * size, (e + 1) * size);
          assert.deepEqual(epoch.sort((a, b) => a - b), Array.from({ length: size }, (_, i) => i));
        }
      },
    ),
    { numRuns: 60, seed: 1 },
  );
});

Deno.test("a batch is a function of the step, so that a training resumes anywhere", () => {
  const forward = Array.from({ length: 40 }, (_, step) => batchIndices(7, step, 16, 100));
  for (let step = 39; step >= 0; step--) assert.deepEqual(batchIndices(7, step, 16, 100), forward[step]);
  assert.notDeepEqual(batchIndices(8, 0, 16, 100), forward[0]);
  const [first, second] = [0, 1].map((epoch) => [...batchIndices(7, epoch, 100, 100)]);
  assert.notDeepEqual(first, second);
});

Deno.test("a batch that cannot be chosen is refused", () => {
  for (const [seed, step, batch, size] of [[0, -1, 4, 10], [0, 0, 0, 10], [0, 0, 4, 0], [0.5, 0, 4, 10]]) {
    assert.throws(() => batchIndices(seed, step, batch, size), RangeError);
  }
});

Deno.test("a contact sheet of solids has rows of images, masks and depths, one class a column", async () => {
  const dataset = await loadSolids({ split: "train", count: 60, imageSize: 16, cacheDir: null });
  const sheet = renderContactSheet({ dataset, count: 15, seed: 3, scale: 2 });
  // Two blocks of three rows of ten, 32 pixels each with gaps of 2; the second block is half empty.
  assert.deepEqual([sheet.width, sheet.height], [10 * 34 - 2, 6 * 34 - 2]);
  assert.equal(sheet.data.length, sheet.width * sheet.height * 3);
  const at = (column: number, row: number, x: number, y: number) => {
    const start = ((row * 34 + y) * sheet.width + column * 34 + x) * 3;
    return [...sheet.data.subarray(start, start + 3)];
  };
  assert.deepEqual(at(9, 3, 5, 5), [255, 255, 255]);
  const images = Array.from(
    { length: 60 },
    (_, i) => Array.from(dataset.images([i]).data, (v) => Math.round(v * 255)),
  );
  for (let column = 0; column < 10; column++) {
    const found = images.findIndex((pixels) =>
      Array.from({ length: 16 }, (_, k) => k).every((k) =>
        at(column, 0, 2 * k, 2 * k).every((byte, c) => byte === pixels[(17 * k) * 3 + c])
      )
    );
    assert.equal(found % 10, column);
    const mask = dataset.masks([found]).data;
    const colors = new Map([[0, "76,120,168"], [1, "186,176,172"], [2, "245,133,24"]]);
    for (let k = 0; k < 16; k++) assert.equal(at(column, 1, 2 * k, 2 * k).join(), colors.get(mask[17 * k]));
  }
  assert.deepEqual(renderContactSheet({ dataset, count: 15, seed: 3, scale: 2 }).data, sheet.data);
  assert.notDeepEqual(renderContactSheet({ dataset, count: 15, seed: 4, scale: 2 }).data, sheet.data);
});

Deno.test("a contact sheet of plain images shows each chosen image once", () => {
  const pixels = Uint8Array.from({ length: 7 * 8 * 8 * 3 }, (_, i) => 30 * Math.floor(i / 192));
  const dataset = packDataset({
    name: "greys",
    classes: ["a", "b"],
    imageSize: 8,
    pixels,
    labels: Uint8Array.of(0, 0, 0, 0, 0, 0, 1),
  });
  const sheet = renderContactSheet({ dataset, count: 50, scale: 1 });
  assert.deepEqual([sheet.width, sheet.height], [7 * 8 + 6 * 2, 8]);
  const shown = Array.from({ length: 7 }, (_, i) => sheet.data[i * 10 * 3]);
  assert.deepEqual(shown.sort((a, b) => a - b), [0, 30, 60, 90, 120, 150, 180]);
  assert.throws(() => renderContactSheet({ dataset, count: 0 }), RangeError);
});

Deno.test("a packed data set gives bytes as fractions, refuses bad indices, and is known by its content", () => {
  const pixels = Uint8Array.from({ length: 2 * 2 * 2 * 3 }, (_, i) => i * 10);
  const content = { name: "x", classes: ["a", "b"], imageSize: 2, pixels, labels: Uint8Array.of(0, 1) };
  const dataset = packDataset(content);
  assert.deepEqual(dataset.images([1]).data, Float32Array.from(pixels.subarray(12), (byte) => byte / 255));
  assert.deepEqual([...dataset.labels([1, 0, 1])], [1, 0, 1]);
  assert.throws(() => dataset.images([2]), /index must be in 0 … 1, got 2/);
  assert.throws(() => packDataset({ ...content, labels: Uint8Array.of(0) }), TypeError);
  const changed = [
    packDataset({ ...content, pixels: pixels.with(3, 1) }),
    packDataset({ ...content, labels: Uint8Array.of(1, 1) }),
    packDataset({ ...content, classes: ["a", "c"] }),
  ];
  assert.equal(new Set([dataset, ...changed].map((set) => set.hash)).size, 4);
  assert.equal(packDataset({ ...content, name: "y" }).hash, dataset.hash);
});
