import assert from "node:assert/strict";
import sharp from "sharp";
import { resizeImage } from "novae/io/mod.ts";
import * as plot from "novae/plot/mod.ts";
import { float32 } from "novae/tensor/mod.ts";

Deno.test("a grid of images puts each image at its place and leaves the gaps transparent", () => {
  const images = float32([1, 0, 0, 0, 1, 0, 0, 0, 2], [3, 1, 1, 3]);
  const { width, height, data } = plot.gridOfImages(images, { columns: 2, gap: 1 });
  assert.deepEqual([width, height], [3, 3]);
  const pixels = Array.from({ length: 9 }, (_, p) => [...data.subarray(4 * p, 4 * p + 4)].join());
  const none = "0,0,0,0";
  assert.deepEqual(pixels, ["255,0,0,255", none, "0,255,0,255", none, none, none, "0,0,255,255", none, none]);
});

Deno.test("enlarging repeats each pixel in both directions", () => {
  const raster = plot.enlarge({ width: 2, height: 1, data: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) }, 2);
  assert.deepEqual([raster.width, raster.height], [4, 2]);
  const row = [1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8];
  assert.deepEqual([...raster.data], [...row, ...row]);
  assert.throws(() => plot.enlarge(raster, 1.5), RangeError);
});

Deno.test("a smoothly resized raster has the pixels of the exact resize and stays opaque", () => {
  const pixels = Array.from({ length: 12 }, (_, i) => (37 * i * i) % 256);
  const rgba = Uint8Array.from({ length: 16 }, (_, i) => i % 4 === 3 ? 255 : pixels[3 * (i >> 2) + i % 4]);
  const { width, height, data } = plot.smoothRaster({ width: 2, height: 2, data: rgba }, 7, 5);
  const wanted = resizeImage({ width: 2, height: 2, data: Uint8Array.from(pixels) }, 7, 5, "bicubic");
  assert.deepEqual([width, height], [7, 5]);
  assert.deepEqual(data.filter((_, i) => i % 4 !== 3), wanted.data);
  assert.ok(data.every((value, i) => i % 4 !== 3 || value === 255));
});

Deno.test("a scalar map goes from viridis's darkest to its lightest colour and skips what is not finite", () => {
  const { data } = plot.scalarMap([0, 5, 10, NaN], 2, 2);
  assert.deepEqual([...data.subarray(0, 4)], [68, 1, 84, 255]);
  assert.deepEqual([...data.subarray(8, 12)], [253, 231, 37, 255]);
  assert.equal(data[15], 0);
  // The middle of matplotlib's viridis is (33, 145, 140); eight anchors come within a few levels of it.
  [33, 145, 140].forEach((value, c) => assert.ok(Math.abs(data[4 + c] - value) <= 6));
});

Deno.test("maps of components stretch each one over the cells of all maps", () => {
  const data = Float64Array.of(0, 10, -1, 9, 1, 20, -2, 9);
  const maps = plot.componentMaps({ data, rows: 2, cols: 4 }, 1, 1);
  assert.deepEqual(maps.map((map) => [...map.data]), [[0, 0, 255, 255], [255, 255, 0, 255]]);
  assert.deepEqual([...plot.componentMaps({ data, rows: 2, cols: 4 }, 1, 2)[0].data], [
    0,
    0,
    255,
    255,
    255,
    255,
    0,
    255,
  ]);
  assert.throws(
    () => plot.componentMaps({ data, rows: 2, cols: 4 }, 1, 3),
    /multiple of 3 rows and 3 columns/,
  );
});

Deno.test("a map of labels uses the class colours", () => {
  const { data } = plot.labelMap([0, 1], 1, 2);
  assert.deepEqual([...data.subarray(0, 3)], [0x3f, 0x90, 0xda]);
  assert.deepEqual([...data.subarray(4, 7)], [0xff, 0xa9, 0x0e]);
});

Deno.test("an overlay mixes two pictures of one size", () => {
  const one = { width: 1, height: 1, data: Uint8Array.of(0, 100, 200, 255) };
  const two = { width: 1, height: 1, data: Uint8Array.of(100, 100, 0, 255) };
  assert.deepEqual([...plot.overlay(one, two, 0.25).data], [25, 100, 150, 255]);
  assert.throws(
    () => plot.overlay(one, { width: 2, height: 1, data: new Uint8Array(8) }, 0.5),
    /both must be 1 × 1/,
  );
});

Deno.test("an encoded raster decodes to the same pixels", async () => {
  const raster = {
    width: 3,
    height: 2,
    data: Uint8Array.from({ length: 24 }, (_, i) => i % 4 === 3 ? 255 : 10 * i),
  };
  const { data, info } = await sharp(await plot.encodeRaster(raster)).ensureAlpha().raw()
    .toBuffer({ resolveWithObject: true });
  assert.deepEqual([info.width, info.height], [3, 2]);
  assert.deepEqual(new Uint8Array(data), raster.data);
});

Deno.test("images of unequal size or shape are refused", () => {
  const small = { width: 1, height: 1, data: new Uint8Array(4) };
  const wide = { width: 2, height: 1, data: new Uint8Array(8) };
  assert.throws(() => plot.gridOfRasters([small, wide]), /all must be 1 × 1, got 2 × 1/);
  assert.throws(() => plot.gridOfRasters([]), RangeError);
  assert.throws(() => plot.gridOfImages(float32([1, 2], [1, 1, 2, 1])), TypeError);
});
