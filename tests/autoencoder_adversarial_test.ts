/** Updates of an autoencoder and its discriminator together, and trainings made of them. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { CheckpointStore } from "novae/experiment/mod.ts";
import {
  type AutoencoderBatch,
  type AutoencoderConfig,
  autoencoderGradients,
  type AutoencoderLossOptions,
  type AutoencoderParams,
  type AutoencoderSchedule,
  type AutoencoderState,
  autoencoderStep,
  batchSource,
  type Discriminator,
  discriminatorStart,
  type DiscriminatorState,
  initAutoencoderState,
  loadLpips,
  lpipsFiles,
  lpipsLoss,
  type PerceptualLoss,
  PUBLISHED_ADVERSARIAL,
  resolveSchedule,
  scheduleSteps,
  SPACE_NAMES,
  type SpaceName,
  svgPreset,
  svgSchedule,
  trainAutoencoder,
  TrainingImages,
  trainsWithFeatures,
} from "novae/autoencoder/mod.ts";
import { jit, read } from "novae/engine/mod.ts";
import type { AdamState } from "novae/nn/mod.ts";
import {
  CheckpointError,
  ConfigError,
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
  assertSameBits,
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
    ...PUBLISHED_ADVERSARIAL,
    discriminator: settings,
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
      cacheBytes: 0,
    });
    const constant = { learningRate: () => 1e-3, emaDecay: () => 0, discriminatorRate: () => 1e-3 };
    const batch = await batchSource(images, { config, batchSize: 4, seed: 0, ...constant })(0);
    return { config, batch, state: initAutoencoderState(new Rng(1), config, SMALL) };
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
        discriminator,
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

/** A short training, with its states and metrics after every update. */
async function shortTraining(
  schedule: Partial<AutoencoderSchedule>,
  { resume, space = "svg", perceptual }: {
    resume?: AutoencoderState<HostTensor>;
    space?: SpaceName;
    perceptual?: PerceptualLoss;
  } = {},
) {
  const encoder = tinyEncoder(), images = new DiscImages(16);
  const states = new Map<number, AutoencoderState<HostTensor>>();
  const metrics = new Map<number, Readonly<Record<string, number>>>();
  try {
    const result = await trainAutoencoder({
      config: tinyConfig(space),
      perceptual,
      schedule: { images: 48, batchSize: 8, warmupSteps: 1, seed: 3, ...schedule },
      train: images,
      heldOut: images,
      encoder,
      device: "cpu",
      evaluations: 1,
      logEverySteps: 1,
      checkpointEverySteps: 1,
      onLog: (entry) => void metrics.set(entry.step, entry.metrics),
      onCheckpoint: (state, step) => void states.set(step, state),
      resume,
    });
    return { ...result, states, metrics };
  } finally {
    await encoder.dispose();
  }
}

Deno.test("until the discriminator starts, a training is the one without it", async () => {
  const plain = await shortTraining({}), late = { ...SMALL, startImages: 20 };
  const { states, metrics } = await shortTraining({ adversarial: late });
  const initial = initAutoencoderState(new Rng(3).split("init"), tinyConfig("svg"), late);
  for (const step of [1, 2, 3]) { // the third update begins with image 16
    const { discriminator, ...generator } = states.get(step)!;
    assertSameBits(generator, plain.states.get(step));
    assertSameBits(discriminator, initial.discriminator);
    assert.deepEqual(metrics.get(step), plain.metrics.get(step));
  }
  const after = states.get(4)!;
  assert.equal(after.discriminator!.step.data[0], 1);
  assert.notDeepEqual(
    after.discriminator!.params.first.weight.data,
    initial.discriminator!.params.first.weight.data,
  );
  assert.notDeepEqual(after.params, plain.states.get(4)!.params);
  assert.deepEqual(Object.keys(metrics.get(4)!).filter((name) => !(name in metrics.get(3)!)).sort(), [
    "adversarialLoss",
    "adversarialWeight",
    "discriminatorGradientNorm",
    "discriminatorLoss",
    "logitsFake",
    "logitsReal",
  ]);
});

Deno.test("the discriminator starts after so many images, whatever the batch", async () => {
  assert.deepEqual(
    [8, 16, 12, 7].map((batchSize) => discriminatorStart({ ...SMALL, startImages: 16 }, batchSize)),
    [
      2,
      1,
      2,
      3,
    ],
  );
  assert.equal(discriminatorStart({ ...SMALL, startImages: 0 }, 8), 0);
  assert.equal(discriminatorStart(null, 8), Infinity);
  assert.equal(discriminatorStart(PUBLISHED_ADVERSARIAL, 512), 2500);
  for (const batchSize of [4, 8]) {
    const { metrics } = await shortTraining({ batchSize, adversarial: { ...SMALL, startImages: 32 } });
    const judged = [...metrics].filter(([, values]) => "discriminatorLoss" in values).map(([step]) => step);
    assert.equal(judged[0], 32 / batchSize + 1);
    assert.equal(judged.length, (48 - 32) / batchSize);
  }
});

