import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  type AutoencoderBatch,
  type AutoencoderConfig,
  autoencoderLoss,
  type AutoencoderParams,
  CompiledAutoencoder,
  DEFAULT_RECONSTRUCTION_WEIGHTS,
  denormalizeLatents,
  hasFeatures,
  initAutoencoder,
  latentChannels,
  meanPsnr,
  measureAutoencoder,
  measureLatents,
  namedAutoencoder,
  normalizeLatents,
  parseAutoencoderConfig,
  reconstructionLoss,
  SPACE_NAMES,
  type SpaceName,
} from "novae/autoencoder/mod.ts";
import { jit, read } from "novae/engine/mod.ts";
import { valueAndGrads } from "novae/nn/mod.ts";
import {
  concatRows,
  ConfigError,
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  Rng,
  rows,
  scalar,
} from "novae/tensor/mod.ts";
import {
  assertClose,
  DiscImages,
  jiggled,
  tinyConfig,
  tinyEncoder,
  toTensors,
  upTo,
} from "./autoencoder_fixture.ts";

await tf.setBackend("cpu");

const STEP = {
  reconstruction: { l1: 1, mse: 0.5, gradient: 0.25, multiScale: 0.5, perceptual: 1 },
  maxGradientNorm: 1,
};

/** A batch for the loss, with masks and noise where the space has them. */
async function batchOf(config: AutoencoderConfig): Promise<AutoencoderBatch<HostTensor>> {
  const images = new DiscImages(3).images(upTo(3)), rng = new Rng(9);
  const batch: AutoencoderBatch<HostTensor> = {
    imageUnitBHWC: images,
    learningRate: scalar(1e-3),
    emaDecay: scalar(0.9),
  };
  if (config.vae) {
    batch.noiseBNZ = float32(rng.normal(3 * 16 * config.vae.channels), [3, 16, config.vae.channels]);
  }
  if (config.featureChannels > 0) {
    const encoder = tinyEncoder();
    batch.featuresBND = (await encoder.features(images)).patchesBND;
    await encoder.dispose();
  }
  if (config.residual) batch.maskB = float32([0, 1, 0], [3]);
  return batch;
}

/** Weights that are nowhere zero, so that every gradient is alive. */
function livelyParams(config: AutoencoderConfig): AutoencoderParams<HostTensor> {
  return jiggled(initAutoencoder(new Rng(3), config), new Rng(4), 0.05);
}

async function autoencoderOf(space: SpaceName, batchSize = 8): Promise<CompiledAutoencoder> {
  const config = tinyConfig(space), params = livelyParams(config);
  const encoder = hasFeatures(space) ? tinyEncoder() : undefined;
  const options = { encoder, device: "cpu", batchSize } as const;
  const autoencoder = new CompiledAutoencoder(config, params, options);
  const images = new DiscImages(20);
  const batches = [{ images: images.images(upTo(20)) }];
  await autoencoder.update(params, await measureAutoencoder(autoencoder, batches));
  return autoencoder;
}

for (const space of SPACE_NAMES) {
  Deno.test(`loss and gradients of ${space} are the same compiled and eager`, async () => {
    const config = tinyConfig(space), params = livelyParams(config), batch = await batchOf(config);
    const evaluate = (p: AutoencoderParams, b: AutoencoderBatch) => {
      const { loss, grads } = valueAndGrads(
        (at: AutoencoderParams) => autoencoderLoss(at, b, { ...STEP, config }),
        p,
      );
      return { loss, grads };
    };
    const compiled = jit(evaluate, { device: "cpu" });
    try {
      const fetched = flattenTree<HostTensor>(await read(await compiled(params, batch)), isHostTensor);
      const eager = tf.tidy(() => {
        const found = evaluate(toTensors(params), toTensors(batch));
        return flattenTree<tf.Tensor>(found, (leaf) => leaf instanceof tf.Tensor)
          .map(({ path, value }) => ({ path, values: value.dataSync() }));
      });
      assert.deepEqual(fetched.map((leaf) => leaf.path), eager.map((leaf) => leaf.path));
      fetched.forEach(({ path, value }, i) => {
        assert.ok(value.data.some((v) => v !== 0), `${path} has no gradient`);
        // A key's bias shifts all logits alike, so its gradient is zero but for rounding.
        assertClose(value.data, eager[i].values, 2e-4, path, path.endsWith("key.bias") ? 1e-3 : 0);
      });
    } finally {
      await compiled.dispose();
    }
  });

  Deno.test(`an image of ${space} has the same latents alone and in a batch, and decodes to its size`, async () => {
    const autoencoder = await autoencoderOf(space);
    try {
      const images = new DiscImages(5, 7).images(upTo(5));
      const together = await autoencoder.encode(images);
      assert.deepEqual(together.shape, [5, 16, autoencoder.channels]);
      for (let i = 0; i < 5; i++) {
        const alone = await autoencoder.encode(rows(images, i, i + 1));
        assertClose(alone.data, rows(together, i, i + 1).data, 1e-5);
      }
      const decoded = await autoencoder.decode(together);
      assert.deepEqual(decoded.shape, [5, 16, 16, 3]);
      assert.ok(decoded.data.every((v) => v >= 0 && v <= 1));
      const third = await autoencoder.decode(rows(together, 2, 3));
      assertClose(third.data, rows(decoded, 2, 3).data, 1e-5);
    } finally {
      await autoencoder.dispose();
      await (autoencoder.encoder as ReturnType<typeof tinyEncoder> | undefined)?.dispose();
    }
  });

  Deno.test(`statistics of ${space} measured in one pass are those of its latents`, async () => {
    const autoencoder = await autoencoderOf(space);
    try {
      const images = new DiscImages(20).images(upTo(20));
      const pieces = [rows(images, 0, 7), rows(images, 7, 8), rows(images, 8, 20)];
      const streamed = await measureLatents(autoencoder, pieces);
      assert.equal(streamed.count, 20 * 16);
      assertClose(autoencoder.stats.mean, streamed.mean, 1e-5);
      assertClose(autoencoder.stats.std, streamed.std, 1e-5);
      const z = await autoencoder.encode(images), normal = normalizeLatents(z, streamed);
      const measured = await measureLatents({ ...fixed(normal), channels: autoencoder.channels }, [images]);
      assertClose(measured.std, new Float32Array(autoencoder.channels).fill(1), 1e-4);
      assert.ok(measured.mean.every((v) => Math.abs(v) < 1e-4));
      assertClose(denormalizeLatents(normal, streamed).data, z.data, 1e-5);
    } finally {
      await autoencoder.dispose();
      await (autoencoder.encoder as ReturnType<typeof tinyEncoder> | undefined)?.dispose();
    }
  });
}

