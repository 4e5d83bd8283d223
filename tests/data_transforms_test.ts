import assert from "node:assert/strict";
import {
  changeColors,
  flipHorizontal,
  gaussianBlur,
  multiCrop,
  randomFlip,
  resizedCrop,
  sampleColorChange,
  sampleCropBox,
  solarize,
} from "novae/data/mod.ts";
import { float32, type HostTensor, Rng, rows } from "novae/tensor/mod.ts";

const randomImages = (seed: number, shape: number[]) =>
  float32(new Rng(seed).uniform(shape.reduce((product, n) => product * n)), shape);

function assertClose(got: ArrayLike<number>, wanted: ArrayLike<number>, tolerance = 1e-6): void {
  assert.equal(got.length, wanted.length);
  for (let i = 0; i < got.length; i++) {
    assert.ok(Math.abs(got[i] - wanted[i]) <= tolerance, `value ${i}: ${got[i]} ≠ ${wanted[i]}`);
  }
}

Deno.test("a crop of the whole image in its own size is the image", () => {
  const images = randomImages(1, [2, 9, 9, 3]);
  const crop = resizedCrop(images, 1, { left: 0, top: 0, width: 9, height: 9 }, 9);
  assert.deepEqual(crop.shape, [9, 9, 3]);
  assert.deepEqual(crop.data, images.data.slice(9 * 9 * 3));
});

Deno.test("resized crops equal PyTorch's antialiased bilinear interpolation", async () => {
  const golden = JSON.parse(await Deno.readTextFile("tests/golden/data_resized_crop.json"));
  const image = float32(golden.image, golden.shape);
  assert.equal(golden.cases.length, 5);
  for (const { box, size, data } of golden.cases) {
    assertClose(resizedCrop(image, 0, box, size).data, data, 2e-6);
    const flipped = resizedCrop(image, 0, box, size, true);
    const back = flipHorizontal(float32(flipped.data as Float32Array, [1, size, size, 3]), [1]);
    assertClose(back.data, data, 2e-6);
  }
});

Deno.test("a crop outside the image is refused", () => {
  const images = randomImages(1, [1, 8, 8, 3]);
  assert.throws(
    () => resizedCrop(images, 0, { left: 4, top: 0, width: 5, height: 5 }, 4),
    /5 × 5 at \(4, 0\)/,
  );
  assert.throws(() => resizedCrop(images, 1, { left: 0, top: 0, width: 5, height: 5 }, 4), RangeError);
});

Deno.test("crop boxes lie inside the image with area and ratio in range", () => {
  const rng = new Rng(3), areas: number[] = [];
  for (let n = 0; n < 2000; n++) {
    const { left, top, width, height } = sampleCropBox(rng, 64, 96, [0.1, 0.4]);
    assert.ok(left >= 0 && top >= 0 && left + width <= 96 && top + height <= 64);
    areas.push(width * height / (64 * 96));
    // Rounding to whole pixels moves area and ratio a little.
    assert.ok(areas[n] > 0.09 && areas[n] < 0.42 && width / height > 0.7 && width / height < 1.42);
  }
  const mean = areas.reduce((sum, a) => sum + a, 0) / areas.length;
  assert.ok(Math.abs(mean - 0.25) < 0.01, `areas are uniform: mean ${mean}`);
  assert.deepEqual(sampleCropBox(rng, 10, 100, [1, 1]), { left: 43, top: 0, width: 13, height: 10 });
});

Deno.test("flipping twice is the identity, once swaps left and right", () => {
  const images = randomImages(4, [3, 2, 5, 3]), flags = [1, 0, 1];
  const once = flipHorizontal(images, flags);
  assert.deepEqual(flipHorizontal(once, flags).data, images.data);
  assert.deepEqual(rows(once, 1, 2).data, rows(images, 1, 2).data);
  assert.deepEqual(once.data.slice(0, 3), images.data.slice(12, 15));
});

