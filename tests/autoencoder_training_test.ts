import assert from "node:assert/strict";
import { CheckpointStore } from "novae/experiment/mod.ts";
import {
  autoencoderFraming,
  type AutoencoderState,
  batchSource,
  EpochOrder,
  type FeatureSource,
  initAutoencoderState,
  meanPsnr,
  middleFeatures,
  resolveSchedule,
  SPACE_NAMES,
  trainAutoencoder,
  TrainingImages,
  trainsWithFeatures,
} from "novae/autoencoder/mod.ts";
import { openImageViews } from "novae/data/mod.ts";
import { ConfigError, DivergenceError, float32, type HostTensor, Rng } from "novae/tensor/mod.ts";
import { assertSameBits, DiscImages, tinyConfig, tinyEncoder, upTo } from "./autoencoder_fixture.ts";

const FEW = { images: 48, batchSize: 8, warmupSteps: 1, seed: 3 };

for (const space of SPACE_NAMES) {
  Deno.test(`${space} learns to reconstruct a few images, and leaves the frozen encoder as it was`, async () => {
    const encoder = trainsWithFeatures(space) ? tinyEncoder() : undefined;
    const before = encoder && structuredClone(encoder.params);
    // Without frozen features the encoder has to be learned too.
    const images = new DiscImages(8), steps = encoder ? 60 : 100;
    const trained = await trainAutoencoder({
      config: tinyConfig(space),
      schedule: { images: 8 * steps, batchSize: 8, learningRate: 1e-2, warmupSteps: 5, seed: 1 },
      train: images,
      heldOut: images,
      encoder,
      device: "cpu",
      evaluations: 1,
    });
    const [{ psnr, ...point }] = trained.curve, baseline = psnrOfMeanImage(images);
    assert.deepEqual(point, { step: steps, imagesSeen: 8 * steps, count: 8 });
    assert.ok(psnr > baseline + 3, `${psnr} dB after training, ${baseline} dB for the mean image`);
    assert.ok(!trained.stopped && trained.step === steps);
    assert.equal(trained.stats.count, 8 * 16);
    assert.equal(trained.alignment !== undefined, space === "svg");
    if (encoder) assertSameBits(encoder.params, before);
    await encoder?.dispose();
  });
}

/** What a model reaches that learns nothing but the mean of all images. */
function psnrOfMeanImage(dataset: DiscImages): number {
  const all = dataset.images(upTo(dataset.size)), stride = all.data.length / dataset.size;
  const mean = float32(new Float32Array(all.data.length), all.shape);
  for (let i = 0; i < all.data.length; i++) {
    for (let n = 0; n < dataset.size; n++) mean.data[i] += all.data[n * stride + i % stride] / dataset.size;
  }
  return meanPsnr(all, mean);
}

