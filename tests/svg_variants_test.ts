/** The variants of SVG's autoencoder are settings: presets, sizes, widths of the residual, noise, dropout. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  AUTOENCODER_SIZES,
  type AutoencoderConfig,
  autoencoderLoss,
  type AutoencoderParams,
  type AutoencoderSize,
  type AutoencoderState,
  batchSource,
  CompiledAutoencoder,
  countDecoderParams,
  countParameters,
  countResidualParams,
  decodeTokens,
  groupCount,
  initAutoencoder,
  isPublishedVaeName,
  latentChannels,
  latentGrid,
  measureTrainingSpeed,
  namedAutoencoder,
  parseAutoencoderConfig,
  PUBLISHED_RESIDUAL,
  readAutoencoder,
  resolveSchedule,
  SVG_PRESETS,
  svgPreset,
  trainAutoencoder,
  TrainingImages,
  usualPatchSize,
} from "novae/autoencoder/mod.ts";
import { countVitParams, vitConfig } from "novae/dino/mod.ts";
import { ConfigError, type HostTensor, Rng } from "novae/tensor/mod.ts";
import {
  assertClose,
  assertSameBits,
  DiscImages,
  tinyConfig,
  tinyEncoder,
  toTensors,
  upTo,
} from "./autoencoder_fixture.ts";

await tf.setBackend("cpu");

Deno.test("the preset has the published settings and as many parameters as the published networks", () => {
  const { encoder, encoderSize, model, training } = svgPreset("svg-vits16plus-256");
  assert.equal(encoder, "facebook/dinov3-vits16plus-pretrain-lvd1689m");
  assert.equal(countVitParams(vitConfig(encoderSize)), 28_692_864);
  assert.deepEqual(parseAutoencoderConfig(model), model);
  assert.deepEqual(model, {
    space: "svg",
    imageSize: 256,
    patchSize: 16,
    featureChannels: 384,
    decoder: {
      channels: [512, 256, 256, 128, 128],
      blocks: 3,
      midAttention: true,
      attentionLevels: 1,
      outPatch: 1,
    },
    residual: {
      channels: 8,
      width: 384,
      depth: 6,
      heads: 8,
      mlpRatio: 4,
      activation: "geluErf",
      classToken: true,
      maskProbability: 0.1,
      dropout: 0.1,
      attentionDropout: 0.1,
    },
  });
  assert.ok(model.decoder.channels.every((width) => groupCount(width) === 32));
  assert.deepEqual([latentChannels(model), latentGrid(model)], [392, 16]);
  assert.equal(countResidualParams(model.residual!, 16, 256), 11_192_840);
  assert.equal(countDecoderParams(model.decoder, 392), 43_076_483);
  const { optimizer, discriminator, augmentation, ...rest } = training;
  assert.deepEqual(optimizer, {
    kind: "adam",
    learningRate: 1e-4,
    beta1: 0.5,
    beta2: 0.9,
    eps: 1e-8,
    weightDecay: 0,
  });
  assert.deepEqual(augmentation, { smallestSide: 256, crop: "random", flip: false });
  assert.deepEqual(rest, {
    batchSize: 512,
    devices: 8,
    epochs: 1000,
    releasedEpoch: 40,
    precision: "float32",
    schedule: "constant",
    maxGradientNorm: null,
    emaDecay: null,
    l1Weight: 1,
    lpipsWeight: 1,
    lpipsTrunk: "vgg16",
  });
  assert.deepEqual([discriminator.weight, discriminator.channels, discriminator.layers], [0.5, 64, 3]);
  // Both optimisers step the count that is compared with 5001, the decoder's first.
  const started = (offset: number) => upTo(6000).findIndex((update) => 2 * update + offset >= 5001);
  assert.equal(discriminator.decoderStartImages, started(0) * 512);
  assert.equal(discriminator.startImages, started(1) * 512);
  assert.deepEqual(JSON.parse(JSON.stringify(SVG_PRESETS)), SVG_PRESETS, "plain data");
  assert.throws(() => svgPreset("svg-vitb"), {
    name: "ConfigError",
    message: "Cannot find autoencoder: preset must be one of svg-vits16plus-256, got svg-vitb",
  });
});

Deno.test("sizes of the decoder grow from tiny to published, and only the published residual has dropout", () => {
  const counts = AUTOENCODER_SIZES.filter((size) => !isPublishedVaeName(size)).map((size) => {
    const patchSize = size === "published" ? 16 : 4;
    const config = namedAutoencoder(size, {
      space: "svg",
      imageSize: 4 * patchSize,
      patchSize,
      featureChannels: 64,
    });
    assert.equal(config.residual!.dropout !== undefined, size === "published");
    return countDecoderParams(config.decoder, latentChannels(config));
  });
  assert.deepEqual(counts, counts.toSorted((a, b) => a - b));
  assert.ok(counts.every((count, i) => i === 0 || count > 2 * counts[i - 1]), `${counts}`);
  for (const patchSize of [4, 8, 16]) {
    const { decoder } = namedAutoencoder("small", { space: "vae", imageSize: 64, patchSize });
    assert.equal(decoder.channels[0], 256);
  }
  assert.throws(
    () => namedAutoencoder("small", { space: "vae", imageSize: 64, patchSize: 32 }),
    /size "small" has no decoder for patches of 32/,
  );
  const usual = (size: AutoencoderSize, imageSize: number) => usualPatchSize(size, "vae", imageSize);
  assert.deepEqual([16, 32, 64, 128, 512].map((side) => usual("small", side)), [4, 4, 8, 16, 16]);
  assert.deepEqual([usual("micro", 256), usual("tiny", 64), usual("published", 256)], [8, 4, undefined]);
  assert.equal(usualPatchSize("published", "svg", 256), 16);
});

Deno.test("the residual is as wide as wanted, and alone it is all of the latents", async () => {
  const options = { imageSize: 16, patchSize: 4, featureChannels: 16 };
  for (const residualChannels of [4, 8, 16, 32]) {
    for (const space of ["svg", "svg-noalign", "residual"] as const) {
      const config = namedAutoencoder("tiny", { ...options, space, residualChannels });
      assert.equal(latentChannels(config), residualChannels + (space === "residual" ? 0 : 16));
    }
  }
  const config = namedAutoencoder("tiny", { ...options, space: "residual", residualChannels: 4 });
  assert.deepEqual([config.featureChannels, config.residual!.maskProbability], [0, 0]);
  const autoencoder = new CompiledAutoencoder(config, initAutoencoder(new Rng(0), config), { device: "cpu" });
  const images = new DiscImages(3).images(upTo(3));
  const parts = await autoencoder.encodeParts(images);
  assert.deepEqual(Object.keys(parts), ["residual"]);
  assert.deepEqual(await autoencoder.encode(images), parts.residual);
  await autoencoder.dispose();
});

Deno.test("the groups of the settings are those of every normalisation, in training and when compiled", async () => {
  const config = tinyConfig("dino"), grouped = { ...config, decoder: { ...config.decoder, groups: 4 } };
  const params = initAutoencoder(new Rng(1), config), encoder = tinyEncoder();
  const z = (await encoder.features(new DiscImages(2).images(upTo(2)))).patchesBND;
  const eager = (groups?: number) =>
    tf.tidy(() =>
      decodeTokens(toTensors(z), toTensors<AutoencoderParams>(params).decoder, groups).dataSync()
    );
  const ruled = eager(), four = eager(4);
  assert.deepEqual([8, 4].map(groupCount), [2, 1], "the rule gives other groups");
  assert.ok(ruled.some((v, i) => Math.abs(v - four[i]) > 1e-3));
  const autoencoder = new CompiledAutoencoder(grouped, params, { encoder, device: "cpu" });
  const compiled = await autoencoder.decode(z);
  assertClose(compiled.data, four.map((v) => Math.min(Math.max((v + 1) / 2, 0), 1)), 1e-5);
  await autoencoder.dispose();
  await encoder.dispose();
});

/** Batches of a training with given settings. */
async function batchesOf(config: AutoencoderConfig, batchSize: number) {
  const encoder = tinyEncoder();
  const images = await TrainingImages.prepare(new DiscImages(20), config, {
    encoder,
    flip: false,
    crop: "center",
    resize: null,
    cacheBytes: 1e9,
  });
  await encoder.dispose();
  const schedule = resolveSchedule({ images: 1, batchSize });
  return batchSource(images, { ...schedule, config, learningRate: () => 1, emaDecay: () => 1 });
}

