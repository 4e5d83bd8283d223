import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { type Dataset, packDataset } from "novae/data/mod.ts";
import { jit, read } from "novae/engine/mod.ts";
import {
  augmentImages,
  classifier,
  CLASSIFIER_WIDTHS,
  type ClassifierBatch,
  classifierBatches,
  classifierConfig,
  type ClassifierParams,
  type ClassifierState,
  classifierStep,
  countClassifierParams,
  FeatureClassifier,
  hashClassifier,
  initClassifier,
  initClassifierState,
  loadClassifier,
  roundClassifier,
  saveClassifier,
  trainFeatureClassifier,
} from "novae/evaluation/mod.ts";
import { readSafetensors, writeSafetensors } from "novae/io/mod.ts";
import { float32, type HostTensor, Rng, rows } from "novae/tensor/mod.ts";

const CONFIG = classifierConfig({
  imageSize: 16,
  classes: ["rows", "columns", "blob"],
  widths: CLASSIFIER_WIDTHS.tiny,
});
const RECORD = { accuracy: 0.5, heldOut: 4, imagesSeen: 8, dataset: "patterns", datasetHash: "abc", seed: 0 };

/** Stripes along rows, stripes along columns, and a bright blob, each of random phase, place and colour. */
function patterns(label: string, size: number): Dataset {
  const edge = 16, pixels = new Uint8Array(size * edge * edge * 3), labels = new Uint8Array(size);
  for (let i = 0; i < size; i++) {
    const rng = new Rng(3).split(label, i), kind = labels[i] = i % 3, phase = rng.range(0, 6);
    const cx = rng.range(4, 12), cy = rng.range(4, 12), gains = [0, 1, 2].map(() => rng.range(0.5, 1));
    for (let p = 0; p < edge * edge; p++) {
      const y = Math.floor(p / edge), x = p % edge;
      const blob = Math.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8);
      const value = kind === 2 ? blob : 0.5 + 0.5 * Math.sin((kind === 0 ? y : x) * 1.2 + phase);
      for (let c = 0; c < 3; c++) pixels[(i * edge * edge + p) * 3 + c] = 255 * value * gains[c];
    }
  }
  return packDataset({
    name: `patterns/${label}`,
    classes: [...CONFIG.classes],
    imageSize: edge,
    pixels,
    labels,
  });
}

const train = patterns("train", 300), test = patterns("test", 90);
const OPTIONS = { train, test, widths: CONFIG.widths, batchSize: 20, device: "cpu", images: 1200 } as const;

function assertClose(actual: HostTensor, expected: HostTensor, tolerance: number): void {
  assert.deepEqual(actual.shape, expected.shape);
  for (let i = 0; i < expected.data.length; i++) {
    assert.ok(
      Math.abs(actual.data[i] - expected.data[i]) <= tolerance,
      `${actual.data[i]} for ${expected.data[i]}`,
    );
  }
}

Deno.test("a classifier learns patterns from few images and scores held-out ones", async () => {
  const scores: number[] = [];
  const result = await trainFeatureClassifier({
    ...OPTIONS,
    evaluations: 3,
    onEvaluate: (p) => void scores.push(p.step),
  });
  assert.ok(result.record.accuracy > 0.95, `accuracy ${result.record.accuracy}`);
  assert.deepEqual(scores, [20, 40, 60]);
  assert.deepEqual(result.curve.map((p) => p.imagesSeen), [400, 800, 1200]);
  assert.deepEqual(
    { ...result.record, accuracy: 0 },
    {
      accuracy: 0,
      heldOut: 90,
      imagesSeen: 1200,
      dataset: "patterns/train",
      datasetHash: train.hash,
      seed: 0,
    },
  );
  // The record's accuracy is that of the frozen classifier.
  const frozen = new FeatureClassifier(result, { device: "cpu", batchSize: 32 });
  const { features, probabilities } = await frozen.run(test.images(Array.from({ length: 90 }, (_, i) => i)));
  assert.deepEqual([features.rows, features.cols, frozen.dims, probabilities.cols], [90, 16, 16, 3]);
  let right = 0;
  for (let i = 0; i < 90; i++) {
    const row = [...probabilities.data.subarray(3 * i, 3 * i + 3)];
    assert.ok(Math.abs(row.reduce((a, b) => a + b) - 1) < 1e-5);
    if (row.indexOf(Math.max(...row)) === i % 3) right++;
  }
  assert.equal(right / 90, result.record.accuracy);
  await frozen.dispose();
});