Deno.test("a training that goes on from a file equals one that was not interrupted, bit for bit", async () => {
  const folder = await Deno.makeTempDir();
  const encoder = tinyEncoder(), config = tinyConfig("svg"), images = new DiscImages(20);
  const store = new CheckpointStore(folder, { config });
  const run = async (resume?: AutoencoderState<HostTensor>, signal?: AbortSignal) => {
    const states = new Map<number, AutoencoderState<HostTensor>>();
    const result = await trainAutoencoder({
      config,
      schedule: FEW,
      train: images,
      heldOut: images,
      encoder,
      device: "cpu",
      resume,
      evaluations: 1,
      checkpointEverySteps: 4,
      signal,
      onCheckpoint: (state, step) => void states.set(step, state),
    });
    return { ...result, states };
  };
  try {
    const whole = await run();
    const stopped = await run(undefined, AbortSignal.abort());
    assert.ok(stopped.stopped && stopped.step === 1);
    const begun = stopped.states.get(1)!;
    await store.save(1, { weights: begun.ema, state: begun });
    const { alignmentMomentum } = resolveSchedule(FEW);
    const like = initAutoencoderState(new Rng(0), config, alignmentMomentum);
    const { state } = await store.load(1, { weights: like.ema, state: like });
    const rest = await run(state);
    assert.equal(rest.step, 6);
    for (const step of [4, 6]) assertSameBits(rest.states.get(step), whole.states.get(step));
    assertSameBits(rest.params, whole.params);
    assert.deepEqual([rest.stats, rest.alignment, rest.curve], [whole.stats, whole.alignment, whole.curve]);
  } finally {
    await encoder.dispose();
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("features that are computed once give each training the bits of its own", async () => {
  const encoder = tinyEncoder(), config = tinyConfig("svg"), images = new DiscImages(20);
  const run = (features: FeatureSource) =>
    trainAutoencoder({
      config,
      schedule: { ...FEW, flip: true },
      train: images,
      heldOut: images,
      encoder,
      features,
      device: "cpu",
      evaluations: 1,
    });
  try {
    const views = openImageViews(images, { framing: autoencoderFraming(config.imageSize) });
    const features = await middleFeatures(views, encoder, { flip: true });
    assert.deepEqual(features.shape, [40, 16, 16]);
    const own = await run("memory"), shared = await run(features);
    assertSameBits(shared.params, own.params);
    assert.deepEqual([shared.stats, shared.alignment, shared.curve], [own.stats, own.alignment, own.curve]);
    const plain = await middleFeatures(views, encoder, { flip: false });
    await assert.rejects(run(plain), {
      name: "ConfigError",
      message: "Cannot train svg: features must be of shape [40, 16, 16], got [20, 16, 16]",
    });
  } finally {
    await encoder.dispose();
  }
});

Deno.test("a loss that is not finite stops the training with its step", async () => {
  const images = new DiscImages(8);
  const broken = {
    size: 8,
    name: "broken",
    classes: ["disc"],
    imageSize: 16,
    hash: "",
    labels: (indices: ArrayLike<number>) => images.labels(indices),
    images: (indices: ArrayLike<number>) => {
      const found = images.images(indices);
      found.data[0] = NaN;
      return found;
    },
  };
  const options = {
    config: tinyConfig("vae"),
    schedule: FEW,
    train: broken,
    heldOut: images,
    device: "cpu" as const,
  };
  await assert.rejects(trainAutoencoder(options), (error) => {
    assert.ok(error instanceof DivergenceError);
    assert.match(error.message, /step 1/);
    return true;
  });
});

Deno.test("images of another size, or none, are refused before anything runs", async () => {
  const small = new DiscImages(4);
  const config = { ...tinyConfig("vae"), imageSize: 32 };
  const options = { config, schedule: FEW, train: small, heldOut: small };
  await assert.rejects(trainAutoencoder(options), ConfigError);
  await assert.rejects(
    trainAutoencoder({ ...options, config: tinyConfig("vae"), train: new DiscImages(0) }),
    /at least one image/,
  );
});

Deno.test("an epoch shows each image once, and orders do not depend on how they are asked for", () => {
  const order = new EpochOrder(new Rng(1), 10);
  const epoch = order.indices(0, 10), next = order.indices(10, 10);
  assert.deepEqual([...epoch].sort(), [...upTo(10)]);
  assert.deepEqual([...next].sort(), [...upTo(10)]);
  assert.notDeepEqual(epoch, next);
  const again = new EpochOrder(new Rng(1), 10);
  assert.deepEqual([...again.indices(7, 6)], [...epoch.slice(7), ...next.slice(0, 3)]);
});

Deno.test("batches are pure functions of the step; masked share and cached features are right", async () => {
  const encoder = tinyEncoder(), dataset = new DiscImages(30), config = tinyConfig("svg");
  try {
    const schedule = { ...resolveSchedule({ images: 1, batchSize: 16, flip: true }), config };
    const shared = { ...schedule, learningRate: () => 1, emaDecay: () => 1 };
    const views = { flip: true, crop: "center", resize: null } as const;
    const prepare = (features: "memory" | "online") =>
      TrainingImages.prepare(dataset, config, { encoder, ...views, features, cacheBytes: 0 });
    const kept = batchSource(await prepare("memory"), shared),
      online = batchSource(await prepare("online"), shared);
    const first = await kept(3);
    assertSameBits(await batchSource(await prepare("memory"), shared)(3), first);
    const computed = await online(3);
    assertSameBits(computed.imageUnitBHWC, first.imageUnitBHWC);
    for (let i = 0; i < first.featuresBND!.data.length; i++) {
      assert.ok(Math.abs(first.featuresBND!.data[i] - computed.featuresBND!.data[i]) < 1e-4);
    }
    let masked = 0;
    for (let step = 0; step < 100; step++) {
      const { maskB } = await kept(step);
      for (const value of maskB!.data) masked += value;
    }
    assert.ok(masked / 1600 > 0.07 && masked / 1600 < 0.13, `${masked} of 1600 masked`);
  } finally {
    await encoder.dispose();
  }
});