/** An autoencoder whose latents are given. */
function fixed(z: HostTensor) {
  return { encode: () => Promise.resolve(z) };
}

Deno.test("the residual of svg has the features' mean and spread over the set it was measured on", async () => {
  const autoencoder = await autoencoderOf("svg");
  try {
    const { mean, std } = autoencoder.stats, { alignment } = autoencoder;
    const average = (values: Float32Array) => values.reduce((a, b) => a + b, 0) / values.length;
    assertClose([average(mean.subarray(16))], [average(mean.subarray(0, 16))], 1e-4);
    assertClose([average(std.subarray(16))], [average(std.subarray(0, 16))], 1e-4);
    assertClose([average(std.subarray(0, 16))], [alignment!.featureStd], 1e-5);
  } finally {
    await autoencoder.dispose();
    await (autoencoder.encoder as ReturnType<typeof tinyEncoder>).dispose();
  }
});

Deno.test("a rest is filled up to a power of two and cut again", async () => {
  const autoencoder = await autoencoderOf("vae", 4);
  try {
    const images = new DiscImages(7, 3).images(upTo(7));
    const all = await autoencoder.encode(images);
    const parts = [
      await autoencoder.encode(rows(images, 0, 4)),
      await autoencoder.encode(rows(images, 4, 7)),
    ];
    assertClose(all.data, concatRows(parts).data, 1e-5);
    assert.equal(all.shape[0], 7);
    await assert.rejects(autoencoder.encode(float32([], [0, 16, 16, 3])), TypeError);
  } finally {
    await autoencoder.dispose();
  }
});

Deno.test("wrong shapes are refused with what was wanted", async () => {
  const autoencoder = await autoencoderOf("vae");
  try {
    await assert.rejects(autoencoder.encode(float32(new Float32Array(12 * 12 * 3), [1, 12, 12, 3])), {
      name: "TypeError",
      message: "Cannot encode images (vae): shape must be [any, 16, 16, 3], got [1, 12, 12, 3]",
    });
    const feature = float32(new Float32Array(16), [1, 1, 16]), image = new DiscImages(1).images([0]);
    const dino = await autoencoderOf("dino");
    await assert.rejects(dino.encodeParts(image, feature), {
      message: "Cannot use features (dino): shape must be [1, 16, 16], got [1, 1, 16]",
    });
    await dino.dispose();
    await (dino.encoder as ReturnType<typeof tinyEncoder>).dispose();
    await assert.rejects(autoencoder.decode(float32(new Float32Array(16 * 5), [1, 16, 5])), {
      name: "TypeError",
      message: "Cannot decode latents (vae): shape must be [any, 16, 4], got [1, 16, 5]",
    });
  } finally {
    await autoencoder.dispose();
  }
});

Deno.test("constant channels and single tokens have no statistics", async () => {
  const encode = (data: number[], tokens: number) => ({
    channels: 2,
    encode: () => Promise.resolve(float32(data, [1, tokens, 2])),
  });
  const image = [float32([0], [1])];
  await assert.rejects(measureLatents(encode([1, 2, 1, 3], 2), image), /channel 0 has standard deviation 0/);
  await assert.rejects(measureLatents(encode([1, 2], 1), image), /at least two vectors are needed, got 1/);
});

