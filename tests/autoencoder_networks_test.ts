import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  alignmentStats,
  alignResidual,
  alignToBatch,
  type ConvEncoderParams,
  countDecoderParams,
  countParameters,
  countResidualParams,
  decodeLatents,
  type DecoderConfig,
  type DecoderParams,
  decoderScale,
  encodePosterior,
  encodeResidual,
  groupCount,
  initConvEncoder,
  initDecoder,
  initResidualEncoder,
  initResnetBlock,
  initSpatialAttention,
  klDivergence,
  maskResidual,
  PUBLISHED_DECODER,
  PUBLISHED_RESIDUAL,
  type ResidualEncoderParams,
  resnetBlock,
  type ResnetBlockParams,
  samplePosterior,
  spatialAttention,
  type SpatialAttentionParams,
  TO_CHW,
  TO_HWC,
} from "novae/autoencoder/mod.ts";
import { valueAndGrads } from "novae/nn/mod.ts";
import { ChannelMoments, type HostTensor, Rng, rows } from "novae/tensor/mod.ts";
import golden from "./golden/autoencoder.json" with { type: "json" };
import { assertClose, toTensors, wave, waveParams } from "./autoencoder_fixture.ts";

await tf.setBackend("cpu");

/** float32 against the float64 of the golden file, a few dozen operations deep. */
const TOLERANCE = 1e-4;
const GOLDEN_DECODER: DecoderConfig = {
  channels: [12, 8],
  blocks: 1,
  midAttention: true,
  attentionLevels: 1,
  outPatch: 1,
};

const tensor = (host: HostTensor): tf.Tensor => toTensors(host);

/** Parameters filled as in the golden file. */
const filled = <R>(params: unknown): R => toTensors<R>(waveParams(params));

Deno.test("the residual block and the attention equal PyTorch's", () => {
  const channelsFirst = (shape: number[]) => tf.transpose(tensor(wave(shape, "x")), TO_CHW);
  const block = filled<ResnetBlockParams>(initResnetBlock(new Rng(0), 8, 4));
  const blockY = tf.transpose(resnetBlock(channelsFirst([2, 6, 5, 8]), block), TO_HWC);
  assertClose(blockY.dataSync(), golden.block.y.data, TOLERANCE);
  const attention = filled<SpatialAttentionParams>(initSpatialAttention(new Rng(0), 8));
  const attentionY = tf.transpose(spatialAttention(channelsFirst([2, 3, 4, 8]), attention), TO_HWC);
  assertClose(attentionY.dataSync(), golden.attention.y.data, TOLERANCE);
});

Deno.test("the decoder and its gradients equal PyTorch's", () => {
  const params = filled<DecoderParams>(initDecoder(new Rng(0), GOLDEN_DECODER, 5));
  const z = tensor(wave([2, 4, 4, 5], "z"));
  assertClose(decodeLatents(z, params).dataSync(), golden.decoder.y.data, TOLERANCE);
  const { grads } = valueAndGrads(
    (at: { z: tf.Tensor; params: DecoderParams }) => ({
      loss: tf.mul(tf.mean(tf.abs(decodeLatents(at.z, at.params))), 10) as tf.Scalar,
      aux: {},
    }),
    { z, params },
  );
  const found: [tf.Tensor, { data: number[] }][] = [
    [grads.z, golden.decoder.gradZ],
    [grads.params.convIn.weight, golden.decoder.gradConvIn],
    [grads.params.levels[0].upsample!.weight, golden.decoder.gradUpsample],
    [grads.params.normOut.weight, golden.decoder.gradNormOut],
  ];
  for (const [gradient, wanted] of found) assertClose(gradient.dataSync(), wanted.data, TOLERANCE);
});

Deno.test("with patches the decoder gives blocks of pixels, in the published order of the levels", () => {
  const config = { ...GOLDEN_DECODER, outPatch: 2 };
  const params = toTensors<DecoderParams>(initDecoder(new Rng(0), config, 5));
  assert.deepEqual(decodeLatents(tensor(wave([1, 4, 4, 5], "z")), params).shape, [1, 16, 16, 3]);
  assert.equal(decoderScale(config), 4);
  assert.equal(decoderScale(PUBLISHED_DECODER), 16);
});

Deno.test("the variational encoder and its divergence equal PyTorch's", () => {
  const mirrored = { ...GOLDEN_DECODER, channels: [12, 8] };
  const params = filled<ConvEncoderParams>(initConvEncoder(new Rng(0), mirrored, 3));
  const posterior = encodePosterior(tensor(wave([2, 8, 8, 3], "x")), params);
  assertClose(posterior.meanBNZ.dataSync(), golden.encoder.mean.data, TOLERANCE);
  assertClose(posterior.logVarianceBNZ.dataSync(), golden.encoder.logVariance.data, TOLERANCE);
  assertClose(klDivergence(posterior).dataSync(), [golden.encoder.kl], TOLERANCE);
});

Deno.test("the divergence has its closed form, and a sample its mean and spread", () => {
  const meanBNZ = tf.tensor3d([[[1, -2]]]), logVarianceBNZ = tf.tensor3d([[[Math.log(4), Math.log(0.25)]]]);
  const posterior = { meanBNZ, logVarianceBNZ };
  // Per value: (mean² + variance − 1 − ln variance) / 2.
  const wanted = (1 + 4 - 1 - Math.log(4)) / 2 + (4 + 0.25 - 1 + Math.log(4)) / 2;
  assertClose(klDivergence(posterior).dataSync(), [wanted], 1e-6);
  const standard = { meanBNZ: tf.zeros([3, 4, 2]), logVarianceBNZ: tf.zeros([3, 4, 2]) };
  assert.equal(klDivergence(standard).dataSync()[0], 0);
  assertClose(samplePosterior(posterior, tf.tensor3d([[[1, -1]]])).dataSync(), [3, -2.5], 1e-6);
});