Deno.test("random flips repeat with the stream, take their share and keep each image's own draw", () => {
  const images = randomImages(5, [400, 1, 2, 3]);
  const a = randomFlip(images, new Rng(6)), b = randomFlip(rows(images, 0, 50), new Rng(6));
  assert.deepEqual(a.data.slice(0, b.data.length), b.data);
  const flipped =
    Array.from({ length: 400 }, (_, i) => a.data[6 * i] !== images.data[6 * i]).filter(Boolean).length;
  assert.ok(flipped > 150 && flipped < 250, `${flipped} of 400`);
  assert.deepEqual(randomFlip(images, new Rng(6), 0).data, images.data);
});

Deno.test("colour changes follow their closed forms", () => {
  const none = { brightness: 1, contrast: 1, saturation: 1, hue: 0 };
  const pixels = [0.2, 0.4, 0.1, 0.3, 0.05, 0.45];
  const gray = [0, 3].map((i) => 0.299 * pixels[i] + 0.587 * pixels[i + 1] + 0.114 * pixels[i + 2]);
  const mean = (gray[0] + gray[1]) / 2;
  const changed = (change: Partial<typeof none>) => {
    const copy = Float32Array.from(pixels);
    changeColors(copy, { ...none, ...change });
    return copy;
  };
  assertClose(changed({}), pixels);
  assertClose(changed({ brightness: 1.5 }), pixels.map((v) => 1.5 * v));
  assertClose(changed({ contrast: 0.3 }), pixels.map((v) => mean + 0.3 * (v - mean)));
  assertClose(changed({ brightness: 2, contrast: 0 }), pixels.map(() => 2 * mean));
  assertClose(changed({ saturation: 0 }), pixels.map((_, i) => gray[i < 3 ? 0 : 1]));
  assertClose(changed({ saturation: 0.4 }), pixels.map((v, i) => 0.4 * v + 0.6 * gray[i < 3 ? 0 : 1]));
  // A third of a turn makes red green, green blue and blue red.
  assertClose(changed({ hue: 1 / 3 }), [0.1, 0.2, 0.4, 0.45, 0.3, 0.05]);
  assert.ok(changed({ brightness: 9 }).every((v) => v <= 1));
});

Deno.test("drawn colour changes keep to their ranges and probabilities", () => {
  const jitter = {
    probability: 0.8,
    brightness: 0.4,
    contrast: 0.3,
    saturation: 0.2,
    hue: 0.1,
    grayscale: 0.2,
  };
  const rng = new Rng(8), changes = Array.from({ length: 4000 }, () => sampleColorChange(rng, jitter));
  for (const { brightness, contrast, saturation, hue } of changes) {
    assert.ok(Math.abs(brightness - 1) <= 0.4 && Math.abs(contrast - 1) <= 0.3 && Math.abs(hue) <= 0.1);
    assert.ok(saturation === 0 || Math.abs(saturation - 1) <= 0.2);
  }
  const share = (fits: (change: typeof changes[number]) => boolean) =>
    changes.filter(fits).length / changes.length;
  assert.ok(Math.abs(share((c) => c.brightness === 1 && c.hue === 0) - 0.2) < 0.03);
  assert.ok(Math.abs(share((c) => c.saturation === 0) - 0.2) < 0.03);
});

Deno.test("solarisation inverts what is at or above the threshold, and only that", () => {
  const pixels = Float32Array.of(0, 0.25, 0.5, 0.75, 1);
  solarize(pixels);
  assert.deepEqual([...pixels], [0, 0.25, 0.5, 0.25, 0]);
});

