/** The distortions of views against torchvision's formulas and Pillow, and the threads that make views. */
import assert from "node:assert/strict";
import {
  CropPool,
  type CropWork,
  gaussianBlur,
  jitterColors,
  makeCrops,
  makeGray,
  multiCrop,
  pillowBlur,
  sampleOrderedColorChange,
  solarize,
} from "novae/data/mod.ts";
import { ConfigError, float32, Rng } from "novae/tensor/mod.ts";

const read = async (name: string) => JSON.parse(await Deno.readTextFile(`tests/golden/${name}.json`));

/** The largest distance in grey levels. */
function levelsApart(got: ArrayLike<number>, wanted: readonly number[]): number {
  assert.equal(got.length, wanted.length);
  return Math.max(...wanted.map((level, i) => Math.abs(255 * got[i] - level)));
}

function assertClose(
  got: ArrayLike<number>,
  wanted: readonly number[],
  what: string,
  tolerance = 1e-6,
): void {
  assert.equal(got.length, wanted.length, what);
  wanted.forEach((v, i) =>
    assert.ok(Math.abs(got[i] - v) <= tolerance, `${what}[${i}]: ${got[i]}, wanted ${v}`)
  );
}

Deno.test("colour jitter equals torchvision's formulas in each of the 24 orders, and at large turns of hue", async () => {
  const { image, cases, gray } = await read("data_colors");
  assert.equal(cases.length, 30);
  for (const { order, change, data } of cases) {
    const pixels = Float32Array.from(image as number[]);
    jitterColors(pixels, { ...change, order });
    assertClose(pixels, data, `${order} ${JSON.stringify(change)}`, 2e-6);
  }
  const pixels = Float32Array.from(image as number[]);
  makeGray(pixels);
  assertClose(pixels, gray, "grey");
});

Deno.test("blur with nine pixels equals a convolution with reflected edges", async () => {
  const { large, blurs } = await read("data_colors");
  for (const { sigma, data } of blurs) {
    const pixels = Float32Array.from(large as number[]);
    gaussianBlur(pixels, 9, 12, sigma, 4);
    assertClose(pixels, data, `sigma ${sigma}`);
  }
});

Deno.test("Pillow's blur is met before its rounding to bytes", async () => {
  const { shape: [, height, width], pixels: bytes, blurs } = await read("data_pillow");
  for (const { sigma, data } of blurs) {
    const pixels = Float32Array.from(bytes as number[], (byte) => byte / 255);
    pillowBlur(pixels, height, width, sigma);
    assertClose(pixels, data, `sigma ${sigma}`);
  }
  assert.throws(() => pillowBlur(new Float32Array(27), 3, 3, 0), /sigma must be above 0, got 0/);
});

Deno.test("solarisation equals Pillow's at every byte", async () => {
  const { pixels: bytes, solarized } = await read("data_pillow");
  const pixels = Float32Array.from(bytes as number[], (byte) => byte / 255);
  solarize(pixels);
  assert.deepEqual(Array.from(pixels, (v) => Math.round(255 * v)), solarized);
  const edge = Float32Array.of(127 / 255, 128 / 255);
  solarize(edge);
  assert.deepEqual(Array.from(edge, (v) => Math.round(255 * v)), [127, 127]);
});

const PLAIN = {
  flip: 0,
  jitter: { probability: 0, grayscale: 0 },
  blur: [0, 0, 0],
  solarize: 0,
  locals: 0,
  globals: 1,
} as const;

Deno.test("a bicubic view of the whole image equals Pillow's resize but for its rounding", async () => {
  const { shape, pixels: bytes, crops } = await read("data_pillow");
  const [, height, width] = shape, image = float32((bytes as number[]).map((byte) => byte / 255), shape);
  const { box, size, data } = crops[0];
  assert.deepEqual([box.width, box.height], [width, height]);
  // The ratio of a view's box is its image's where nothing else fits.
  const { globals } = multiCrop(image, new Rng(0), {
    ...PLAIN,
    globalSize: size,
    localSize: size,
    globalScale: [1, 1],
  });
  const found = levelsApart(globals[0].data, data);
  assert.ok(found <= 1.01, `${found} levels`);
});