Deno.test("a resumed training equals an uninterrupted one bit for bit", async () => {
  const short = { ...OPTIONS, images: 160, evaluations: 1 };
  let middle: ClassifierState<HostTensor> | undefined;
  const whole = await trainFeatureClassifier({
    ...short,
    checkpointEverySteps: 3,
    onCheckpoint: (state, step) => {
      if (step === 3) middle = structuredClone(state);
    },
  });
  assert.equal(middle!.step.data[0], 3);
  const resumed = await trainFeatureClassifier({ ...short, state: middle });
  assert.deepEqual(resumed.state, whole.state);
  assert.equal(resumed.hash, whole.hash);
});

Deno.test("an aborted training checkpoints, stops and says so", async () => {
  const steps: number[] = [];
  const result = await trainFeatureClassifier({
    ...OPTIONS,
    evaluations: 1,
    onCheckpoint: (_, step) => void steps.push(step),
    signal: AbortSignal.abort(),
  });
  assert.deepEqual([result.stopped, result.step, steps], [true, 1, [1]]);
});

Deno.test("one update is the same eager and compiled", async () => {
  const state = initClassifierState(1, CONFIG), batch = classifierBatches(train, 10, { batchSize: 6 })(4);
  const run = (s: ClassifierState, b: ClassifierBatch) => classifierStep(s, b, CONFIG, 0.02);
  const compiled = jit(run, { device: "cpu" }), eager = jit(run, { device: "tfjs-cpu" });
  const [a, metricsA] = await read(await compiled(state, batch)),
    [b, metricsB] = await read(await eager(state, batch));
  assertClose(metricsA.loss as HostTensor, metricsB.loss as HostTensor, 1e-5);
  assertClose(metricsA.accuracy as HostTensor, metricsB.accuracy as HostTensor, 1e-6);
  // Adam's first moment is a tenth of the gradient; its updates themselves are ±rate and hide small differences.
  const [first, second] = [a, b].map((s) => (s as ClassifierState<HostTensor>).adam.first);
  assertClose(first.stem.conv.weight, second.stem.conv.weight, 1e-5);
  assertClose(first.stages[0].second.norm.weight, second.stages[0].second.norm.weight, 1e-5);
  assertClose(first.stages[0].shortcut.bias, second.stages[0].shortcut.bias, 1e-5);
  assertClose(first.head.weight, second.head.weight, 1e-5);
  await compiled.dispose();
  await eager.dispose();
});

Deno.test("features do not depend on how images are batched", async () => {
  const params = initClassifier(new Rng(5), CONFIG), images = test.images([0, 1, 2, 3, 4, 5, 6]);
  const [whole, pieces] = [7, 3].map((batchSize) =>
    new FeatureClassifier({ config: CONFIG, params }, { device: "cpu", batchSize })
  );
  const a = await whole.features(images),
    b = await pieces.features(images),
    c = await whole.features(rows(images, 2, 4));
  assertClose(float32(b.data as Float32Array, [7, 16]), float32(a.data as Float32Array, [7, 16]), 1e-5);
  c.data.forEach((v, i) => assert.ok(Math.abs(v - a.data[32 + i]) < 1e-5));
  assert.equal(whole.accuracy, null);
  await assert.rejects(whole.features(float32(new Float32Array(48), [1, 4, 4, 3])), TypeError);
  await whole.dispose();
  await pieces.dispose();
});