Deno.test("a blurred point is the Gaussian, and a constant stays constant", () => {
  const size = 15, sigma = 1.2, point = new Float32Array(size * size * 3);
  point[(7 * size + 7) * 3 + 1] = 1;
  gaussianBlur(point, size, size, sigma);
  const weights = Array.from({ length: 9 }, (_, k) => Math.exp(-((k - 4) ** 2) / (2 * sigma ** 2)));
  const sum = weights.reduce((a, b) => a + b);
  const wanted = Array.from({ length: size * size * 3 }, (_, i) => {
    const x = Math.floor(i / 3) % size - 3, y = Math.floor(i / (3 * size)) - 3;
    return i % 3 === 1 ? (weights[x] ?? 0) * (weights[y] ?? 0) / sum ** 2 : 0;
  });
  assertClose(point, wanted, 1e-7);
  const flat = new Float32Array(8 * 10 * 3).fill(0.3);
  gaussianBlur(flat, 8, 10, 0.9);
  assertClose(flat, new Float32Array(240).fill(0.3), 1e-6);
  // Beyond the edge the image goes on mirrored about its outermost pixel.
  const edge = new Float32Array(5 * 5 * 3);
  for (let y = 0; y < 5; y++) edge[(y * 5 + 1) * 3] = 1;
  gaussianBlur(edge, 5, 5, 0.3);
  const w = Math.exp(-1 / (2 * 0.09));
  assertClose([edge[0]], [2 * w / (1 + 2 * w)], 1e-6);
  assert.throws(() => gaussianBlur(flat, 8, 10, 3), RangeError);
});

const SIZES = { globalSize: 16, localSize: 8 };

Deno.test("multi-crop without any change gives the images themselves", () => {
  const images = randomImages(9, [3, 16, 16, 3]);
  const { globals, locals } = multiCrop(images, new Rng(1), {
    ...SIZES,
    localSize: 16,
    globalScale: [1, 1],
    localScale: [1, 1],
    flip: 0,
    jitter: { probability: 0, grayscale: 0 },
    blur: [0, 0, 0],
    solarize: 0,
  });
  assert.deepEqual([globals.length, locals.length], [2, 4]);
  for (const view of [...globals, ...locals]) assertClose(view.data, images.data, 1e-6);
});

Deno.test("views have their sizes, stay in the unit range, and differ from each other", () => {
  const images = randomImages(10, [4, 20, 24, 3]);
  const { globals, locals } = multiCrop(images, new Rng(2), { ...SIZES, globals: 3, locals: 5 });
  assert.deepEqual(globals.map((v) => v.shape.join()), Array(3).fill("4,16,16,3"));
  assert.deepEqual(locals.map((v) => v.shape.join()), Array(5).fill("4,8,8,3"));
  const all = [...globals, ...locals];
  assert.ok(all.every((view) => view.data.every((v) => v >= 0 && v <= 1)));
  assert.equal(new Set(all.map((view) => view.data.slice(0, 99).join())).size, 8);
});

Deno.test("a view depends on nothing but the stream, its number and its image's place", () => {
  const images = randomImages(11, [5, 16, 16, 3]);
  const two: HostTensor = rows(images, 0, 2);
  const all = multiCrop(images, new Rng(3).split("step", 8), SIZES);
  const few = multiCrop(two, new Rng(3).split("step", 8), { ...SIZES, globals: 1, locals: 2 });
  assert.deepEqual(few.globals[0].data, all.globals[0].data.slice(0, 2 * 16 * 16 * 3));
  assert.deepEqual(few.locals[1].data, all.locals[1].data.slice(0, 2 * 8 * 8 * 3));
  const other = multiCrop(two, new Rng(3).split("step", 9), SIZES);
  assert.notDeepEqual(other.globals[0].data, few.globals[0].data);
});

Deno.test("solarisation is for the later global views alone", () => {
  const images = float32(new Float32Array(6 * 6 * 3).fill(0.9), [1, 6, 6, 3]);
  const { globals, locals } = multiCrop(images, new Rng(4), {
    ...SIZES,
    jitter: { probability: 0, grayscale: 0 },
    solarize: 1,
  });
  assertClose([globals[0].data[0], globals[1].data[0], locals[0].data[0]], [0.9, 0.1, 0.9], 1e-6);
});