Deno.test("drawn orders of colour changes are all met, and grey comes at its probability", () => {
  const jitter = {
    probability: 1,
    brightness: 0.4,
    contrast: 0.4,
    saturation: 0.2,
    hue: 0.1,
    grayscale: 0.2,
  };
  const rng = new Rng(8), changes = Array.from({ length: 3000 }, () => sampleOrderedColorChange(rng, jitter));
  const orders = new Map<string, number>();
  for (const { order } of changes) orders.set(order.join(), (orders.get(order.join()) ?? 0) + 1);
  assert.equal(orders.size, 24);
  for (const [order, count] of orders) assert.ok(count > 80 && count < 170, `${order}: ${count} of 3000`);
  const gray = changes.filter((change) => change.gray).length / changes.length;
  assert.ok(Math.abs(gray - 0.2) < 0.03, `grey ${gray}`);
});

Deno.test("undistorted views are the base of the global ones", () => {
  const images = float32(new Rng(3).uniform(2 * 20 * 20 * 3), [2, 20, 20, 3]);
  const sizes = { globalSize: 8, localSize: 8, baseSize: 16 };
  const { globals, bases } = multiCrop(images, new Rng(1), { ...PLAIN, ...sizes, globals: 2 });
  assert.deepEqual(bases.map(({ shape }) => shape.join()), ["2,16,16,3", "2,16,16,3"]);
  const whole = { ...PLAIN, globalSize: 8, localSize: 8, globalScale: [1, 1] as const };
  for (const [v, base] of bases.entries()) {
    const { globals: [shrunk] } = multiCrop(base, new Rng(0), whole);
    assertClose(globals[v].data, Array.from(shrunk.data), `view ${v}`);
  }
  const distorted = multiCrop(images, new Rng(1), { ...PLAIN, ...sizes, globals: 2, jitter: {} });
  assert.deepEqual(distorted.bases, bases, "distortions leave the base as it is");
  assert.notDeepEqual(distorted.globals, globals);
});

function work(step: number): CropWork {
  const images = float32(new Rng(9).split(step).uniform(3 * 12 * 12 * 3), [3, 12, 12, 3]);
  return {
    images: [images],
    seed: 4,
    labels: ["crops", step],
    options: { globalSize: 8, localSize: 4, locals: 2 },
  };
}

Deno.test("crops do not depend on the number of workers or the step at which they begin", async () => {
  const wanted = Array.from({ length: 6 }, (_, step) => makeCrops(work(step)));
  assert.deepEqual(wanted[0].globals.shape, [6, 8, 8, 3]);
  assert.deepEqual(wanted[0].locals!.shape, [6, 4, 4, 3]);
  for (const [workers, start] of [[0, 0], [1, 0], [3, 0], [2, 4]]) {
    const pool = new CropPool({ work, steps: 6, workers });
    try {
      for (let step = start; step < 6; step++) assert.deepEqual(await pool.views(step), wanted[step]);
    } finally {
      pool.dispose();
    }
  }
});

Deno.test("workers make the crops of coming steps before they are asked for, and none beyond the last", async () => {
  const asked: number[] = [];
  const pool = new CropPool({ work: (step) => (asked.push(step), work(step)), steps: 4, workers: 2 });
  try {
    await pool.views(0);
    await pool.views(1);
    assert.deepEqual(asked.slice(0, 3), [0, 1, 2]);
    await pool.views(3);
    assert.deepEqual(Math.max(...asked), 3);
    assert.equal(new Set(asked).size, asked.length, "no step is made twice");
  } finally {
    pool.dispose();
  }
});

Deno.test("a worker that fails is told with its step, and a pool that is gone refuses", async () => {
  const broken = (step: number): CropWork => ({ ...work(step), options: { globalSize: -1, localSize: 4 } });
  const pool = new CropPool({ work: broken, steps: 2, workers: 1 });
  await assert.rejects(
    pool.views(0),
    /Cannot make crops of step 0: Cannot resize: sides must be whole and at least 1, got -1/,
  );
  pool.dispose();
  await assert.rejects(pool.views(1), /Cannot make crops/);
  assert.throws(
    () => new CropPool({ work, steps: 1, workers: 1.5 }),
    (e) => e instanceof ConfigError && /whole and at least 0, got 1.5/.test(e.message),
  );
});