Deno.test("the small classifier has 96 features and stays small", () => {
  const config = classifierConfig({ imageSize: 64, classes: ["a", "b"] });
  const params = initClassifier(new Rng(0), config);
  assert.equal(config.widths.at(-1), 96);
  assert.ok(countClassifierParams(params) < 250_000);
  assert.throws(() => classifierConfig({ imageSize: 60, classes: ["a", "b"] }), {
    name: "ConfigError",
    message: "Cannot make classifier: imageSize must be a multiple of 16, got 60",
  });
  assert.throws(() => classifierConfig({ imageSize: 64, classes: ["a"] }), { name: "ConfigError" });
  assert.throws(() => classifierConfig({ imageSize: 64, classes: ["a", "b"], widths: [12] }), {
    name: "ConfigError",
  });
});

Deno.test("a 32-pixel image keeps its resolution in the first convolution, a larger one is halved", async () => {
  for (const [imageSize, stemSize] of [[32, 32], [64, 32]]) {
    const config = classifierConfig({ imageSize, classes: ["a", "b"], widths: [8] });
    const params = initClassifier(new Rng(0), config), x = new Rng(1).uniform(imageSize * imageSize * 3);
    // With one width the features are the mean of the first convolution's normalised output.
    const forward = jit((p: ClassifierParams, i: tf.Tensor) => classifier(i, p, config).featuresBD, {
      device: "cpu",
    });
    const manual = jit((p: ClassifierParams, i: tf.Tensor) => {
      const stride = imageSize / stemSize, signed = tf.mul(tf.sub(i, 0.5), 4) as tf.Tensor4D;
      const mapped = tf.conv2d(signed, p.stem.conv.weight as tf.Tensor4D, stride, "same");
      const centred = tf.sub(mapped, tf.mean(mapped));
      const unit = tf.div(centred, tf.sqrt(tf.add(tf.mean(tf.square(centred)), 1e-6)));
      return tf.mean(tf.mul(unit, tf.sigmoid(unit)), [1, 2]);
    }, { device: "cpu" });
    const image = float32(x, [1, imageSize, imageSize, 3]);
    assertClose(await read(await forward(params, image)), await read(await manual(params, image)), 1e-4);
    await forward.dispose();
    await manual.dispose();
  }
});

Deno.test("a saved classifier loads with the same weights, record and hash", async () => {
  const folder = await Deno.makeTempDir(), path = `${folder}/classifier.safetensors`;
  const params = initClassifier(new Rng(2), CONFIG);
  await saveClassifier(path, CONFIG, params, RECORD);
  const loaded = await loadClassifier(path);
  assert.deepEqual(loaded.params, roundClassifier(params));
  assert.deepEqual([loaded.config, loaded.record], [CONFIG, RECORD]);
  assert.equal(loaded.hash, hashClassifier(CONFIG, params));
  const extractor = await FeatureClassifier.load(path, { device: "cpu" });
  assert.deepEqual([extractor.hash, extractor.accuracy], [loaded.hash, 0.5]);
  await extractor.dispose();
  await Deno.remove(folder, { recursive: true });
});

Deno.test("each kind of damage to a classifier's file is told", async () => {
  const folder = await Deno.makeTempDir(), path = `${folder}/classifier.safetensors`;
  await saveClassifier(path, CONFIG, initClassifier(new Rng(2), CONFIG), RECORD);
  const { tensors, metadata } = await readSafetensors(path);
  const damaged: [string, RegExp, Map<string, HostTensor>, Record<string, string>][] = [];
  const weight = tensors.get("head.weight")!;
  const changed = {
    ...weight,
    data: weight.data.map((v: number, i: number) => i === 0 ? v + 1 : v) as Float32Array,
  };
  const without = (name: string) => new Map([...tensors].filter(([key]) => key !== name));
  damaged.push(["missing", /missing head\.bias/, without("head.bias"), metadata]);
  damaged.push(["unexpected", /unexpected extra/, new Map([...tensors, ["extra", weight]]), metadata]);
  damaged.push([
    "misshapen",
    /misshapen head\.bias: wanted \[3\], got \[16,3\]/,
    new Map([...tensors, ["head.bias", weight]]),
    metadata,
  ]);
  damaged.push([
    "changed",
    /hash of its weights must be/,
    new Map([...tensors, ["head.weight", changed]]),
    metadata,
  ]);
  damaged.push(["format", /format must be novae-classifier-1, got none/, tensors, {}]);
  damaged.push(["config", /settings must be valid/, tensors, { ...metadata, config: "{" }]);
  damaged.push(["setting", /there is no setting "depth"/, tensors, {
    ...metadata,
    config: JSON.stringify({ ...CONFIG, depth: 3 }),
  }]);
  damaged.push(["record", /must have "accuracy"/, tensors, { ...metadata, record: "{}" }]);
  for (const [name, message, content, meta] of damaged) {
    await writeSafetensors(path, content, meta, { dtype: "float16" });
    await assert.rejects(loadClassifier(path), (error: Error) => {
      assert.equal(error.name, "WeightsError", name);
      assert.match(error.message, message);
      assert.ok(
        error.message.startsWith(`Cannot load classifier ${path}: `) && !error.message.includes("\n"),
      );
      return true;
    });
  }
  await assert.rejects(loadClassifier(`${folder}/absent.safetensors`), { name: "WeightsError" });
  await Deno.remove(folder, { recursive: true });
});

