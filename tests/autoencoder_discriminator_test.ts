import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  adaptiveWeight,
  countParameters,
  discriminate,
  type Discriminator,
  type DiscriminatorConfig,
  discriminatorLoss,
  type DiscriminatorParams,
  type DiscriminatorState,
  discriminatorUpdate,
  expectDiscriminatorImage,
  generatorLoss,
  initDiscriminator,
  initDiscriminatorState,
  judge,
  loadDiscriminator,
  PUBLISHED_ADVERSARIAL,
  PUBLISHED_DISCRIMINATOR,
} from "novae/autoencoder/mod.ts";
import { jit, read } from "novae/engine/mod.ts";
import { openWeights, readTensors, writeSafetensors } from "novae/io/mod.ts";
import { valueAndGrads } from "novae/nn/mod.ts";
import {
  ConfigError,
  flattenTree,
  type HostTensor,
  isHostTensor,
  mapTree,
  Rng,
  scalar,
  WeightsError,
  zeros,
} from "novae/tensor/mod.ts";
import golden from "./golden/adversarial.json" with { type: "json" };
import { assertClose, DiscImages, toTensors, upTo, wave } from "./autoencoder_fixture.ts";

await tf.setBackend("cpu");

/** float32 against the float64 of the golden file. */
const TOLERANCE = 1e-4;
const FILE = "tests/golden/discriminator.ckpt"; // written by adversarial.py beside it
const PREFIX = "state_dict.loss.discriminator";

Deno.test("the published discriminator has as many parameters as PyTorch's, and starts as it does", () => {
  const { params, statistics } = initDiscriminator(new Rng(1), PUBLISHED_DISCRIMINATOR);
  assert.equal(countParameters(params), golden.count);
  const spread = (values: ArrayLike<number>, centre: number) =>
    Math.sqrt(Array.from(values).reduce((sum, v) => sum + (v - centre) ** 2, 0) / values.length);
  for (const { kernel, norm } of params.blocks) {
    assertClose([spread(kernel.data, 0)], [0.02], 0.02);
    assertClose([spread(norm.weight.data, 1)], [0.02], 0.2);
    assert.ok(norm.bias.data.every((v) => v === 0));
  }
  assertClose([spread(params.first.weight.data, 0), spread(params.last.weight.data, 0)], [0.02, 0.02], 0.05);
  // Biases uniform in ±1/√(3·4·4).
  assertClose([spread(params.first.bias.data, 0)], [48 ** -0.5 * 3 ** -0.5], 0.2);
  assert.ok(params.first.bias.data.every((v) => Math.abs(v) <= 48 ** -0.5));
  for (const { mean, variance } of statistics) {
    assert.ok(mean.data.every((v) => v === 0) && variance.data.every((v) => v === 1));
  }
});

Deno.test("a discriminator out of a checkpoint judges as PyTorch's, in training and in evaluation", async () => {
  const { config, params, statistics } = await loadDiscriminator(FILE, PREFIX), { forward } = golden;
  assert.deepEqual(config, { channels: 2, layers: 3 });
  const image = wave([2, 24, 29, 3], "image"), net = toTensors<Discriminator>({ params, statistics });
  assertClose(judge(toTensors(image), net).dataSync(), forward.evaluated.data, TOLERANCE, "evaluated");
  const run = (image: tf.Tensor, { params, statistics }: Discriminator) =>
    valueAndGrads((at: { image: tf.Tensor; params: DiscriminatorParams }) => {
      const { logits, ...after } = discriminate(at.image, { params: at.params, statistics });
      return { loss: generatorLoss(logits), aux: { logits, ...after } };
    }, { image, params });
  const compiled = jit(run, { device: "cpu" }), output = await compiled(image, { params, statistics });
  for (const { aux, grads } of [hosted(run(toTensors(image), net)), await read(output)]) {
    assert.deepEqual(aux.logits.shape, forward.logits.shape);
    assertClose(aux.logits.data, forward.logits.data, TOLERANCE, "logits");
    aux.statistics.forEach(({ mean, variance }: { mean: HostTensor; variance: HostTensor }, i: number) => {
      assertClose(mean.data, forward.statistics[i].mean.data, TOLERANCE, `mean ${i}`);
      assertClose(variance.data, forward.statistics[i].variance.data, TOLERANCE, `variance ${i}`);
    });
    assertClose(grads.image.data, forward.gradientImage.data, TOLERANCE, "image");
    const found = flattenTree<HostTensor>(grads.params, isHostTensor);
    const wanted: Record<string, { data: number[] }> = forward.gradients;
    assert.equal(found.filter(({ path }) => path in wanted).length, Object.keys(wanted).length);
    for (const { path, value } of found) {
      // A shift behind a normalisation that does not matter has a gradient of rounding errors.
      if (path in wanted) assertClose(value.data, wanted[path].data, TOLERANCE, path, 1e-2);
    }
  }
  await compiled.dispose();
});

