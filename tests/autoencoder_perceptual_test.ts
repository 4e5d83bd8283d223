import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  classifierPerceptual,
  leastTrunkImage,
  loadLpips,
  type Lpips,
  lpipsFiles,
  lpipsLoss,
  LpipsMetric,
  type LpipsNetwork,
} from "novae/autoencoder/mod.ts";
import { jit } from "novae/engine/mod.ts";
import {
  classifier,
  classifierConfig,
  classifierFeatureMaps,
  classifierMaps,
  type ClassifierParams,
  expectIndependentClassifiers,
  FeatureClassifier,
  initClassifier,
} from "novae/evaluation/mod.ts";
import { openWeights, readTensors, writeSafetensors } from "novae/io/mod.ts";
import { valueAndGrads } from "novae/nn/mod.ts";
import { ConfigError, float32, full, type HostTensor, Rng, WeightsError, zeros } from "novae/tensor/mod.ts";
import golden from "./golden/perceptual.json" with { type: "json" };
import { assertClose, toTensors, wave } from "./autoencoder_fixture.ts";

await tf.setBackend("cpu");

/** float32 against the float64 of the golden file, through 13 convolutions. */
const TOLERANCE = 1e-4;
const FOLDER = "tests/golden/lpips"; // written by perceptual.py beside it
const NETWORKS: readonly LpipsNetwork[] = ["vgg16", "alexnet"];
const NAMES = { vgg16: "vgg16-397923af.pth", alexnet: "alexnet-owt-7be5be79.pth" };

const load = (network: LpipsNetwork): Promise<Lpips> => loadLpips(network, lpipsFiles(FOLDER, network));
const unit = (signed: HostTensor): HostTensor =>
  float32(Float32Array.from(signed.data, (v) => 0.5 * v + 0.5), signed.shape);

for (const network of NETWORKS) {
  Deno.test(`LPIPS of ${network} and its gradient equal PyTorch's, eager and compiled`, async () => {
    const { shape, distances, gradient } = golden[network], lpips = await load(network);
    const [image, other] = [wave(shape, "image"), wave(shape, "other")], loss = lpipsLoss(lpips);
    const both = (image: tf.Tensor, other: tf.Tensor) => {
      const { loss: value, grads } = valueAndGrads(
        (at: { other: tf.Tensor }) => ({ loss: loss(image, at.other), aux: {} }),
        { other },
      );
      return { value, gradient: grads.other };
    };
    const mean = distances.data.reduce((a, b) => a + b, 0) / shape[0];
    const eager = both(toTensors<tf.Tensor>(image), toTensors<tf.Tensor>(other));
    assertClose(eager.value.dataSync(), [mean], TOLERANCE, "value");
    assertClose(eager.gradient.dataSync(), gradient.data, TOLERANCE, "gradient");
    const compiled = jit(both, { device: "cpu" }), output = await compiled(image, other);
    assertClose((await output.value.read()).data, [mean], TOLERANCE, "compiled value");
    assertClose((await output.gradient.read()).data, gradient.data, TOLERANCE, "compiled gradient");
    await compiled.dispose();
  });

  Deno.test(`the measure by ${network} gives each pair PyTorch's distance, whatever its batch`, async () => {
    const { shape, distances } = golden[network], lpips = await load(network);
    const metric = new LpipsMetric(lpips, { device: "cpu", batchSize: 2 });
    assert.deepEqual([metric.network, metric.hash], [network, lpips.hash]);
    const [image, other] = [unit(wave(shape, "image")), unit(wave(shape, "other"))];
    assertClose(await metric.distances(image, other), distances.data, TOLERANCE);
    const triple = (t: HostTensor): HostTensor =>
      float32([...t.data, ...t.data, ...t.data], [3 * t.shape[0], ...t.shape.slice(1)]);
    const many = await metric.distances(triple(image), triple(other));
    assertClose(many, [1, 2, 3].flatMap(() => distances.data), TOLERANCE);
    assertClose([await metric.mean(triple(image), triple(other))], [
      many.reduce((a, b) => a + b) / many.length,
    ], 1e-6);
    assertClose(await metric.distances(other, image), distances.data, TOLERANCE, "symmetric");
    assert.deepEqual([...await metric.distances(image, image)], new Array(shape[0]).fill(0));
    await metric.dispose();
  });

  Deno.test(`where all channels of ${network} are silent the gradient of LPIPS is finite`, async () => {
    const lpips = await load(network), size = leastTrunkImage(network) + 4;
    // The first layer only answers to values that no image has.
    const silent = lpips.params.trunk.map(({ weight, bias }, i) => ({
      weight,
      bias: i === 0 ? full(bias.shape, -1e3) : bias,
    }));
    const loss = lpipsLoss({ ...lpips, params: { ...lpips.params, trunk: silent } });
    const [image, other] = ["image", "other"].map((name) =>
      toTensors<tf.Tensor>(wave([1, size, size, 3], name))
    );
    const { loss: value, grads } = valueAndGrads(
      (at: { other: tf.Tensor }) => ({ loss: loss(image, at.other), aux: {} }),
      { other },
    );
    assert.equal(value.dataSync()[0], 0);
    assert.ok(grads.other.dataSync().every((v) => v === 0));
  });
}