for (const [when, stopAfter] of [["before", 1], ["after", 4]] as const) {
  Deno.test(`a training that is resumed ${when} its discriminator started equals one that was not interrupted, bit for bit`, async () => {
    const folder = await Deno.makeTempDir(), config = tinyConfig("svg");
    const schedule = { adversarial: { ...SMALL, startImages: 16 } };
    try {
      const whole = await shortTraining(schedule), begun = whole.states.get(stopAfter)!;
      const store = new CheckpointStore(folder, { config });
      await store.save(stopAfter, { weights: begun.ema, state: begun });
      const like = initAutoencoderState(
        new Rng(0),
        config,
        resolveSchedule({ images: 1, ...schedule }).adversarial,
      );
      const { state } = await store.load(stopAfter, { weights: like.ema, state: like });
      const rest = await shortTraining(schedule, { resume: state });
      assert.equal(rest.states.size, 6 - stopAfter);
      for (const [step, reached] of rest.states) assertSameBits(reached, whole.states.get(step));
      assertSameBits(rest.params, whole.params);
      assert.deepEqual([rest.stats, rest.alignment, rest.curve], [whole.stats, whole.alignment, whole.curve]);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

Deno.test("a state without the discriminator that the settings ask for, or with one too many, is refused", async () => {
  const config = tinyConfig("svg"), adversarial = SMALL;
  await assert.rejects(shortTraining({ adversarial }, { resume: initAutoencoderState(new Rng(0), config) }), {
    name: CheckpointError.name,
    message: "Cannot resume: a state with a discriminator is needed, got one without",
  });
  await assert.rejects(shortTraining({}, { resume: initAutoencoderState(new Rng(0), config, SMALL) }), {
    name: CheckpointError.name,
    message: "Cannot resume: a state without a discriminator is needed, got one with",
  });
});

Deno.test("settings of the discriminator that cannot be used are refused before anything runs", async () => {
  for (
    const [adversarial, message] of [
      [{ ...SMALL, betas: [1, 0.9] }, /^Cannot use adversarial settings: betas\.0: /],
      [{ ...SMALL, startImages: -1 }, /^Cannot use adversarial settings: startImages: /],
      [{ ...SMALL, loss: "wgan" }, /^Cannot use adversarial settings: loss: /],
      [{ ...SMALL, start: 3 }, /^Cannot use adversarial settings: Unrecognized key: "start"/],
      [
        { ...SMALL, discriminator: { channels: 2, layers: 3 } },
        /images must have at least 24 × 24 pixels, got 16 × 16/,
      ],
    ] as [Partial<typeof SMALL>, RegExp][]
  ) {
    await assert.rejects(shortTraining({ adversarial }), (error: Error) => {
      assert.ok(error instanceof ConfigError, String(error.stack));
      assert.match(error.message, message);
      return true;
    });
  }
});

for (const space of ["vae", "va-vae"] as const) {
  Deno.test(`${space} is trained against a discriminator, compiled`, async () => {
    const { metrics, states } = await shortTraining({
      images: 24,
      reduction: "sum",
      adversarial: { ...SMALL, startImages: 8 },
    }, { space });
    assert.deepEqual([1, 2, 3].map((step) => "adversarialLoss" in metrics.get(step)!), [false, true, true]);
    assert.equal("matchingWeight" in metrics.get(3)!, space === "va-vae");
    assert.equal(states.get(3)!.discriminator!.step.data[0], 2);
  });
}

Deno.test("the preset's schedule is the published training", () => {
  const preset = svgPreset("svg-vits16plus-256");
  const schedule = resolveSchedule(svgSchedule(preset, { trainImages: 1_281_167 }));
  assert.deepEqual(schedule, {
    images: 41 * 1_281_167,
    batchSize: 512,
    learningRate: 1e-4,
    finalRate: 1,
    warmupSteps: 0,
    emaHalflife: 0,
    maxGradientNorm: null,
    betas: [0.5, 0.9],
    reduction: "sum",
    reconstruction: { l1: 1, mse: 0, gradient: 0, multiScale: 0, perceptual: 1 },
    adversarial: {
      weight: 0.5,
      factor: 1,
      startImages: 1_280_000,
      loss: "hinge",
      learningRate: 1e-4,
      betas: [0.5, 0.9],
      maxGradientNorm: null,
      discriminator: { channels: 64, layers: 3 },
    },
    flip: false,
    seed: 0,
  });
  assert.deepEqual(schedule.adversarial, PUBLISHED_ADVERSARIAL);
  assert.equal(discriminatorStart(schedule.adversarial, schedule.batchSize), 2500);
  const { images, seed } = svgSchedule(preset, { trainImages: 1000, epochs: 3, seed: 7 });
  assert.deepEqual([images, seed], [3000, 7]);
});

Deno.test("a training with the preset's schedule has LPIPS, the discriminator, and no averaged weights of its own", async () => {
  const published = svgSchedule(svgPreset("svg-vits16plus-256"), { trainImages: 32, epochs: 1 });
  const discriminator = { channels: 2, layers: 1 };
  const schedule = {
    ...published,
    batchSize: 8,
    adversarial: { ...published.adversarial, discriminator, startImages: 16 },
  };
  const perceptual = lpipsLoss(await loadLpips("vgg16", lpipsFiles("tests/golden/lpips", "vgg16")));
  const { states, metrics } = await shortTraining(schedule, { perceptual });
  const plain = await shortTraining({ ...schedule, adversarial: null });
  assert.equal(scheduleSteps(resolveSchedule(schedule)), 4);
  assert.ok(metrics.get(1)!.reconstruction > plain.metrics.get(1)!.reconstruction, "LPIPS counts");
  assert.deepEqual([1, 2, 3, 4].map((step) => "discriminatorLoss" in metrics.get(step)!), [
    false,
    false,
    true,
    true,
  ]);
  const averaged = flattenTree<HostTensor>(states.get(4)!.ema, isHostTensor);
  flattenTree<HostTensor>(states.get(4)!.params, isHostTensor).forEach(({ path, value }, i) => {
    assertClose(averaged[i].value.data, value.data, 1e-6, path);
  });
});