/** The same tree with tensors in host memory. */
// deno-lint-ignore no-explicit-any -- the same form with other leaves
function hosted(tree: unknown): any {
  const isTensor = (value: unknown) => value instanceof tf.Tensor;
  return mapTree(tree, isTensor, (leaf) => {
    const tensor = leaf as tf.Tensor;
    return { dtype: "float32", shape: tensor.shape, data: tensor.dataSync() };
  });
}

for (const kind of ["hinge", "vanilla"] as const) {
  Deno.test(`the ${kind} loss and its gradients equal PyTorch's`, () => {
    const logits = { real: wave([2, 3, 2, 1], "real", 2.5), fake: wave([2, 3, 2, 1], "fake", 2.5) };
    const { loss, grads } = valueAndGrads(
      ({ real, fake }: { real: tf.Tensor; fake: tf.Tensor }) => ({
        loss: discriminatorLoss(kind, real, fake),
        aux: {},
      }),
      toTensors<{ real: tf.Tensor; fake: tf.Tensor }>(logits),
    );
    assertClose(loss.dataSync(), [golden.losses[kind].value], 1e-6);
    assertClose(grads.real.dataSync(), golden.losses[kind].real.data, 1e-6);
    assertClose(grads.fake.dataSync(), golden.losses[kind].fake.data, 1e-6);
  });
}

Deno.test("the adaptive weight equals PyTorch's, at its bounds too", () => {
  const g = toTensors<tf.Tensor>(wave([3, 4], "g"));
  for (const [a, b, weight] of golden.losses.adaptive) {
    assertClose(adaptiveWeight(tf.mul(g, a), tf.mul(g, b)).dataSync(), [weight], 1e-5, `${a} / ${b}`);
  }
});

Deno.test("a discriminator learns to tell images from noise, and gathers their statistics", async () => {
  const settings = { ...PUBLISHED_ADVERSARIAL, discriminator: { channels: 4, layers: 2 } };
  const step = jit(
    (state: DiscriminatorState, imageSigned: tf.Tensor, reconstructionSigned: tf.Tensor, rate: tf.Scalar) =>
      discriminatorUpdate(
        state,
        { imageSigned, reconstructionSigned, statistics: state.statistics, learningRate: rate },
        settings,
      ),
    { device: "cpu" },
  );
  const images = new DiscImages(16).images(upTo(16)), rng = new Rng(2);
  const noise = { ...images, data: rng.uniform(images.data.length).map((u) => 2 * u - 1) };
  let state = initDiscriminatorState(rng, settings.discriminator), loss = Infinity;
  for (let i = 0; i < 60; i++) {
    const { state: next, metrics } = await read(await step(state, images, noise, scalar(2e-3)));
    state = next as DiscriminatorState<HostTensor>;
    loss = metrics.discriminatorLoss.data[0];
  }
  assert.ok(loss < 0.2, `hinge loss ${loss} after 60 updates`);
  assert.equal(state.step.data[0], 60);
  const judged = jit((image: tf.Tensor, net: Discriminator) => tf.mean(judge(image, net), [1, 2, 3]), {
    device: "cpu",
  });
  const net = { params: state.params, statistics: state.statistics };
  const [real, fake] = [await judged(images, net), await judged(noise, net)].map((output) => output.read());
  // By the running statistics, image by image.
  assert.ok(Math.min(...(await real).data) > Math.max(...(await fake).data));
  await step.dispose();
  await judged.dispose();
});

