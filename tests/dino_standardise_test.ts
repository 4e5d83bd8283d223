import assert from "node:assert/strict";
import { DinoEncoder, initVit, standardiseFeatures, VIT_SIZES } from "novae/dino/mod.ts";
import { asMatrix, ChannelMoments, float32, type HostTensor, Rng } from "novae/tensor/mod.ts";

const CONFIG = VIT_SIZES.tiny;

function images(count: number, seed: number): HostTensor {
  return float32(new Rng(seed).uniform(count * 16 * 16 * 3), [count, 16, 16, 3]);
}

async function features(params: ReturnType<typeof initVit>, imageUnitBHWC: HostTensor) {
  const encoder = new DinoEncoder(CONFIG, params, { device: "cpu" });
  const found = await encoder.features(imageUnitBHWC);
  await encoder.dispose();
  return found;
}

Deno.test("standardised patch tokens have mean 0 and deviation 1 in each channel over the images given", async () => {
  const params = initVit(new Rng(0), CONFIG), given = images(12, 1);
  const before = structuredClone(params);
  const batches = [images(12, 1)];
  const changed = await standardiseFeatures(CONFIG, params, batches, { device: "cpu" });
  const moments = new ChannelMoments(CONFIG.width);
  moments.add((await features(changed, given)).patchesBND);
  for (const mean of moments.mean()) assert.ok(Math.abs(mean) < 1e-4, `mean ${mean}`);
  for (const std of moments.std()) assert.ok(Math.abs(std - 1) < 1e-4, `deviation ${std}`);
  assert.deepEqual(params, before);
});

Deno.test("standardising is one affine map of each channel for patch and class tokens, of images never seen too", async () => {
  const params = initVit(new Rng(0), CONFIG), seen = images(12, 1), other = images(3, 2);
  const changed = await standardiseFeatures(CONFIG, params, [seen], { device: "cpu" });
  const moments = new ChannelMoments(CONFIG.width);
  moments.add((await features(params, seen)).patchesBND);
  const mean = moments.mean(), std = moments.std();
  const [raw, standardised] = [await features(params, other), await features(changed, other)];
  for (const [x, y] of [[raw.clsBD, standardised.clsBD], [raw.patchesBND, standardised.patchesBND]]) {
    const [from, to] = [asMatrix(x, x.shape.length - 1), asMatrix(y, y.shape.length - 1)];
    for (let i = 0; i < from.data.length; i++) {
      const channel = i % CONFIG.width, wanted = (from.data[i] - mean[channel]) / std[channel];
      assert.ok(Math.abs(to.data[i] - wanted) < 1e-3 * (1 + Math.abs(wanted)));
    }
  }
});

Deno.test("batches give the statistics of the whole, and none of it is refused", async () => {
  const params = initVit(new Rng(0), CONFIG), [a, b] = [images(5, 3), images(7, 4)];
  const both = float32([...a.data, ...b.data], [12, 16, 16, 3]);
  const split = await standardiseFeatures(CONFIG, params, [a, b], { device: "cpu" });
  const whole = await standardiseFeatures(CONFIG, params, [both], { device: "cpu" });
  for (const name of ["weight", "bias"] as const) {
    const [found, wanted] = [split.norm[name].data, whole.norm[name].data];
    found.forEach((value, i) => assert.ok(Math.abs(value - wanted[i]) < 1e-4 * (1 + Math.abs(wanted[i]))));
  }
  await assert.rejects(standardiseFeatures(CONFIG, params, [], { device: "cpu" }), /at least two vectors/);
  const gains = float32(new Float32Array(CONFIG.width), [CONFIG.width]);
  const flat = { ...params, norm: { ...params.norm, weight: gains } };
  await assert.rejects(
    standardiseFeatures(CONFIG, flat, [a], { device: "cpu" }),
    /Cannot standardise features: channel 0 is the same in all tokens/,
  );
});
