/** SVG's autoencoder against PyTorch modules that carry the names of its released files: values and gradients. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  alignToBatch,
  type AutoencoderBatch,
  type AutoencoderConfig,
  autoencoderLoss,
  type AutoencoderParams,
  decodeTokens,
  drawDropout,
  type DropoutMasks,
  encodeResidual,
  loadPublishedSvg,
  maskResidual,
  readPublishedWeights,
} from "novae/autoencoder/mod.ts";
import { imageDinoFromUnit, weightSource } from "novae/dino/mod.ts";
import { jit, read } from "novae/engine/mod.ts";
import { valueAndGrads } from "novae/nn/mod.ts";
import {
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  mapTree,
  Rng,
  rows,
  scalar,
  zeros,
} from "novae/tensor/mod.ts";
import { assertClose, toTensors } from "./autoencoder_fixture.ts";
import { checkpointTensors, goldenTensors, SMALL, SMALL_OPTIONS, STATS } from "./svg_published_fixture.ts";

await tf.setBackend("cpu");

/** float32 against the float64 of the golden files. */
const TOLERANCE = 1e-4;
const golden = await goldenTensors("outputs");
const of = (name: string): HostTensor => golden.get(name)!;
const { params } = await readPublishedWeights(weightSource(await checkpointTensors()), SMALL);
const WITHOUT_DROPOUT: AutoencoderConfig = {
  ...SMALL,
  residual: { ...SMALL.residual!, dropout: 0, attentionDropout: 0 },
};

/** The masks of the golden file: their form is that of masks that are drawn, their values follow a rule. */
function goldenMasks(): DropoutMasks<HostTensor> {
  const drawn = drawDropout(new Rng(0), SMALL.residual!, 3, 16);
  return mapTree<typeof drawn>(drawn, isHostTensor, (leaf, path) => {
    const { dtype, shape, data } = leaf as HostTensor;
    const phase = [...path].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
    return { dtype, shape, data: data.map((_, i) => (i * i * 5 + i * 3 + phase) % 97 % 10 === 0 ? 0 : 1) };
  });
}

/** The second of three images loses its residual. */
function goldenBatch(dropout?: DropoutMasks<HostTensor>): AutoencoderBatch<HostTensor> {
  return {
    imageUnitBHWC: of("image.unit"),
    featuresBND: of("features"),
    maskB: float32([0, 1, 0], [3]),
    learningRate: scalar(0),
    emaDecay: scalar(0),
    ...(dropout && { dropout }),
  };
}

const toHost = <P>(tree: P): AutoencoderParams<HostTensor> =>
  mapTree(tree, (leaf) => leaf instanceof tf.Tensor, (leaf) => {
    const tensor = leaf as tf.Tensor;
    return float32(tensor.dataSync().slice() as Float32Array, tensor.shape);
  });

/** The loss of the golden file: ten times the mean absolute difference. */
const L1 = { l1: 10, mse: 0, gradient: 0, multiScale: 0, perceptual: 0 };

for (const which of ["plain", "dropout"] as const) {
  const config = which === "plain" ? WITHOUT_DROPOUT : SMALL;
  const masks = which === "plain" ? undefined : goldenMasks();

  Deno.test(`residual, aligned latents and image equal PyTorch's in training (${which})`, () => {
    tf.tidy(() => {
      const tensors = toTensors<AutoencoderParams>(params),
        imageDino = imageDinoFromUnit(toTensors(of("image.unit")));
      const dropped = masks && toTensors<DropoutMasks>(masks);
      const r = encodeResidual(imageDino, tensors.residual!, config.residual!, dropped);
      assertClose(r.dataSync(), of(`${which}.residual`).data, TOLERANCE, "residual");
      const features = toTensors<tf.Tensor>(of("features"));
      const masked = maskResidual(r, tensors.residual!.maskToken, tf.tensor1d([0, 1, 0]));
      const z = tf.concat([features, alignToBatch(masked, features)], 2);
      assertClose(z.dataSync(), of(`${which}.z`).data, TOLERANCE, "z");
      const y = decodeTokens(z, tensors.decoder, config.decoder.groups);
      assertClose(y.dataSync(), of(`${which}.y`).data, TOLERANCE, "y");
    });
  });

  Deno.test(`all gradients of a training step equal PyTorch's, eager and compiled (${which})`, async () => {
    const gradients = await goldenTensors(`${which}.gradients`);
    for (const [name, { shape }] of await checkpointTensors()) { // those of the decoder are kept once
      if (gradients.has(name) || !/^(decoder\.|mask_token)/.test(name)) continue;
      gradients.set(name, zeros(shape));
    }
    const wanted = (await readPublishedWeights(weightSource(gradients), SMALL)).params;
    const evaluate = (p: AutoencoderParams, batch: AutoencoderBatch) =>
      valueAndGrads(
        (at: AutoencoderParams) => autoencoderLoss(at, batch, { config, reconstruction: L1 }),
        p,
      ).grads;
    const compiled = jit(evaluate, { device: "cpu" });
    try {
      const graph = await read(await compiled(params, goldenBatch(masks))) as AutoencoderParams<HostTensor>;
      const eager = toHost(evaluate(toTensors(params), toTensors(goldenBatch(masks))));
      for (const [how, got] of [["eager", eager], ["compiled", graph]] as const) {
        for (const part of which === "plain" ? ["decoder", "residual"] as const : ["residual"] as const) {
          const leaves = flattenTree<HostTensor>(wanted[part], isHostTensor);
          flattenTree<HostTensor>(got[part], isHostTensor).forEach(({ path, value }, i) => {
            assert.equal(path, leaves[i].path);
            if (which === "dropout" && path === "maskToken") return;
            // A key's bias shifts all logits alike: its gradient is zero but for rounding.
            const least = /key\.bias$/.test(path) ? 1e-3 : 0;
            assertClose(value.data, leaves[i].value.data, TOLERANCE, `${how} ${part}.${path}`, least);
          });
        }
      }
    } finally {
      await compiled.dispose();
    }
  });
}