Deno.test("images too small for a discriminator are refused, the smallest have one logit", () => {
  for (const config of [{ channels: 2, layers: 1 }, { channels: 2, layers: 3 }] as DiscriminatorConfig[]) {
    const least = 3 * 2 ** config.layers,
      net = toTensors<Discriminator>(initDiscriminator(new Rng(0), config));
    expectDiscriminatorImage(config, least);
    assert.deepEqual(judge(tf.zeros([1, least, least, 3]), net).shape, [1, 1, 1, 1]);
    assert.throws(() => expectDiscriminatorImage(config, least - 1), ConfigError);
    assert.throws(() => judge(tf.zeros([1, least, least - 1, 3]), net), {
      name: "TypeError",
      message: `Cannot judge images: a discriminator of ${config.layers} layers needs at least ` +
        `${least} × ${least} pixels, got ${least} × ${least - 1}`,
    });
  }
  assert.throws(() => expectDiscriminatorImage(PUBLISHED_DISCRIMINATOR, 16), {
    message:
      "Cannot train against a discriminator of 3 layers: images must have at least 24 × 24 pixels, got 16 × 16",
  });
});

for (
  const [what, change, message] of [
    ["without a kernel", (t) => t.delete("main.5.weight"), /missing main\.5\.weight$/],
    ["without running statistics", (t) => t.delete("main.3.running_var"), /missing main\.3\.running_var$/],
    [
      "with another kernel",
      (t) => t.set("main.2.weight", zeros([4, 2, 3, 3])),
      /misshapen main\.2\.weight: wanted \[4,2,4,4\], got \[4,2,3,3\]$/,
    ],
    ["with biases of its own", (t) => t.set("main.2.bias", zeros([4])), /unexpected main\.2\.bias$/],
    ["with more beside it", (t) => t.set("logvar", zeros([])), /unexpected logvar$/],
    [
      "that is none",
      (t) => t.delete("main.0.bias"),
      /it must hold a PatchGAN discriminator \(main\.0\.weight, main\.0\.bias, .*, got main\.0\.weight, main\.11\.bias, /,
    ],
    [
      "with a layer that is no layer",
      (t) => t.set("main.12.weight", zeros([1])),
      /it must hold a PatchGAN discriminator/,
    ],
  ] as [string, (tensors: Map<string, HostTensor>) => void, RegExp][]
) {
  Deno.test(`a file of a discriminator ${what} is refused`, async () => {
    const tensors = await readTensors((await openWeights(FILE, { prefix: PREFIX })).tensors);
    change(tensors);
    const path = await Deno.makeTempFile({ suffix: ".safetensors" });
    await writeSafetensors(path, tensors);
    await assert.rejects(loadDiscriminator(path), (error: Error) => {
      assert.ok(error instanceof WeightsError, String(error.stack));
      assert.match(error.message, message);
      return error.message.startsWith(`Cannot load discriminator ${path}: `);
    });
    await Deno.remove(path);
  });
}

Deno.test("a discriminator under another prefix, or in no file, is refused", async () => {
  await assert.rejects(
    loadDiscriminator(FILE, "state_dict.discriminator"),
    /names must begin with "state_dict\.disc/,
  );
  await assert.rejects(loadDiscriminator(FILE), WeightsError);
  await assert.rejects(loadDiscriminator("nowhere.ckpt"), WeightsError);
});
