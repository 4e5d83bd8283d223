/** Trainings against a discriminator: when it starts, resuming, the published schedule. */
import assert from "node:assert/strict";
import { CheckpointStore } from "novae/experiment/mod.ts";
import {
  type AutoencoderSchedule,
  type AutoencoderState,
  discriminatorStart,
  initAutoencoderState,
  loadLpips,
  lpipsFiles,
  type PerceptualLoss,
  PUBLISHED_ADVERSARIAL,
  resolveSchedule,
  scheduleSteps,
  type SpaceName,
  svgPreset,
  svgSchedule,
  svgTraining,
  trainAutoencoder,
} from "novae/autoencoder/mod.ts";
import {
  CheckpointError,
  ConfigError,
  flattenTree,
  type HostTensor,
  isHostTensor,
  Rng,
} from "novae/tensor/mod.ts";
import { assertClose, assertSameBits, DiscImages, tinyConfig, tinyEncoder } from "./autoencoder_fixture.ts";

const SMALL = { ...PUBLISHED_ADVERSARIAL, learningRate: 2e-3, discriminator: { channels: 2, layers: 1 } };

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
  const initial = initAutoencoderState(new Rng(3).split("init"), tinyConfig("svg"), { adversarial: late });
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
        resolveSchedule({ images: 1, ...schedule }),
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
  await assert.rejects(
    shortTraining({}, { resume: initAutoencoderState(new Rng(0), config, { adversarial: SMALL }) }),
    {
      name: CheckpointError.name,
      message: "Cannot resume: a state without a discriminator is needed, got one with",
    },
  );
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
    crop: "random",
    resize: null,
    alignmentMomentum: 0,
    seed: 0,
  });
  assert.deepEqual(schedule.adversarial, PUBLISHED_ADVERSARIAL);
  assert.equal(discriminatorStart(schedule.adversarial, schedule.batchSize), 2500);
  const { images, seed } = svgSchedule(preset, { trainImages: 1000, epochs: 3, seed: 7 });
  assert.deepEqual([images, seed], [3000, 7]);
});

Deno.test("a training with the preset's schedule has LPIPS, the discriminator, and no averaged weights of its own", async () => {
  const lpips = await loadLpips("vgg16", lpipsFiles("tests/golden/lpips", "vgg16"));
  const preset = svgPreset("svg-vits16plus-256"), size = { trainImages: 32, epochs: 1 };
  const { config, schedule: published, perceptual } = svgTraining(preset, lpips, size);
  assert.deepEqual([config, published], [preset.model, svgSchedule(preset, size)]);
  const discriminator = { channels: 2, layers: 1 };
  const schedule = {
    ...published,
    batchSize: 8,
    adversarial: { ...published.adversarial, discriminator, startImages: 16 },
  };
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

Deno.test("the published training is not to be had with another trunk of LPIPS", async () => {
  const alexnet = await loadLpips("alexnet", lpipsFiles("tests/golden/lpips", "alexnet"));
  assert.throws(() => svgTraining(svgPreset("svg-vits16plus-256"), alexnet, { trainImages: 1 }), {
    name: ConfigError.name,
    message: "Cannot train as published: the trunk of LPIPS must be vgg16, got alexnet",
  });
});
