/** Updates of an autoencoder and its discriminator together, and trainings made of them. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  type AutoencoderBatch,
  type AutoencoderConfig,
  autoencoderGradients,
  type AutoencoderLossOptions,
  type AutoencoderParams,
  type AutoencoderState,
  autoencoderStep,
  batchSource,
  type Discriminator,
  type DiscriminatorState,
  initAutoencoderState,
  loadLpips,
  lpipsFiles,
  lpipsLoss,
  PUBLISHED_ADVERSARIAL,
  SPACE_NAMES,
  type SpaceName,
  TrainingImages,
  trainsWithFeatures,
} from "novae/autoencoder/mod.ts";
import { jit, read } from "novae/engine/mod.ts";
import type { AdamState } from "novae/nn/mod.ts";
import {
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  mapTree,
  Rng,
  scalar,
} from "novae/tensor/mod.ts";
import golden from "./golden/adversarial.json" with { type: "json" };
import {
  assertClose,
  DiscImages,
  tinyConfig,
  tinyEncoder,
  toTensors,
  wave,
  waveParams,
} from "./autoencoder_fixture.ts";

await tf.setBackend("cpu");

/** float32 against the float64 of the golden file. */
const TOLERANCE = 1e-4;

/** The autoencoder of the golden file. */
const GOLDEN_CONFIG: AutoencoderConfig = {
  space: "svg",
  imageSize: 16,
  patchSize: 4,
  featureChannels: 6,
  decoder: { channels: [8, 4], blocks: 1, midAttention: true, attentionLevels: 0, outPatch: 2 },
  residual: {
    channels: 3,
    width: 8,
    depth: 1,
    heads: 2,
    mlpRatio: 2,
    activation: "geluErf",
    classToken: true,
    maskProbability: 0.1,
  },
};

/** Running means as the golden file has them. */
function waveAdam<P>(params: P, name: string, scale: number): AdamState<P> {
  const filled = (moment: string, amplitude: number, base = 0) =>
    mapTree<P>(
      params,
      isHostTensor,
      (leaf, path) => wave((leaf as HostTensor).shape, `${name}.${moment}.${path}`, amplitude, base),
    );
  return {
    first: filled("first", 0.5 * scale),
    second: filled("second", 0.4 * scale ** 2, 0.6 * scale ** 2),
  };
}

/** Both sides as after two updates. */
function goldenState(): AutoencoderState<HostTensor> {
  const { scale, discriminatorScale } = golden.step, settings = { channels: 3, layers: 2 };
  const initial = initAutoencoderState(new Rng(0), GOLDEN_CONFIG, {
    adversarial: { ...PUBLISHED_ADVERSARIAL, discriminator: settings },
  });
  const params = waveParams(initial.params);
  const own = waveParams({ discriminator: initial.discriminator!.params }).discriminator;
  const discriminator: DiscriminatorState<HostTensor> = {
    step: scalar(2),
    params: own,
    statistics: initial.discriminator!.statistics.map(({ mean, variance }, i) => ({
      mean: wave(mean.shape, `mean${i}`, 0.3),
      variance: wave(variance.shape, `variance${i}`, 0.3, 1),
    })),
    adam: waveAdam(own, "discriminator", discriminatorScale),
  };
  return { step: scalar(2), params, ema: params, adam: waveAdam(params, "generator", scale), discriminator };
}

function goldenBatch(): AutoencoderBatch<HostTensor> {
  return {
    imageUnitBHWC: wave([2, 16, 16, 3], "image", 0.5, 0.5),
    featuresBND: wave([2, 16, 6], "features"),
    maskB: float32([1, 0], [2]),
    learningRate: scalar(golden.step.learningRate),
    emaDecay: scalar(0.5),
    discriminatorRate: scalar(golden.step.discriminatorRate),
  };
}

/** Compares leaves of a tree with golden ones by path, all of them. */
function assertLeaves(tree: unknown, wanted: Record<string, { data: number[] }>, what: string): void {
  const found = flattenTree<HostTensor>(tree, isHostTensor);
  assert.deepEqual(found.map(({ path }) => path).sort(), Object.keys(wanted).sort());
  for (const { path, value } of found) {
    assertClose(value.data, wanted[path].data, TOLERANCE, `${what} ${path}`);
  }
}

Deno.test("an update of autoencoder and discriminator equals PyTorch's, eager and compiled", async () => {
  const wanted = golden.step;
  const lpips = await loadLpips("vgg16", lpipsFiles("tests/golden/lpips", "vgg16"));
  const step = autoencoderStep({
    config: GOLDEN_CONFIG,
    reconstruction: { l1: 1, mse: 0, gradient: 0, multiScale: 0, perceptual: 1 },
    perceptual: lpipsLoss(lpips),
    maxGradientNorm: null,
    reduction: "sum",
    betas: [0.5, 0.9],
    adversarial: {
      ...PUBLISHED_ADVERSARIAL,
      weight: wanted.weight,
      factor: wanted.factor,
      discriminator: { channels: 3, layers: 2 },
    },
  });
  const compiled = jit(step, { device: "cpu" });
  const eager = step(toTensors(goldenState()), toTensors(goldenBatch()));
  const both = [hosted(eager), await read(await compiled(goldenState(), goldenBatch()))];
  for (const [state, metrics] of both as [AutoencoderState<HostTensor>, Record<string, HostTensor>][]) {
    assert.deepEqual(Object.keys(metrics).sort(), Object.keys(wanted.metrics).sort());
    for (const [name, value] of Object.entries(wanted.metrics)) {
      assertClose(metrics[name].data, [value], TOLERANCE, name);
    }
    assertLeaves(state.params, wanted.params, "parameter");
    assertLeaves(state.discriminator!.params, wanted.discriminator, "discriminator");
    assertLeaves(state.discriminator!.adam.first, wanted.discriminatorFirst, "mean gradient");
    assertClose(state.adam.first.decoder.convOut.weight.data, wanted.last.data, TOLERANCE, "last kernel");
    assertClose(state.adam.first.residual!.maskToken.data, wanted.token.data, TOLERANCE, "mask token");
    state.discriminator!.statistics.forEach(({ mean, variance }, i) => {
      assertClose(mean.data, wanted.statistics[i].mean.data, TOLERANCE, `mean ${i}`);
      assertClose(variance.data, wanted.statistics[i].variance.data, TOLERANCE, `variance ${i}`);
    });
    assert.deepEqual([state.step.data[0], state.discriminator!.step.data[0]], [3, 3]);
  }
  await compiled.dispose();
});