Deno.test("noise for the decoder is drawn with the batch: normal, its deviation uniform up to τ for each image", async () => {
  const batch = await batchesOf({ ...tinyConfig("svg"), noiseTau: 0.8 }, 64);
  const deviations: number[] = [], noise: number[] = [];
  for (let step = 0; step < 10; step++) {
    const { noiseStdB, noiseBNZ } = await batch(step);
    assert.deepEqual([noiseStdB!.shape, noiseBNZ!.shape], [[64], [64, 16, 18]]);
    deviations.push(...noiseStdB!.data);
    noise.push(...noiseBNZ!.data);
  }
  const moment = (values: number[], power: number) =>
    values.reduce((sum, v) => sum + v ** power, 0) / values.length;
  assert.ok(deviations.every((v) => v >= 0 && v < 0.8));
  // Uniform on [0, 0.8]: mean 0.4, mean square 0.64 / 3; normal: mean square 1. Five standard errors each.
  assert.ok(Math.abs(moment(deviations, 1) - 0.4) < 5 * 0.231 / Math.sqrt(640));
  assert.ok(Math.abs(moment(deviations, 2) - 0.64 / 3) < 5 * 0.191 / Math.sqrt(640));
  assert.ok(Math.abs(moment(noise, 2) - 1) < 5 * Math.sqrt(2 / noise.length));
  const again = await batchesOf({ ...tinyConfig("svg"), noiseTau: 0.8 }, 64);
  assertSameBits(await again(3), await batch(3));
});

