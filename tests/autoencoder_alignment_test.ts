import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  type AlignmentStats,
  alignToBatch,
  alignToRunning,
  initAutoencoderState,
  trainAutoencoder,
} from "novae/autoencoder/mod.ts";
import { jit, read } from "novae/engine/mod.ts";
import { isTensor, stopGradient, valueAndGrads } from "novae/nn/mod.ts";
import { ConfigError, float32, type HostTensor, mapTree, Rng, scalar } from "novae/tensor/mod.ts";
import golden from "./golden/running_alignment.json" with { type: "json" };
import { assertClose, DiscImages, tinyConfig, tinyEncoder, toTensors, wave } from "./autoencoder_fixture.ts";

await tf.setBackend("cpu");

interface Inputs<T> {
  residual: T;
  token: T;
  features: T;
  step: T;
  stats: AlignmentStats<T>;
}

/** What an update of the golden file gives. */
interface Outputs<T> {
  aligned: T;
  next: AlignmentStats<T>;
  r: T;
  token: T;
}

function update({ residual, token, features, step, stats }: Inputs<tf.Tensor>): Outputs<tf.Tensor> {
  const weights = toTensors<tf.Tensor>(wave([3, 10, 2], "w"));
  const { grads, aux } = valueAndGrads((at: { r: tf.Tensor; token: tf.Tensor }) => {
    const masked = tf.concat([tf.slice(at.r, 0, 2), tf.broadcastTo(at.token, [1, 10, 2])]);
    const { aligned, stats: next } = alignToRunning(masked, at.r, features, {
      stats,
      momentum: golden.momentum,
      step,
    });
    return { loss: tf.sum(tf.mul(aligned, weights)) as tf.Scalar, aux: { aligned, next } };
  }, { r: residual, token });
  return { ...aux, ...grads };
}

/** Runs the golden file's updates one after the other, each with the statistics that the last one left. */
async function assertGolden(run: (inputs: Inputs<HostTensor>) => Promise<unknown>): Promise<void> {
  const zero = scalar(0);
  let stats: AlignmentStats<HostTensor> = {
    featureMean: zero,
    featureStd: zero,
    residualMean: zero,
    residualStd: zero,
  };
  for (const [i, wanted] of golden.updates.entries()) {
    const found = await run({
      residual: wave([3, 10, 2], `r${i}`, 0.3 + i, -2),
      token: wave([2], `t${i}`),
      features: wave([3, 10, 6], `h${i}`, 1.7, 0.4 + i),
      step: scalar(i),
      stats,
    }) as Outputs<HostTensor>;
    stats = found.next;
    const { featureMean, featureStd, residualMean, residualStd } = stats;
    assertClose(
      [featureMean, featureStd, residualMean, residualStd].map((s) => s.data[0]),
      wanted.stats,
      1e-5,
    );
    assertClose(found.aligned.data, wanted.y, 1e-5);
    assertClose(found.r.data, wanted.gradR, 1e-4);
    assertClose(found.token.data, wanted.gradToken, 1e-4);
  }
}

Deno.test("alignment by running statistics, its gradients and the statistics equal PyTorch's", async () => {
  await assertGolden((inputs) => {
    const found = update(toTensors(inputs));
    return Promise.resolve(
      mapTree(found, isTensor, (leaf) => {
        const { shape } = leaf as tf.Tensor;
        return float32((leaf as tf.Tensor).dataSync<"float32">(), shape);
      }),
    );
  });
});

Deno.test("compiled, alignment by running statistics gives the same", async () => {
  const compiled = jit(update, { device: "cpu" });
  await assertGolden(async (inputs) => await read(await compiled(inputs)));
  await compiled.dispose();
});

Deno.test("without momentum the running alignment has the value of the batch's own", () => {
  const r = toTensors<tf.Tensor>(wave([3, 10, 2], "r", 0.3, -2)),
    h = toTensors<tf.Tensor>(wave([3, 10, 6], "h"));
  const far = toTensors<tf.Tensor>(scalar(9));
  const stats = { featureMean: far, featureStd: far, residualMean: far, residualStd: far };
  const { aligned } = alignToRunning(r, r, h, { stats, momentum: 0, step: far });
  assertClose(aligned.dataSync(), alignToBatch(r, h).dataSync(), 1e-5);
});

Deno.test("a residual's scale has no gradient under running statistics, and a constant residual a finite one", () => {
  const h = toTensors<tf.Tensor>(wave([3, 10, 6], "h")), zero = tf.scalar(0);
  const stats = { featureMean: zero, featureStd: zero, residualMean: zero, residualStd: zero };
  const gradient = (r: tf.Tensor, scale: number) =>
    valueAndGrads((at: { scale: tf.Tensor }) => {
      const scaled = tf.mul(r, at.scale);
      const { aligned } = alignToRunning(scaled, scaled, h, { stats, momentum: 0.9, step: zero });
      return {
        loss: tf.sum(tf.mul(aligned, toTensors<tf.Tensor>(wave([3, 10, 2], "w")))) as tf.Scalar,
        aux: {},
      };
    }, { scale: tf.scalar(scale) }).grads.scale.dataSync()[0];
  const r = toTensors<tf.Tensor>(wave([3, 10, 2], "r", 0.3, -2));
  assert.ok(Math.abs(gradient(r, 5)) < 1e-4);
  assert.ok(Number.isFinite(gradient(tf.zerosLike(r), 1)));
});

Deno.test("a stopped gradient leaves the value and is a constant to the loss", () => {
  const { loss, grads } = valueAndGrads(
    (at: { x: tf.Tensor }) => ({ loss: tf.sum(tf.mul(at.x, stopGradient(at.x))) as tf.Scalar, aux: {} }),
    { x: tf.tensor1d([2, -3]) },
  );
  assert.equal(loss.dataSync()[0], 13);
  assert.deepEqual([...grads.x.dataSync()], [2, -3]);
});

Deno.test("a training carries running statistics unless each batch is to be aligned by its own", async () => {
  const config = tinyConfig("svg"), rng = new Rng(0);
  assert.equal(initAutoencoderState(rng, config).alignment, undefined);
  assert.equal(initAutoencoderState(rng, tinyConfig("svg-noalign"), 0.99).alignment, undefined);
  const encoder = tinyEncoder(), images = new DiscImages(20);
  const kept: (number | undefined)[] = [];
  for (const alignmentMomentum of [0, 0.9]) {
    await trainAutoencoder({
      config,
      schedule: { images: 32, batchSize: 8, alignmentMomentum },
      train: images,
      heldOut: images,
      encoder,
      device: "cpu",
      evaluations: 1,
      onCheckpoint: ({ alignment }) => void kept.push(alignment?.residualStd.data[0]),
    });
  }
  assert.equal(kept[0], undefined);
  assert.ok(kept[1]! > 0);
  for (const alignmentMomentum of [-0.1, 1, NaN]) {
    const options = { config, train: images, heldOut: images, encoder, device: "cpu" as const };
    await assert.rejects(
      trainAutoencoder({ ...options, schedule: { images: 8, alignmentMomentum } }),
      (error: Error) =>
        error instanceof ConfigError && /alignmentMomentum must be in \[0, 1\)/.test(error.message),
    );
  }
  await encoder.dispose();
});
