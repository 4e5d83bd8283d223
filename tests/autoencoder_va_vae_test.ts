/** VA-VAE: its losses and adaptive weight against PyTorch, and its training. */
import assert from "node:assert/strict";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import {
  type AutoencoderBatch,
  autoencoderGradients,
  type AutoencoderParams,
  featureMatchingLoss,
  gradientRatio,
  initAutoencoder,
  loadAutoencoder,
  namedAutoencoder,
  parseAutoencoderConfig,
  saveAutoencoder,
  trainAutoencoder,
} from "novae/autoencoder/mod.ts";
import { jit, read } from "novae/engine/mod.ts";
import { valueAndGrads } from "novae/nn/mod.ts";
import { flattenTree, float32, type HostTensor, isHostTensor, Rng, scalar } from "novae/tensor/mod.ts";
import matched from "./golden/va_vae.json" with { type: "json" };
import {
  assertClose,
  assertSameBits,
  DiscImages,
  jiggled,
  tinyConfig,
  tinyEncoder,
  toTensors,
  upTo,
  wave,
  waveParams,
} from "./autoencoder_fixture.ts";

await tf.setBackend("cpu");

/** float32 against the float64 of the golden file, a few dozen operations deep. */
const TOLERANCE = 1e-4;

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("VA-VAE's losses and their gradients equal PyTorch's, with margins and without", () => {
  for (
    const [wanted, cosineMargin, distanceMargin] of [[matched.margins, 0.5, 0.25], [
      matched.noMargins,
      0,
      0,
    ]] as const
  ) {
    const at = toTensors<{ z: tf.Tensor; projection: tf.Tensor; f: tf.Tensor }>({
      z: wave([2, 6, 4], "z"),
      projection: waveParams({ projection: float32(new Float32Array(20), [4, 5]) }).projection,
      f: wave([2, 6, 5], "f"),
    });
    const { loss, grads } = valueAndGrads((now: typeof at) => ({
      loss: featureMatchingLoss(now.z, now.projection, at.f, { weight: 1, cosineMargin, distanceMargin }),
      aux: {},
    }), at);
    assertClose(loss.dataSync(), [wanted.loss], 1e-5);
    assertClose(grads.z.dataSync(), wanted.gradZ.data, TOLERANCE);
    assertClose(grads.projection.dataSync(), wanted.gradProjection.data, TOLERANCE);
  }
});

Deno.test("VA-VAE's losses vanish for latents that are the features, and are finite at zero", () => {
  const f = toTensors<tf.Tensor>(wave([2, 6, 4], "f")), identity = tf.eye(4);
  const none = { weight: 1, cosineMargin: 0, distanceMargin: 0 };
  const value = (z: tf.Tensor, config = none) => featureMatchingLoss(z, identity, f, config).dataSync()[0];
  assert.ok(value(tf.mul(f, 3)) < 1e-6, "lengths do not matter");
  assert.ok(value(tf.neg(f)) > 1.9, "opposite directions are two apart, and look alike among themselves");
  assert.equal(value(tf.neg(f), { ...none, cosineMargin: 2 }).toFixed(6), "0.000000");
  const zero = tf.grad((z) => featureMatchingLoss(z, identity, f, none))(tf.zeros([2, 6, 4]));
  assert.ok(zero.dataSync().every((v) => Number.isFinite(v)));
  assert.throws(() => featureMatchingLoss(f, identity, tf.zeros([2, 3, 4]), none), {
    name: "TypeError",
    message: "Cannot match latents to features: shape must be [2, 6, 4], got [2, 3, 4]",
  });
});

Deno.test("the ratio of gradients is that of two known slopes, and stays finite", () => {
  const layer = tf.tensor1d([1, 2]),
    sum = (factor: number) => (at: tf.Tensor) => tf.sum(tf.mul(at, factor)) as tf.Scalar;
  assertClose(
    gradientRatio(layer, sum(6), sum(-2)).dataSync(),
    [6 * Math.SQRT2 / (2 * Math.SQRT2 + 1e-4)],
    1e-6,
  );
  assertClose(gradientRatio(layer, sum(1), (at) => tf.mul(sum(1)(at), 0) as tf.Scalar).dataSync(), [
    Math.SQRT2 / 1e-4,
  ], 1e-4);
  assertClose(
    gradientRatio(layer, sum(1e9), (at) => tf.mul(sum(1)(at), 0) as tf.Scalar).dataSync(),
    [1e8],
    1e-6,
  );
});