Deno.test("the decoder is trained on z + σ·ε, worked out by hand, and nothing else changes", async () => {
  const plain = tinyConfig("svg"), noisy = { ...plain, noiseTau: 0.8 };
  const params = initAutoencoder(new Rng(2), plain), batch = await (await batchesOf(noisy, 3))(0);
  const weights = { l1: 0, mse: 1, gradient: 0, multiScale: 0, perceptual: 0 };
  const loss = (config: AutoencoderConfig, change: Partial<typeof batch>) =>
    tf.tidy(() =>
      autoencoderLoss(toTensors(params), toTensors({ ...batch, ...change }), {
        config,
        reconstruction: weights,
      }).loss.dataSync()[0]
    );
  const still: HostTensor = { ...batch.noiseStdB!, data: new Float32Array(3) };
  assert.equal(loss(noisy, { noiseStdB: still }), loss(plain, {}), "σ = 0 is no noise");
  assert.notEqual(loss(noisy, {}), loss(plain, {}));
  // Of the space dino latents are the features, so that noise can be added to these beforehand.
  const features = tinyConfig("dino"), own = initAutoencoder(new Rng(2), features);
  const dino = await (await batchesOf({ ...features, noiseTau: 0.8 }, 3))(0);
  const lossOf = (config: AutoencoderConfig, given: typeof dino) =>
    tf.tidy(() =>
      autoencoderLoss(toTensors(own), toTensors(given), {
        config,
        reconstruction: weights,
      })
        .loss.dataSync()[0]
    );
  const shifted = (dino.featuresBND!.data as Float32Array).map((v, i) =>
    v + dino.noiseStdB!.data[Math.floor(i / (16 * 16))] * dino.noiseBNZ!.data[i]
  );
  const wanted = lossOf(features, { ...dino, featuresBND: { ...dino.featuresBND!, data: shifted } });
  assertClose([lossOf({ ...features, noiseTau: 0.8 }, dino)], [wanted], 1e-5);
});

Deno.test("trainings with dropout, noise and masks resume bit for bit; speed can be measured too", async () => {
  const base = tinyConfig("svg"), encoder = tinyEncoder(), images = new DiscImages(12);
  const config: AutoencoderConfig = {
    ...base,
    residual: { ...base.residual!, dropout: 0.1, attentionDropout: 0.1 },
    noiseTau: 0.8,
  };
  const run = async (resume?: AutoencoderState<HostTensor>) => {
    const states = new Map<number, AutoencoderState<HostTensor>>();
    await trainAutoencoder({
      config,
      schedule: { images: 32, batchSize: 8, warmupSteps: 1, seed: 3 },
      train: images,
      heldOut: images,
      encoder,
      device: "cpu",
      resume,
      evaluations: 1,
      checkpointEverySteps: 2,
      onCheckpoint: (state, step) => void states.set(step, structuredClone(state)),
    });
    return states;
  };
  try {
    const whole = await run(), rest = await run(whole.get(2));
    assertSameBits(rest.get(4), whole.get(4));
    assert.ok(
      await measureTrainingSpeed({ config, schedule: { images: 8 }, device: "cpu", seconds: 0.01 }) > 0,
    );
  } finally {
    await encoder.dispose();
  }
});

Deno.test("the shipped autoencoders load with their settings unchanged", async () => {
  for (const space of ["vae", "dino", "svg-noalign", "svg"]) {
    const { config, params } = await readAutoencoder(`data/models/ae-${space}-solids.safetensors`);
    const { model, parameters } = JSON.parse(await Deno.readTextFile(`data/models/ae-${space}-solids.json`));
    assert.deepEqual(config, model);
    assert.equal(countParameters(params), parameters.total);
  }
});

Deno.test("settings without the new keys stay as they were", () => {
  const { dropout: _, attentionDropout: __, ...residual } = PUBLISHED_RESIDUAL;
  const config = { ...tinyConfig("svg"), residual: { ...residual, channels: 2 } };
  assert.deepEqual(Object.keys(parseAutoencoderConfig(config).residual!), Object.keys(config.residual));
  assert.throws(() => parseAutoencoderConfig({ ...config, noise: 1 }), ConfigError);
});