Deno.test("an opened checkpoint encodes with the statistics of the batch and decodes as PyTorch does", async () => {
  const { autoencoder, encoder, ignored } = await loadPublishedSvg({ ...SMALL_OPTIONS, stats: STATS });
  try {
    assert.deepEqual(autoencoder.config, SMALL);
    assert.deepEqual(ignored.toSorted(), [
      "loss.discriminator.main.0.bias",
      "loss.discriminator.main.0.weight",
      "loss.discriminator.main.2.bias",
      "loss.discriminator.main.2.weight",
      "loss.discriminator.main.3.bias",
      "loss.discriminator.main.3.num_batches_tracked",
      "loss.discriminator.main.3.running_mean",
      "loss.discriminator.main.3.running_var",
      "loss.discriminator.main.3.weight",
      "loss.logvar",
      "loss.perceptual_loss.lin0.model.1.weight",
      "loss.perceptual_loss.net.slice1.0.bias",
      "loss.perceptual_loss.net.slice1.0.weight",
      "loss.perceptual_loss.scaling_layer.shift",
      "norm_vit.bias",
      "norm_vit.weight",
    ]);
    const { patchesBND } = await encoder.features(of("image.unit"));
    assertClose(patchesBND.data, of("features").data, TOLERANCE, "features");
    const z = await autoencoder.encode(of("image.unit"));
    assert.deepEqual(z.shape, [3, 16, 32]);
    assertClose(z.data, of("evaluated.z").data, TOLERANCE, "z");
    const image = await autoencoder.decode(z);
    const wanted = (of("evaluated.y").data as Float32Array).map((v) => Math.min(Math.max((v + 1) / 2, 0), 1));
    assertClose(image.data, wanted, TOLERANCE, "image");
    // The statistics of the golden file were taken of these latents.
    for (let c = 0; c < 32; c++) {
      let sum = 0;
      for (let i = c; i < z.data.length; i += 32) sum += z.data[i] / 48;
      assert.ok(Math.abs(sum - autoencoder.stats.mean[c]) < 1e-3);
    }
  } finally {
    await autoencoder.dispose();
    await encoder.dispose();
  }
});

Deno.test("statistics measured on the whole set give what the set gives as one batch, also image by image", async () => {
  const images = of("image.unit");
  const measured = await loadPublishedSvg({
    ...SMALL_OPTIONS,
    alignment: { images: [rows(images, 0, 1), rows(images, 1, 3)] },
  });
  const { autoencoder, encoder } = measured;
  try {
    const stored = await autoencoder.encode(images);
    assertClose(stored.data, of("evaluated.z").data, TOLERANCE, "stored");
    const batch = await autoencoder.encode(images, { alignment: "batch" });
    assertClose(stored.data, batch.data, 1e-5, "batch");
    for (let i = 0; i < 3; i++) {
      const alone = await autoencoder.encode(rows(images, i, i + 1));
      assertClose(alone.data, rows(stored, i, i + 1).data, 1e-5, "alone");
      const own = await autoencoder.encode(rows(images, i, i + 1), { alignment: "batch" });
      assert.ok(
        own.data.some((v, k) => Math.abs(v - alone.data[k]) > 1e-2),
        "a batch of one has its own statistics",
      );
    }
    assert.equal(autoencoder.stats.count, 48);
    const again = await loadPublishedSvg({ ...SMALL_OPTIONS, encoder, alignment: autoencoder.alignment });
    assert.deepEqual(await again.autoencoder.encode(images), stored);
    assert.equal(again.encoder, encoder);
    await again.autoencoder.dispose();
  } finally {
    await autoencoder.dispose();
    await encoder.dispose();
  }
});

Deno.test("masks of the dropout keep their share, differ between places and repeat with the seed", () => {
  const draw = (seed: number) => drawDropout(new Rng(seed), { ...SMALL.residual!, dropout: 0.25 }, 40, 16);
  const leaves = flattenTree<HostTensor>(draw(1), isHostTensor);
  assert.deepEqual(leaves.map(({ path, value }) => `${path} ${value.shape}`), [
    "tokens 40,17,24",
    ...[0, 1].flatMap((i) => [
      `blocks.${i}.attention 40,3,17,17`,
      `blocks.${i}.attended 40,17,24`,
      `blocks.${i}.hidden 40,17,48`,
      `blocks.${i}.added 40,17,24`,
    ]),
  ]);
  for (const { path, value: { data } } of leaves) {
    const share = (data as Uint8Array).reduce((sum, kept) => sum + kept, 0) / data.length;
    const wanted = path.endsWith("attention") ? 0.9 : 0.75;
    // Five standard errors of the smallest mask.
    assert.ok(Math.abs(share - wanted) < 5 * Math.sqrt(0.25 * 0.75 / 16_320), `${path}: ${share}`);
  }
  assert.notDeepEqual(leaves[2].value.data, leaves[4].value.data);
  assert.deepEqual(draw(1), draw(1));
  assert.notDeepEqual(draw(1).tokens, draw(2).tokens);
});

Deno.test("a training step of an encoder with dropout needs its masks", () => {
  const evaluate = () =>
    autoencoderLoss(toTensors(params), toTensors(goldenBatch()), {
      config: SMALL,
      reconstruction: L1,
    });
  assert.throws(() => tf.tidy(() => evaluate().loss), {
    name: "TypeError",
    message: "Cannot train svg: masks of its dropout are needed in the batch, got none",
  });
});