Deno.test("LPIPS within a larger checkpoint is the same as from its two files", async () => {
  const apart = await load("vgg16"), path = `${FOLDER}/whole.ckpt`;
  const whole = await loadLpips("vgg16", { trunk: path, heads: path });
  assert.equal(whole.hash, apart.hash);
  assert.notEqual((await load("alexnet")).hash, apart.hash);
});

Deno.test("the smallest images have a map at every tap, and smaller ones are refused", async () => {
  assert.deepEqual(NETWORKS.map(leastTrunkImage), [16, 31]);
  for (const network of NETWORKS) {
    const metric = new LpipsMetric(await load(network), { device: "cpu" }), least = leastTrunkImage(network);
    const distances = await metric.distances(
      unit(wave([1, least, least, 3], "a")),
      unit(wave([1, least, least, 3], "b")),
    );
    assert.ok(distances[0] > 0);
    const small = zeros([1, least, least - 1, 3]);
    await assert.rejects(metric.distances(small, small), {
      name: "ConfigError",
      message:
        `Cannot compare images by LPIPS (${network}): they must have at least ${least} × ${least} pixels, ` +
        `got ${least} × ${least - 1}`,
    });
    await metric.dispose();
  }
});

Deno.test("files that are absent are named with their source", async () => {
  const { trunk, heads } = lpipsFiles(FOLDER, "vgg16");
  await assert.rejects(loadLpips("vgg16", lpipsFiles("nowhere", "vgg16")), {
    name: "WeightsError",
    message: "Cannot load LPIPS (vgg16): its trunk must be torchvision's vgg16-397923af.pth " +
      "(https://download.pytorch.org/models/vgg16-397923af.pth), got no file nowhere/vgg16-397923af.pth",
  });
  await assert.rejects(loadLpips("vgg16", { trunk, heads: "nowhere/vgg.pth" }), {
    message: "Cannot load LPIPS (vgg16): its heads must be LPIPS's vgg.pth " +
      "(https://github.com/richzhang/PerceptualSimilarity, lpips/weights/v0.1/vgg.pth), got no file nowhere/vgg.pth",
  });
  assert.ok(heads.endsWith("vgg.pth"));
});

type Changed = (tensors: Map<string, HostTensor>) => void;

/** A file of the golden folder with some tensors changed. */
async function changedFile(name: string, change: Changed): Promise<string> {
  const tensors = await readTensors((await openWeights(`${FOLDER}/${name}`)).tensors);
  change(tensors);
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  await writeSafetensors(path, tensors);
  return path;
}