Deno.test("VA-VAE's training loss, its adaptive weight and its gradients equal PyTorch's", () => {
  const base = namedAutoencoder("tiny", { space: "va-vae", imageSize: 8, patchSize: 4, featureChannels: 5 });
  const config = parseAutoencoderConfig({
    ...base,
    patchSize: 2,
    decoder: { channels: [12, 8], blocks: 1, midAttention: true, attentionLevels: 1, outPatch: 1 },
    vae: {
      channels: 3,
      klWeight: 1e-2,
      featureMatching: { weight: 0.1, cosineMargin: 0.5, distanceMargin: 0.25 },
    },
  });
  const params = toTensors<AutoencoderParams>(waveParams(initAutoencoder(new Rng(0), config)));
  const image = wave([2, 8, 8, 3], "x");
  const batch = toTensors<AutoencoderBatch>({
    imageUnitBHWC: float32(image.data.map((v) => (v + 1) / 2) as Float32Array, image.shape),
    featuresBND: wave([2, 16, 5], "f"),
    noiseBNZ: float32(wave([2, 4, 4, 3], "noise").data as Float32Array, [2, 16, 3]),
    learningRate: scalar(0),
    emaDecay: scalar(0),
  });
  const options = {
    config,
    reconstruction: { l1: 1, mse: 2, gradient: 0, multiScale: 0, perceptual: 0 },
    maxGradientNorm: 1,
  };
  const found = autoencoderGradients(params, batch, options), wanted = matched.training;
  assertClose(found.loss.dataSync(), [wanted.loss], TOLERANCE);
  for (const part of ["reconstruction", "kl", "matching", "matchingWeight"] as const) {
    assertClose(found.aux[part]!.dataSync(), [wanted[part]], TOLERANCE, part);
  }
  const { encoder, decoder, projection } = found.grads;
  const gradients: [tf.Tensor, { data: number[] }][] = [
    [projection!, wanted.gradProjection],
    [encoder!.convIn.weight, wanted.gradEncoderIn],
    [encoder!.convOut.weight, wanted.gradEncoderOut],
    [encoder!.normOut.weight, wanted.gradNormOut],
    [decoder.convIn.weight, wanted.gradDecoderIn],
  ];
  for (const [gradient, golden] of gradients) assertClose(gradient.dataSync(), golden.data, TOLERANCE);
});

Deno.test("the adaptive weight of va-vae is the same compiled and eager, and no gradient flows through it", async () => {
  const config = tinyConfig("va-vae"),
    params = jiggled(initAutoencoder(new Rng(3), config), new Rng(4), 0.05);
  const images = new DiscImages(2).images(upTo(2)), rng = new Rng(9), encoder = tinyEncoder();
  const batch: AutoencoderBatch<HostTensor> = {
    imageUnitBHWC: images,
    featuresBND: (await encoder.features(images)).patchesBND,
    noiseBNZ: float32(rng.normal(2 * 16 * 4), [2, 16, 4]),
    learningRate: scalar(0),
    emaDecay: scalar(0),
  };
  await encoder.dispose();
  const options = {
    config,
    reconstruction: { l1: 1, mse: 2, gradient: 0, multiScale: 0, perceptual: 0 },
    maxGradientNorm: 1,
  };
  const evaluate = (p: AutoencoderParams, b: AutoencoderBatch) => autoencoderGradients(p, b, options);
  const compiled = jit(evaluate, { device: "cpu" });
  try {
    const fetched = flattenTree<HostTensor>(await read(await compiled(params, batch)), isHostTensor);
    const eager = tf.tidy(() =>
      flattenTree<tf.Tensor>(
        evaluate(toTensors(params), toTensors(batch)),
        (leaf) => leaf instanceof tf.Tensor,
      )
        .map(({ path, value }) => ({ path, values: value.dataSync() }))
    );
    assert.deepEqual(fetched.map((leaf) => leaf.path), eager.map((leaf) => leaf.path));
    fetched.forEach(({ path, value }, i) => {
      assertClose(value.data, eager[i].values, 2e-4, path, path.endsWith("key.bias") ? 1e-3 : 0);
    });
  } finally {
    await compiled.dispose();
  }
});

Deno.test("a va-vae trains with an encoder, comes closer to its features and is used without it", () =>
  inFolder(async (folder) => {
    const encoder = tinyEncoder(), config = tinyConfig("va-vae"), images = new DiscImages(8);
    const options = { config, train: images, heldOut: images, device: "cpu" as const, evaluations: 1 };
    const schedule = { images: 640, batchSize: 8, learningRate: 1e-2, warmupSteps: 5, seed: 1 };
    const matching: number[] = [], path = join(folder, "va.safetensors");
    const frozen = structuredClone(encoder.params);
    const trained = await trainAutoencoder({
      ...options,
      schedule,
      encoder,
      logEverySteps: 10,
      onLog: ({ metrics }) => void matching.push(metrics.matching),
    });
    assert.ok(matching.at(-1)! < 0.7 * matching[0], `matching ${matching.join(", ")}`);
    assertSameBits(encoder.params, frozen);
    await saveAutoencoder(path, { ...trained, config, encoderHash: encoder.hash });
    await encoder.dispose();
    const vae = await loadAutoencoder(path, { device: "cpu" });
    const z = await vae.encode(images.images([0, 1])), decoded = await vae.decode(z);
    assert.deepEqual([z.shape, decoded.shape], [[2, 16, 4], [2, 16, 16, 3]]);
    await vae.dispose();
    await assert.rejects(trainAutoencoder({ ...options, schedule }), {
      name: "ConfigError",
      message: "Cannot make autoencoder va-vae: a frozen encoder of width 16 is needed, got none",
    });
  }));

Deno.test("features of another grid than the latents' are refused before an update", async () => {
  const config = tinyConfig("va-vae"), images = new DiscImages(4);
  const patchesBND = float32(new Float32Array(4 * 9 * 16), [4, 9, 16]);
  const encoder = { width: 16, hash: "none", features: () => Promise.resolve({ patchesBND }) };
  const schedule = { images: 4, batchSize: 4 };
  await assert.rejects(
    trainAutoencoder({ config, schedule, train: images, heldOut: images, encoder, device: "cpu" }),
    {
      name: "ConfigError",
      message:
        "Cannot train va-vae: the encoder must give 16 features of 16 channels an image, as many as there are " +
        "latents, got 9 of 16",
    },
  );
});
