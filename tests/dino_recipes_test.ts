/** Recipes as data, what they draw for each step, and the watch over a training. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { packDataset } from "novae/data/mod.ts";
import {
  checkRecipe,
  decaysInDino,
  DINO_RECIPES,
  dinoBatches,
  type DinoRecipe,
  dinoRecipe,
  dinoSchedules,
  drawCoordinateScales,
  drawPatchMasks,
  drawPaths,
  learningRateFactor,
  peakLearningRate,
  trainDino,
  vit,
  VIT_SIZES,
  type VitConfig,
  watchCollapse,
} from "novae/dino/mod.ts";
import {
  ConfigError,
  DivergenceError,
  flattenTree,
  type HostTensor,
  isHostTensor,
  Rng,
} from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const ROTARY = { patchSize: 16, ropeTheta: 100 };

Deno.test("every recipe passes its checks with the encoder it is meant for", () => {
  for (const { size, recipe } of Object.values(DINO_RECIPES)) {
    checkRecipe(recipe, VIT_SIZES[size], 14_000_000);
  }
  assert.throws(
    () => dinoRecipe("dino4"),
    (error) =>
      error instanceof ConfigError && /name must be one of small, dino, .* got dino4/.test(error.message),
  );
});

Deno.test("published recipes give the published schedules", () => {
  const at = (name: keyof typeof DINO_RECIPES, step: number) => {
    const values = dinoSchedules(DINO_RECIPES[name].recipe)(step);
    return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, value.data[0]]));
  };
  const near = (got: number, wanted: number) =>
    assert.ok(Math.abs(got - wanted) <= 1e-6 * Math.abs(wanted) + 1e-12, `${got}, wanted ${wanted}`);
  // DINO: 5e-4 · 1024 / 256 after 10 of 100 epochs, from 0; prototypes wait for one epoch.
  near(at("dino", 0).learningRate, 0);
  near(at("dino", 12_510).learningRate, 2e-3);
  near(at("dino", 125_099 / 2 + 0.5).weightDecay, 0.22);
  assert.deepEqual([at("dino", 1250).prototypeRate, at("dino", 1251).prototypeRate], [0, 1]);
  near(at("dino", 5).teacherTemperature, 0.04);
  // DINOv2: √(3072 / 1024) · 2e-4 after 80 of 500 epochs; the temperature rises for 30.
  near(peakLearningRate(DINO_RECIPES.dinov2.recipe), 2e-4 * Math.sqrt(3));
  near(at("dinov2", 100_000).learningRate, 2e-4 * Math.sqrt(3));
  near(at("dinov2", 37_499).teacherTemperature, 0.07);
  near(at("dinov2", 0).momentum, 0.994);
  // DINOv3: constant after 100 of 1000 epochs, 4 · √(4096 / 1024) · 5e-5.
  near(at("dinov3", 100_000).learningRate, 4e-4);
  near(at("dinov3", 999_999).learningRate, 4e-4);
  near(at("dinov3", 999_999).momentum, 0.994);
  // The Gram stage: weights change over the first epoch, the anchor three times.
  near(at("dinov3-gram", 0).gramWeight, 0);
  near(at("dinov3-gram", 999).gramWeight, 2);
  near(at("dinov3-gram", 5000).localWeight, 0.5);
  const refreshed = [9_998, 9_999, 10_000, 19_999, 29_999, 39_999].map((step) =>
    at("dinov3-gram", step).gramRefresh
  );
  assert.deepEqual(refreshed, [0, 1, 0, 1, 1, 0]);
});

Deno.test("a recipe's setting that does not fit is told by name", () => {
  const { recipe } = DINO_RECIPES["dinov3-gram-mini"], gram = recipe.gram!;
  const cases: [Partial<DinoRecipe>, RegExp][] = [
    [{ assignment: "softmax" as "sinkhorn" }, /assignment must be one of sinkhorn, centering, got softmax/],
    [
      { head: { ...recipe.head, lastLayer: "x" as "unit" } },
      /head\.lastLayer must be one of unit, gain, free, got x/,
    ],
    [
      { patchHead: { ...recipe.head, prototypes: 0 } },
      /patchHead\.prototypes must be a whole number of at least 1/,
    ],
    [{ dropPath: { rate: 1, blocks: "equal", draw: "share" } }, /dropPath\.rate must be in \[0, 1\), got 1/],
    [{ gram: { ...gram, cropSize: 100 } }, /gram\.cropSize must be a multiple of 16, got 100/],
    [{ gram: { ...gram, refreshSteps: [0, 5] } }, /gram\.refreshSteps must be two whole numbers/],
    [
      { patchHead: { ...recipe.head, batchNorm: true } },
      /patchHead\.batchNorm must be false with masks of blocks/,
    ],
    [{ momentum: [1.2, 1] }, /momentum\.0 must be in \[0, 1\], got 1\.2/],
    [{ localSize: 0 }, /localSize must be a multiple of 16, got 0/],
    [{ clipNorm: 0 }, /clipNorm must be above 0, got 0/],
  ];
  for (const [change, message] of cases) {
    assert.throws(
      () => checkRecipe({ ...recipe, ...change }, ROTARY, 1000),
      (error) => error instanceof ConfigError && message.test(error.message),
      String(message),
    );
  }
  const learned = { patchSize: 16 };
  assert.throws(
    () => checkRecipe(recipe, learned, 1000),
    /coordinateScale must be 1 without rotary positions, got 2/,
  );
});

Deno.test("masks of blocks mask the wanted share of half the crops, in rectangles, and weigh each crop alike", () => {
  const batch = 16,
    grid = 14,
    masks = { kind: "blocks", probability: 0.5, ratio: [0.1, 0.5], drawn: true } as const;
  const counts: number[] = [];
  for (let step = 0; step < 20; step++) {
    const { maskBN, maskedRows, maskedWeights } = drawPatchMasks(new Rng(step), masks, batch, grid);
    assert.deepEqual(maskBN.shape, [32, 196]);
    // The shape does not depend on the draws: what the 16 shares allow at most.
    const most = Array.from({ length: 16 }, (_, i) => Math.floor(196 * (0.1 + 0.4 * (i + 1) / 16)));
    assert.deepEqual(maskedRows.shape, [most.reduce((a, b) => a + b)]);
    const perCrop = Array.from(
      { length: 32 },
      (_, b) => maskBN.data.slice(b * 196, (b + 1) * 196).filter(Boolean).length,
    );
    const masked = perCrop.filter((count) => count > 0);
    assert.equal(masked.length, 16);
    assert.ok(Math.max(...masked) <= 98);
    counts.push(...masked);
    const present = Array.from(maskedWeights.data).filter((weight) => weight > 0);
    assert.equal(present.length, masked.reduce((a, b) => a + b));
    assert.ok(Math.abs(present.reduce((a, b) => a + b) - 16 / 32) < 1e-5);
    maskedRows.data.forEach((row, m) => assert.ok(maskedWeights.data[m] === 0 || maskBN.data[row] === 1));
  }
  const mean = counts.reduce((a, b) => a + b) / counts.length;
  assert.ok(mean > 45 && mean < 60, `mean of ${mean} masked patches, wanted a little below 0.3 · 196`);
  // Without draws the largest share is met but for rectangles that find no place.
  const { maskBN } = drawPatchMasks(new Rng(1), { ...masks, drawn: false }, batch, grid);
  const total = maskBN.data.filter(Boolean).length;
  assert.ok(total > 0.95 * 1020 && total <= 1020 + 16, `${total} masked`);
});

Deno.test("dropped paths keep the mean: by image at each block's rate, or a fixed share of the batch", () => {
  const rows = ({ data }: HostTensor, count: number, i: number) =>
    Array.from(data.slice(i * count, (i + 1) * count));
  const rising = drawPaths(new Rng(1), { rate: 0.4, blocks: "rising", draw: "images" }, 5, 4000);
  assert.deepEqual(rising.shape, [5, 2, 4000]);
  for (let i = 0; i < 10; i++) {
    const rate = 0.4 * Math.floor(i / 2) / 4, row = rows(rising, 4000, i);
    const dropped = row.filter((factor) => factor === 0).length / 4000;
    assert.ok(Math.abs(dropped - rate) < 0.03, `block ${i}: ${dropped}`);
    assert.ok(row.every((factor) => factor === 0 || Math.abs(factor - 1 / (1 - rate)) < 1e-6));
  }
  const share = drawPaths(new Rng(1), { rate: 0.3, blocks: "equal", draw: "share" }, 2, 10);
  for (let i = 0; i < 4; i++) {
    assert.deepEqual(rows(share, 10, i).sort(), [0, 0, 0, ...Array(7).fill(Math.fround(10 / 7))]);
  }
  assert.notDeepEqual(rows(share, 10, 0), rows(share, 10, 1));
  const scales = drawCoordinateScales(new Rng(2), 2, 1000).data;
  assert.ok(scales.every((scale) => scale >= 0.5 && scale <= 2));
  const below = scales.filter((scale) => scale < 1).length;
  assert.ok(below > 430 && below < 570, `${below} of 1000 below 1`);
});

Deno.test("a dropped path leaves an image as it is, and scaled coordinates move patches alone", () => {
  const config = VIT_SIZES.tiny, batch = dinoBatches(noise(), config, tinyRecipe("dinov3-mini"), 0)(0);
  const state = { vit: mapVit(config) }, images = tf.tensor(batch.globals.data, [...batch.globals.shape]);
  const first = tf.slice(images, 0, 2), taps = ["embed", "block01"];
  const dropped = vit(first, state.vit, config, {
    paths: tf.tensor([0, 1, 0, 1, 0, 1, 0, 1], [2, 2, 2]),
    taps,
  });
  const whole = vit(first, state.vit, config, { taps });
  const image = (x: tf.Tensor, b: number) => tf.slice(x, b, 1).dataSync();
  assert.deepEqual(image(dropped.taps.block01, 0), image(dropped.taps.embed, 0));
  assert.deepEqual(image(dropped.taps.block01, 1), image(whole.taps.block01, 1));
  const same = vit(first, state.vit, config, { coordinateScales: tf.ones([2]) });
  const gap = tf.max(tf.abs(tf.sub(same.patchesBND, whole.patchesBND))).dataSync()[0];
  assert.ok(gap < 1e-4, `scale 1: ${gap}`);
  const moved = vit(first, state.vit, config, { coordinateScales: tf.tensor1d([2, 0.5]) });
  assert.notDeepEqual(moved.patchesBND.dataSync(), whole.patchesBND.dataSync());
});

Deno.test("learning rates fall from block to block, and biases, normalisations and LayerScale do not decay", () => {
  const factor = (path: string) => learningRateFactor(path, 12, { layerDecay: 0.9, patchEmbedRate: 0.2 });
  assert.equal(factor("vit.patchEmbed.weight"), 0.9 ** 13 * 0.2);
  assert.equal(factor("vit.registers"), 0.9 ** 13);
  assert.equal(factor("vit.blocks.0.mlp.fc1.weight"), 0.9 ** 12);
  assert.equal(factor("vit.blocks.11.norm1.bias"), 0.9);
  for (const path of ["vit.norm.weight", "head.fc1.weight", "patchHead.prototypes", "localNorm.bias"]) {
    assert.equal(factor(path), 1, path);
  }
  const decays = (path: string, rank = 2) => decaysInDino(path, tf.zeros(Array(rank).fill(1)), "weights");
  for (const path of ["vit.clsToken", "vit.positions", "head.prototypes", "vit.blocks.1.attention.qkv"]) {
    assert.ok(decays(path), path);
  }
  assert.ok(decays("head.gains", 1));
  const free = ["attention.queryBias", "norm1.weight", "norm2.bias", "layerScale1", "mlp.fc1.bias"];
  for (const path of [...free.map((name) => `vit.blocks.1.${name}`), "vit.norm.weight", "localNorm.weight"]) {
    assert.ok(!decays(path, 1), path);
  }
});

Deno.test("a collapse is told once, with its reason, after as many steps in a row as the patience", () => {
  const healthy = { featureSpread: 0.9, usageEntropy: 3, teacherEntropy: 2 };
  const watch = watchCollapse(512, 64, { patience: 3 });
  const alike = { ...healthy, featureSpread: 0.001 };
  assert.deepEqual([alike, alike, healthy, alike, alike].map(watch), [null, null, null, null, null]);
  assert.match(watch(alike)!, /features are all alike: their spread is 0\.00100, below 0\.02, for 3 steps/);
  assert.equal(watch(alike), null);
  const once = (signs: Partial<typeof healthy>) =>
    watchCollapse(512, 64, { patience: 1 })({ ...healthy, ...signs });
  assert.match(once({ usageEntropy: 0.1 })!, /all crops go to a few prototypes/);
  assert.match(once({ teacherEntropy: Math.log(512) })!, /the teacher tells no prototypes apart/);
  assert.equal(once({}), null);
  assert.throws(
    () => watchCollapse(512, 64, { patience: 0 }),
    /patience must be a whole number of at least 1, got 0/,
  );
});

// ---- trainings of a tiny network

function noise(size = 12) {
  const pixels = Uint8Array.from(new Rng(9).uniform(size * 16 * 16 * 3), (u) => u * 255);
  const labels = Uint8Array.from({ length: size }, (_, i) => i % 2);
  return packDataset({ name: "noise", classes: ["a", "b"], imageSize: 16, pixels, labels });
}

function tinyRecipe(name: keyof typeof DINO_RECIPES): DinoRecipe {
  const { recipe } = DINO_RECIPES[name], sizes = { hidden: 16, bottleneck: 8, prototypes: 24 };
  return {
    ...recipe,
    batchSize: 4,
    steps: 6,
    globalSize: 16,
    localSize: 8,
    head: { ...recipe.head, ...sizes },
    patchHead: recipe.patchHead && { ...recipe.patchHead, ...sizes },
    gram: recipe.gram && { ...recipe.gram, cropSize: 32, refreshSteps: [2, 2] },
  };
}

function mapVit(config: VitConfig) {
  const rng = new Rng(3);
  const draw = (shape: readonly number[]) =>
    tf.tensor(rng.normal(shape.reduce((a, b) => a * b, 1)).map((v) => 0.3 * v), [...shape]);
  const linear = (i: number, o: number) => ({ weight: draw([i, o]), bias: draw([o]) });
  const { width: d, patchSize } = config, norm = () => ({ weight: tf.ones([d]), bias: tf.zeros([d]) });
  return {
    patchEmbed: linear(patchSize * patchSize * 3, d),
    clsToken: draw([1, d]),
    maskToken: draw([1, d]),
    registers: draw([config.registers, d]),
    blocks: Array.from({ length: config.depth }, () => ({
      norm1: norm(),
      attention: { qkv: draw([d, 3 * d]), queryBias: draw([d]), valueBias: draw([d]), proj: linear(d, d) },
      layerScale1: tf.ones([d]),
      norm2: norm(),
      mlp: { fc1: linear(d, 2 * d), fc2: linear(2 * d, d) },
      layerScale2: tf.ones([d]),
    })),
    norm: norm(),
  };
}

for (const name of ["dino-mini", "dinov2-mini", "dinov3-gram-mini"] as const) {
  Deno.test(`a tiny training by ${name} resumes bit for bit, with workers or without`, async () => {
    const options = {
      dataset: noise(),
      vit: VIT_SIZES.tiny,
      recipe: tinyRecipe(name),
      seed: 5,
      device: "cpu" as const,
    };
    let half: Parameters<typeof trainDino>[0]["state"];
    const whole = await trainDino({
      ...options,
      workers: 0,
      checkpointEverySteps: 3,
      onCheckpoint: (state, step) => void (step === 3 && (half = structuredClone(state))),
    });
    const resumed = await trainDino({ ...options, workers: 2, state: half });
    const leaves = (tree: unknown) => flattenTree<HostTensor>(tree, isHostTensor);
    const wanted = new Map(leaves(whole.state).map(({ path, value }) => [path, value.data]));
    for (const { path, value } of leaves(resumed.state)) assert.deepEqual(value.data, wanted.get(path), path);
    if (name === "dinov3-gram-mini") {
      // Refreshed after the sixth step, the anchor is the last teacher.
      assert.deepEqual(leaves(whole.state.gram), leaves(whole.state.teacher.vit));
    }
  });
}

Deno.test("a training that has collapsed says so, and stops if it is to", async () => {
  const recipe = { ...tinyRecipe("dino-mini"), warmupShare: 0, freezeShare: 0 };
  const options = {
    dataset: noise(),
    vit: VIT_SIZES.tiny,
    recipe,
    seed: 5,
    device: "cpu" as const,
    workers: 0,
  };
  // No feature can be as far from its neighbours as this asks.
  const collapse = { featureSpread: 2, patience: 2 }, told: [string, number][] = [];
  const onCollapse = (reason: string, step: number) => void told.push([reason, step]);
  await trainDino({ ...options, collapse, onCollapse });
  assert.equal(told.length, 1);
  assert.equal(told[0][1], 2);
  assert.match(told[0][0], /features are all alike/);
  await assert.rejects(
    trainDino({ ...options, collapse, stopOnCollapse: true }),
    (error) =>
      error instanceof DivergenceError && /stopped at step 2: features are all alike/.test(error.message),
  );
});