for (
  const [what, part, change, message] of [
    ["a trunk without a bias", "trunk", (t) => t.delete("features.14.bias"), /missing features\.14\.bias$/],
    [
      "a trunk with another kernel",
      "trunk",
      (t) => t.set("features.5.weight", zeros([4, 4, 5, 5])),
      /misshapen features\.5\.weight: wanted \[4,4,3,3\], got \[4,4,5,5\]$/,
    ],
    [
      "a trunk whose layers do not fit",
      "trunk",
      (t) => t.set("features.7.weight", zeros([5, 3, 3, 3])),
      /misshapen features\.7\.weight: wanted \[5,4,3,3\], got \[5,3,3,3\]$/,
    ],
    [
      "a trunk with batch normalisation",
      "trunk",
      (t) => t.set("features.1.running_mean", zeros([3])),
      /unexpected features\.1\.running_mean$/,
    ],
    [
      "something else as a trunk",
      "trunk",
      (t) => t.delete("features.0.weight"),
      /one trunk .* got none among classifier, features$/,
    ],
    ["heads without one", "heads", (t) => t.delete("lin3.model.1.weight"), /missing lin3$/],
    [
      "a head too many",
      "heads",
      (t) => t.set("lin5.model.1.weight", zeros([1, 5, 1, 1])),
      /unexpected lin5$/,
    ],
    [
      "a head of two outputs",
      "heads",
      (t) => t.set("lin2.model.1.weight", zeros([2, 6, 1, 1])),
      /misshapen lin2: wanted \[1,6,1,1\], got \[2,6,1,1\]$/,
    ],
    [
      "something else as heads",
      "heads",
      (t) => t.delete("lin0.model.1.weight"),
      /one heads .* got none among lin1/,
    ],
  ] as [string, "trunk" | "heads", Changed, RegExp][]
) {
  Deno.test(`LPIPS refuses ${what}`, async () => {
    const files = lpipsFiles(FOLDER, "vgg16");
    const path = await changedFile(part === "trunk" ? NAMES.vgg16 : "vgg.pth", change);
    await assert.rejects(loadLpips("vgg16", { ...files, [part]: path }), (error: Error) => {
      assert.ok(error instanceof WeightsError, String(error.stack));
      assert.match(error.message, message);
      return error.message.startsWith(`Cannot load LPIPS (vgg16) from ${path}: `);
    });
    await Deno.remove(path);
  });
}

Deno.test("LPIPS refuses trunk or heads of another network", async () => {
  const vgg = lpipsFiles(FOLDER, "vgg16"), alexnet = lpipsFiles(FOLDER, "alexnet");
  await assert.rejects(
    loadLpips("vgg16", { ...vgg, heads: alexnet.heads }),
    /misshapen lin4: wanted \[1,5,1,1\], got \[1,4,1,1\]$/,
  );
  await assert.rejects(
    loadLpips("vgg16", { ...vgg, trunk: alexnet.trunk }),
    /unexpected features\.3\.weight/,
  );
  await assert.rejects(loadLpips("alexnet", { ...alexnet, trunk: vgg.trunk }), /missing features\.3\.weight/);
});

Deno.test("images that cannot be compared are refused before anything runs", async () => {
  const lpips = await load("vgg16"), metric = new LpipsMetric(lpips, { device: "cpu" });
  const images = zeros([1, 16, 16, 3]);
  await assert.rejects(metric.distances(images, zeros([1, 16, 18, 3])), TypeError);
  await assert.rejects(metric.distances(zeros([1, 16, 16, 4]), images), TypeError);
  await assert.rejects(metric.distances(zeros([0, 16, 16, 3]), zeros([0, 16, 16, 3])), /at least one pair/);
  const signed = wave([1, 16, 16, 3], "image");
  await assert.rejects(
    metric.distances(images, signed),
    /Cannot compare images: pixels must be in \[0, 1\], got -/,
  );
  signed.data[0] = NaN;
  await assert.rejects(metric.distances(signed, images), /got NaN/);
  assert.throws(() => new LpipsMetric(lpips, { batchSize: 0 }), RangeError);
  await metric.dispose();
});