Deno.test("the residual encoder equals PyTorch's vision transformer with a class token", () => {
  const config = { ...PUBLISHED_RESIDUAL, channels: 3, width: 12, depth: 2, heads: 3, mlpRatio: 2 };
  const params = filled<ResidualEncoderParams>(initResidualEncoder(new Rng(0), config, 4, 16));
  const y = encodeResidual(tensor(wave([2, 16, 16, 3], "x")), params, config);
  assert.deepEqual(y.shape, golden.residual.y.shape);
  assertClose(y.dataSync(), golden.residual.y.data, TOLERANCE);
  const { classToken: _, ...rest } = initResidualEncoder(new Rng(0), config, 4, 16);
  const without = { ...toTensors<ResidualEncoderParams>(rest), positions: tf.zeros([1, 16, 12]) };
  const plain = encodeResidual(tensor(wave([2, 16, 16, 3], "x")), without, config);
  assert.deepEqual(plain.shape, [2, 16, 3]);
});

Deno.test("masking replaces the residual of the chosen images by the token, and no other", () => {
  const r = tensor(wave([3, 4, 2], "r")), token = tf.tensor3d([[[7, 8]]]);
  const masked = maskResidual(r, token, tf.tensor1d([0, 1, 0])).arraySync() as number[][][];
  assert.deepEqual(masked[1], Array(4).fill([7, 8]));
  const before = r.arraySync() as number[][][];
  assert.deepEqual([masked[0], masked[2]], [before[0], before[2]]);
});

Deno.test("alignment and its gradient equal the paper's in PyTorch; the statistics carry no gradient", () => {
  const h = tensor(wave([3, 10, 6], "h", 1.7, 0.4)), r = tensor(wave([3, 10, 2], "r", 0.3, -2));
  const weights = tensor(wave([3, 10, 2], "w"));
  assertClose(alignToBatch(r, h).dataSync(), golden.align.y.data, 1e-5);
  const { grads } = valueAndGrads(
    (at: { r: tf.Tensor; h: tf.Tensor }) => ({
      loss: tf.sum(tf.mul(alignToBatch(at.r, at.h), weights)) as tf.Scalar,
      aux: {},
    }),
    { r, h },
  );
  assertClose(grads.r.dataSync(), golden.align.gradR.data, 1e-5);
  assert.ok(grads.h.dataSync().every((v) => v === 0));
});

Deno.test("alignment follows its formula, worked out by hand", () => {
  // Features: channels (0, 2) and (0, 6): means 1 and 3, unbiased deviations √2 and √18, so μₕ = 2, σₕ = 2√2.
  const h = tf.tensor3d([[[0, 0], [2, 6]]]);
  // Residual: one channel (5, 9): mean 7, deviation √8.
  const r = tf.tensor3d([[[5], [9]]]);
  assertClose(alignToBatch(r, h).dataSync(), [0, 4], 1e-5);
});

Deno.test("stored statistics of a whole set give what the set gives as one batch", () => {
  const h = wave([12, 10, 6], "h", 1.7, 0.4), r = wave([12, 10, 2], "r", 0.3, -2);
  const features = new ChannelMoments(6), residuals = new ChannelMoments(2);
  for (const [start, end] of [[0, 5], [5, 6], [6, 12]]) {
    features.add(rows(h, start, end));
    residuals.add(rows(r, start, end));
  }
  const stats = alignmentStats(features, residuals);
  const stored = alignResidual(r, stats).data, batch = alignToBatch(tensor(r), tensor(h)).dataSync();
  assertClose(stored, batch, 1e-5);
  // One image alone is aligned as it is in the set.
  assert.deepEqual(alignResidual(rows(r, 3, 4), stats).data, stored.slice(3 * 20, 4 * 20));
});

Deno.test("closed forms count the parameters of the published networks as PyTorch does, and of others as they are", () => {
  assert.equal(countDecoderParams(PUBLISHED_DECODER, 392), 43_076_483);
  assert.equal(golden.counts.publishedDecoder392, 43_076_483);
  assert.equal(countResidualParams(PUBLISHED_RESIDUAL, 16, 256), 11_192_840);
  assert.equal(golden.counts.publishedResidual, 11_192_840);
  const decoders: DecoderConfig[] = [
    GOLDEN_DECODER,
    {
      ...GOLDEN_DECODER,
      blocks: 2,
      midAttention: false,
      attentionLevels: 0,
      outPatch: 2,
      channels: [16, 8, 8],
    },
  ];
  for (const config of decoders) {
    assert.equal(countDecoderParams(config, 5), countParameters(initDecoder(new Rng(0), config, 5)));
  }
  for (const classToken of [true, false]) {
    const small = { ...PUBLISHED_RESIDUAL, width: 12, depth: 2, heads: 3, channels: 3, classToken };
    const { maskToken: _, ...rest } = initResidualEncoder(new Rng(0), small, 4, 16);
    assert.equal(countResidualParams(small, 4, 16), countParameters(rest));
  }
});

Deno.test("groups have at least four channels, divide them and are 32 at the published widths", () => {
  const groups = [128, 256, 512, 96, 64, 48, 32, 16, 12, 10, 4, 2].map(groupCount);
  assert.deepEqual(groups, [32, 32, 32, 24, 16, 12, 8, 4, 3, 2, 1, 1]);
});