/** The same tree with tensors in host memory. */
function hosted(tree: unknown): unknown {
  return mapTree(tree, (value) => value instanceof tf.Tensor, (leaf) => {
    const tensor = leaf as tf.Tensor;
    return float32(tensor.dataSync() as Float32Array, tensor.shape);
  });
}

const SMALL = { ...PUBLISHED_ADVERSARIAL, learningRate: 2e-3, discriminator: { channels: 2, layers: 1 } };

/** State and batch of an update of a space, with a discriminator. */
async function firstUpdate(space: SpaceName) {
  const config = tinyConfig(space), encoder = trainsWithFeatures(space) ? tinyEncoder() : undefined;
  try {
    const images = await TrainingImages.prepare(new DiscImages(8), config, {
      encoder,
      flip: false,
      crop: "center",
      resize: null,
      cacheBytes: 0,
    });
    const constant = { learningRate: () => 1e-3, emaDecay: () => 0, discriminatorRate: () => 1e-3 };
    const batch = await batchSource(images, {
      config,
      batchSize: 4,
      seed: 0,
      flip: false,
      crop: "center",
      ...constant,
    })(0);
    return { config, batch, state: initAutoencoderState(new Rng(1), config, { adversarial: SMALL }) };
  } finally {
    await encoder?.dispose();
  }
}

for (const space of SPACE_NAMES) {
  Deno.test(`${space}: sums are H·W·3 means in every term, and the discriminator adds its own and changes no other`, async () => {
    const { config, batch, state } = await firstUpdate(space);
    const params = toTensors<AutoencoderParams>(state.params), inputs = toTensors<AutoencoderBatch>(batch);
    const discriminator = toTensors<Discriminator>(state.discriminator!);
    const base = { config, reconstruction: { l1: 1, mse: 1, gradient: 0, multiScale: 0, perceptual: 0 } };
    const run = (more: Partial<AutoencoderLossOptions>) => {
      const { loss, aux: { adversarial, ...parts }, grads } = autoencoderGradients(
        params,
        inputs,
        { ...base, ...more },
        { discriminator },
      );
      const value = (tensor: tf.Tensor | undefined) => tensor?.dataSync()[0];
      return {
        loss: loss.dataSync()[0],
        parts: mapTree<Record<string, number>>(
          parts,
          (v) => v instanceof tf.Tensor,
          (v) => value(v as tf.Tensor),
        ),
        added: value(adversarial?.adversarial)! * value(adversarial?.adversarialWeight)!,
        grads: hosted(grads),
      };
    };
    const mean = run({ reduction: "mean" }), sum = run({ reduction: "sum" }), scale = 16 * 16 * 3;
    const { kl, matching, ...scaled } = mean.parts,
      { kl: sumKl, matching: sumMatching, ...scaledSum } = sum.parts;
    assert.deepEqual([kl, matching], [sumKl, sumMatching]);
    assert.deepEqual(
      Object.keys(scaled).sort(),
      space === "va-vae" ? ["matchingWeight", "reconstruction"] : [
        "reconstruction",
      ],
    );
    for (const [name, value] of Object.entries(scaled)) {
      assertClose([scaledSum[name]], [scale * value], 1e-5, name);
    }
    assertClose([sum.loss], [scale * mean.loss], 1e-5, "loss");
    const wanted = flattenTree<HostTensor>(mean.grads, isHostTensor);
    flattenTree<HostTensor>(sum.grads, isHostTensor).forEach(({ path, value }, i) => {
      assertClose(value.data, wanted[i].value.data.map((v) => scale * v), TOLERANCE, path, scale * 1e-4);
    });
    const judged = run({ reduction: "sum", adversarial: { ...SMALL, factor: 0.5 } });
    for (const [name, value] of Object.entries(sum.parts)) {
      assertClose([judged.parts[name]], [value], 1e-5, name);
    }
    assert.ok(Math.abs(judged.added) > 1e-3);
    assertClose([judged.loss], [sum.loss + 0.5 * judged.added], 1e-5, "loss with a discriminator");
  });
}

Deno.test("a discriminator in the settings and none in the state is told, not skipped", async () => {
  const { config, batch, state } = await firstUpdate("vae");
  const reconstruction = { l1: 1, mse: 0, gradient: 0, multiScale: 0, perceptual: 0 };
  assert.throws(
    () =>
      autoencoderGradients(toTensors<AutoencoderParams>(state.params), toTensors<AutoencoderBatch>(batch), {
        config,
        reconstruction,
        adversarial: SMALL,
      }),
    { name: "TypeError", message: "Cannot train vae: a discriminator is needed in the state, got none" },
  );
});