Deno.test("training settings that do not fit the data are refused", async () => {
  await assert.rejects(trainFeatureClassifier({ ...OPTIONS, batchSize: 301 }), {
    name: "ConfigError",
    message: "Cannot train classifier: batchSize must be from 1 to the 300 training images, got 301",
  });
  await assert.rejects(trainFeatureClassifier({ ...OPTIONS, images: 0 }), { name: "ConfigError" });
  const other = packDataset({
    name: "o",
    classes: ["x", "y"],
    imageSize: 16,
    pixels: new Uint8Array(1536),
    labels: Uint8Array.of(0, 1),
  });
  await assert.rejects(trainFeatureClassifier({ ...OPTIONS, test: other }), { name: "ConfigError" });
});

Deno.test("batches are pure functions of the step and each epoch holds each image once", () => {
  const batches = classifierBatches(train, 100, { batchSize: 30, seed: 6 });
  const later = classifierBatches(train, 100, { batchSize: 30, seed: 6 })(13);
  for (const step of [0, 9, 12]) batches(step);
  assert.deepEqual(batches(13), later);
  const counts = new Map<string, number>();
  const plain = classifierBatches(
    {
      ...train,
      size: train.size,
      classes: train.classes,
      images: (i) => ({ dtype: "float32", shape: [i.length, 1, 1, 3], data: new Float32Array(3 * i.length) }),
      labels: (i) => {
        for (let n = 0; n < i.length; n++) counts.set(`${i[n]}`, (counts.get(`${i[n]}`) ?? 0) + 1);
        return new Int32Array(i.length);
      },
    },
    100,
    { batchSize: 30 },
  );
  for (let step = 0; step < 10; step++) plain(step);
  assert.ok(counts.size === 300 && [...counts.values()].every((n) => n === 1));
  const { targetsBL } = batches(0);
  assert.ok(Math.abs((targetsBL.data as Float32Array).reduce((a, b) => a + b) - 30) < 1e-4);
});

Deno.test("augmentation mirrors, shifts and recolours as told", () => {
  const images = test.images([0, 1, 2, 5]), { data } = images;
  const off = { flip: false, shift: 0, color: 0 };
  assert.deepEqual(augmentImages(images, new Rng(1), off).data, data);
  // Only mirrored: each image is itself or its mirror image, and both occur.
  const mirrored = augmentImages(images, new Rng(1), { ...off, flip: true }).data, kinds = new Set<string>();
  for (let b = 0; b < 4; b++) {
    let same = true, mirror = true;
    for (let p = 0; p < 256; p++) {
      const from = b * 768 + p * 3, to = b * 768 + (Math.floor(p / 16) * 16 + 15 - p % 16) * 3;
      same &&= mirrored[from] === data[from];
      mirror &&= mirrored[from] === data[to];
    }
    assert.ok(same || mirror);
    kinds.add(same ? "same" : "mirror");
  }
  assert.equal(kinds.size, 2);
  const all = augmentImages(images, new Rng(1));
  assert.ok(
    all.data.every((v: number) => v >= 0 && v <= 1) && all.data.some((v: number, i: number) => v !== data[i]),
  );
  assert.deepEqual(augmentImages(images, new Rng(1)), all);
});