Deno.test("the classifier's perceptual loss is the mean squared distance of normalised maps", () => {
  // Two maps: the pixels themselves, and their halves at every second place, whose length does not count.
  const loss = classifierPerceptual({
    hash: "",
    maps: (image) => [image, tf.mul(tf.stridedSlice(image, [0, 0, 0, 0], [2, 4, 4, 3], [1, 2, 2, 1]), 0.5)],
  });
  const [image, other] = [wave([2, 4, 4, 3], "image"), wave([2, 4, 4, 3], "other")];
  const distance = (pixel: number): number => {
    const [a, b] = [image, other].map(({ data }) => {
      const values = [...data.subarray(3 * pixel, 3 * pixel + 3)].map((v) => 0.5 * v + 0.5);
      return values.map((v) => v / Math.hypot(...values));
    });
    return a.reduce((sum, v, c) => sum + (v - b[c]) ** 2, 0);
  };
  const mean = (pixels: number[]) => pixels.reduce((sum, pixel) => sum + distance(pixel), 0) / pixels.length;
  const all = Array.from({ length: 32 }, (_, i) => i);
  const wanted = (mean(all) + mean(all.filter((i) => i % 2 === 0 && Math.floor(i / 4) % 2 === 0))) / 2;
  assertClose(loss(toTensors(image), toTensors(other)).dataSync(), [wanted], 1e-5);
  assertClose(loss(toTensors(image), toTensors(image)).dataSync(), [0], 0, "", 1);
});

const SMALL = classifierConfig({ imageSize: 16, classes: ["a", "b"], widths: [8, 16, 16] });

Deno.test("a classifier as a source of maps has the maps it classifies by, and a gradient when compiled", async () => {
  const params = initClassifier(new Rng(3), SMALL),
    features = classifierFeatureMaps({ config: SMALL, params });
  const weights = toTensors<ClassifierParams>(params), images = unit(wave([2, 16, 16, 3], "image"));
  const maps = features.maps(toTensors(images));
  assert.deepEqual(maps.map((map) => map.shape), [[2, 16, 16, 8], [2, 8, 8, 16], [2, 4, 4, 16]]);
  const { featuresBD } = classifier(toTensors(images), weights, SMALL);
  assertClose(tf.mean(maps[2], [1, 2]).dataSync(), featuresBD.dataSync(), 1e-6);
  assert.deepEqual(
    classifierMaps(toTensors(images), weights, SMALL).map((m) => m.shape),
    maps.map((m) => m.shape),
  );

  const loss = classifierPerceptual(features),
    both = (image: tf.Tensor, other: tf.Tensor) =>
      valueAndGrads((at: { other: tf.Tensor }) => ({ loss: loss(image, at.other), aux: {} }), { other });
  const [image, other] = [wave([2, 16, 16, 3], "image"), wave([2, 16, 16, 3], "other", 0.8)];
  const eager = both(toTensors(image), toTensors(other)), compiled = jit(both, { device: "cpu" });
  const output = await compiled(image, other);
  assertClose((await output.loss.read()).data, eager.loss.dataSync(), 1e-5);
  assertClose((await output.grads.other.read()).data, eager.grads.other.dataSync(), 1e-4);
  await compiled.dispose();
  // Along its own gradient the loss changes by the gradient's square.
  const slope = eager.grads.other,
    norm2 = tf.sum(tf.square(slope)).dataSync()[0],
    step = 0.02 / Math.sqrt(norm2);
  const at = (sign: number) =>
    loss(toTensors(image), tf.add(toTensors<tf.Tensor>(other), tf.mul(slope, sign * step))).dataSync()[0];
  assertClose([(at(1) - at(-1)) / (2 * step)], [norm2], 1e-2);
});

Deno.test("images of another size are refused by a classifier's maps", () => {
  const features = classifierFeatureMaps({ config: SMALL, params: initClassifier(new Rng(3), SMALL) });
  assert.throws(() => features.maps(toTensors(zeros([1, 8, 8, 3]))), TypeError);
});

Deno.test("the classifier that trains must not be the one that scores", async () => {
  const content = { config: SMALL, params: initClassifier(new Rng(3), SMALL) };
  const scorer = new FeatureClassifier(content, { device: "cpu" });
  assert.equal(classifierFeatureMaps(content).hash, scorer.hash);
  assert.throws(() => expectIndependentClassifiers(classifierFeatureMaps(content), scorer), ConfigError);
  const other = { config: SMALL, params: initClassifier(new Rng(4), SMALL) };
  expectIndependentClassifiers(classifierFeatureMaps(other), scorer);
  await scorer.dispose();
});