Deno.test("settings are checked: unknown keys, parts of other spaces, sizes that do not fit", () => {
  const config = tinyConfig("svg");
  const cases: [unknown, RegExp][] = [
    [{ ...config, colour: 1 }, /colour/],
    [{ ...config, space: "sdvae" }, /space/],
    [{ ...config, imageSize: 18 }, /multiple of patchSize 4, got 18/],
    [{ ...config, patchSize: 8 }, /scale by patchSize 8, got 4/],
    [{ ...config, vae: { channels: 4, klWeight: 1 } }, /"vae" belongs to the spaces vae and va-vae alone/],
    [{ ...config, decoder: { ...config.decoder, groups: 8 } }, /groups must divide 4 channels, got 8/],
    [
      { ...tinyConfig("va-vae"), space: "vae", featureChannels: 0 },
      /"vae.featureMatching" belongs to the space va-vae/,
    ],
    [{ ...tinyConfig("vae"), space: "va-vae", featureChannels: 16 }, /"vae.featureMatching" belongs to/],
    [{ ...tinyConfig("va-vae"), featureChannels: 0 }, /featureChannels must be positive for va-vae, got 0/],
    [{ ...config, residual: undefined }, /"residual" belongs to/],
    [{ ...config, featureChannels: 0 }, /featureChannels/],
    [{ ...config, residual: { ...config.residual, heads: 3 } }, /must divide the width 8, got 3/],
  ];
  for (const [input, message] of cases) {
    assert.throws(() => parseAutoencoderConfig(input), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, message);
      return true;
    });
  }
  assert.deepEqual(parseAutoencoderConfig(config), config);
  assert.throws(
    () => namedAutoencoder("micro", { space: "vae", imageSize: 64, patchSize: 16 }),
    /size "micro" has no decoder for patches of 16/,
  );
  assert.throws(() => new CompiledAutoencoder(config, initAutoencoder(new Rng(0), config)), {
    name: "ConfigError",
    message: "Cannot make autoencoder svg: a frozen encoder of width 16 is needed, got none",
  });
});

Deno.test("all spaces share the decoder, and the sizes have the channels of the paper's spaces", () => {
  for (const [imageSize, patchSize] of [[64, 8], [32, 4]]) {
    const configs = SPACE_NAMES.map((space) =>
      namedAutoencoder("micro", { space, imageSize, patchSize, featureChannels: 96 })
    );
    for (const config of configs) assert.deepEqual(config.decoder, configs[0].decoder);
    assert.deepEqual(configs.map(latentChannels), [16, 16, 8, 96, 104, 104]);
  }
  const a = initAutoencoder(new Rng(1), tinyConfig("vae")),
    b = initAutoencoder(new Rng(1), tinyConfig("svg"));
  assert.deepEqual(a.decoder.mid, b.decoder.mid);
});

Deno.test("each part of the reconstruction loss has its value on a known difference", () => {
  const x = tf.zeros([1, 4, 4, 1]),
    single = tf.oneHot(tf.tensor1d([5], "int32"), 16).toFloat().reshape([1, 4, 4, 1]);
  const none = { l1: 0, mse: 0, gradient: 0, multiScale: 0, perceptual: 0 };
  const value = (weights: Partial<typeof none>, y = tf.mul(single, 0.5)) =>
    reconstructionLoss(x, y, { ...none, ...weights }).dataSync()[0];
  assertClose([value({ l1: 1 })], [0.5 / 16], 1e-6);
  assertClose([value({ mse: 2 })], [2 * 0.25 / 16], 1e-6);
  // An inner pixel takes part in two of twelve differences down and two of twelve to the right.
  assertClose([value({ gradient: 1 })], [2 * 0.5 / 12], 1e-6);
  // Block means keep a sum of 0.5 / 4 in one of four blocks and 0.5 / 16 in the one of the quarter scale.
  assertClose([value({ multiScale: 1 })], [(0.125 / 4 + 0.03125) / 2], 1e-6);
  const perceptual = (a: tf.Tensor, b: tf.Tensor) => tf.sum(tf.sub(b, a)) as tf.Scalar;
  const weights = {
    ...DEFAULT_RECONSTRUCTION_WEIGHTS,
    l1: 0,
    gradient: 0,
    multiScale: 0,
    mse: 0,
    perceptual: 3,
  };
  assertClose(reconstructionLoss(x, single, weights, perceptual).dataSync(), [3], 1e-6);
  assert.throws(() => reconstructionLoss(x, single, none), RangeError);
});

Deno.test("the ratio of signal to noise is averaged over images, not over pixels", () => {
  const images = float32(new Float32Array(24), [2, 2, 2, 3]);
  const other = float32(Float32Array.from({ length: 24 }, (_, i) => i < 12 ? 0.1 : 0.01), [2, 2, 2, 3]);
  assertClose([meanPsnr(images, other)], [(20 + 40) / 2], 1e-5);
  assert.equal(meanPsnr(images, images), 100);
});
