/** Options of the diffusion transformer: numbers of parameters, initial weights, training, and what is refused. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  countParameters,
  dit,
  DIT_SIZES,
  type DitConfig,
  ditConfig,
  type DitParams,
  type DitSize,
  initDiffusionState,
  initDit,
  trainDiffusion,
} from "novae/diffusion/mod.ts";
import {
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  mapTree,
  Rng,
  sizeOf,
} from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const toTf = <T>(tree: unknown): T =>
  mapTree<T>(tree, isHostTensor, (leaf) => {
    const { data, shape, dtype } = leaf as HostTensor;
    return tf.tensor(data, [...shape], dtype);
  });

/** Sines of the index. */
function wave(shape: readonly number[], phase: number): HostTensor {
  const data = Float32Array.from(
    { length: sizeOf(shape) },
    (_, i) => Math.sin(12.9898 * (i + 1) + 78.233 * (phase + 1)),
  );
  return float32(data, shape);
}

/** Parameters by their sums: of each block, of the embeddings, of positions and of the output. */
function closedCount(c: DitConfig): number {
  const { width: D, patchSize: p = 1, head, classes, channels: C } = c;
  const rms = c.norm === "rms", gated = c.mlp === "swiglu", fourier = c.timeFeatures === "fourier";
  const block = (d: number, A: number) => {
    const f = gated ? Math.trunc(2 / 3 * d * c.mlpRatio) : d * c.mlpRatio;
    const mlp = gated ? 3 * d * f + 2 * f + d : 2 * d * f + f + d;
    return 4 * d * d + 4 * d + mlp + 6 * d * d + 6 * d + (rms ? 2 * d : 0) +
      (c.qkNorm ? (rms ? 2 : 4) * d / A : 0);
  };
  const input = p * p * C, last = head?.width ?? D;
  const output = input * (c.learnSigma ? 2 : 1) * (last + 1) + 2 * last * last + 2 * last + (rms ? last : 0);
  const wide = head
    ? head.depth * block(head.width, head.heads) + input * head.width + head.width +
      (head.width === D ? 0 : D * head.width + head.width)
    : 0;
  const times = (fourier ? 512 + D : 256 + D) * D + 2 * D + (fourier ? 256 : 0);
  return times + (classes + 1) * D + (c.grid / p) ** 2 * D + input * D + D + c.depth * block(D, c.heads) +
    wide + output;
}

/** Options beside each other and all together. */
const VARIANTS: readonly Partial<DitConfig>[] = [
  {},
  { learnSigma: true, qkNorm: false },
  { patchSize: 2, learnSigma: true },
  { norm: "rms" },
  { mlp: "swiglu" },
  { rope: true },
  { timeFeatures: "fourier" },
  { head: { width: 48, depth: 2, heads: 4 } },
  {
    head: { width: 32, depth: 1, heads: 4 },
    norm: "rms",
    mlp: "swiglu",
    rope: true,
    timeFeatures: "fourier",
  },
  { patchSize: 2, head: { width: 64, depth: 1, heads: 2 }, norm: "rms", learnSigma: true },
];
const BASE = { channels: 3, grid: 4, classes: 2 };

Deno.test("each option has the number of parameters that a closed form gives, and starts at velocity zero", () => {
  const published = { channels: 392, grid: 16, classes: 1000, learnSigma: true };
  for (const size of Object.keys(DIT_SIZES) as DitSize[]) {
    const config = ditConfig(size, published);
    assert.equal(countParameters(config).total, closedCount(config), size);
  }
  for (const variant of VARIANTS) {
    const config = ditConfig("tiny", { ...BASE, ...variant }), params = initDit(new Rng(3), config);
    const { learned, fixed, total } = countParameters(config);
    assert.equal(total, closedCount(config), JSON.stringify(variant));
    const held = flattenTree<HostTensor>(params, isHostTensor).reduce(
      (sum, l) => sum + l.value.data.length,
      0,
    );
    const positions = (config.grid / (config.patchSize ?? 1)) ** 2 * config.width;
    assert.equal(held, learned + fixed - positions);
    tf.tidy(() => {
      const z = tf.randomNormal([2, 16, 3]), labels = tf.tensor1d([0, 2], "int32");
      const { velocityBNZ } = dit(z, tf.tensor1d([0.1, 0.9]), labels, toTf<DitParams>(params), config);
      assert.deepEqual(velocityBNZ.shape, z.shape);
      assert.ok(velocityBNZ.dataSync().every((v) => v === 0));
    });
  }
});

Deno.test("with all options a transformer learns, compiled, and one time for all equals it for each", async () => {
  const data = wave([8, 16, 3], 5), labels = [0, 1, 0, 1, 0, 1, 0, 1];
  for (const variant of VARIANTS.slice(-2)) {
    const config = ditConfig("tiny", { ...BASE, ...variant }), losses: number[] = [];
    const settings = { images: 480, batchSize: 8, learningRate: 1e-2, seed: 1 };
    const { state } = await trainDiffusion({
      config,
      data: { latents: data, labels },
      settings,
      device: "cpu",
      logEverySteps: 20,
      onProgress: ({ metrics }) => void losses.push(metrics.loss),
    });
    assert.ok(losses.length === 3 && losses[2] < 0.75 * losses[0], `${JSON.stringify(variant)}: ${losses}`);
    if (config.timeFeatures === "fourier") {
      const before = initDiffusionState(config, settings.seed).params.time.frequencies!;
      assert.deepEqual(state.params.time.frequencies!.data, before.data, "random frequencies stay");
    }
    tf.tidy(() => {
      const params = toTf<DitParams>(state.params), z = toTf<tf.Tensor>(wave([2, 16, 3], 3));
      const y = tf.tensor1d([0, 2], "int32");
      const [one, each] = [[0.3], [0.3, 0.3]].map((t) =>
        dit(z, tf.tensor1d(t), y, params, config).velocityBNZ
      );
      const values = each.dataSync();
      one.dataSync().forEach((v, i) =>
        assert.ok(Math.abs(v - values[i]) <= 1e-5 + 1e-5 * Math.abs(values[i]))
      );
    });
  }
});

Deno.test("an option at its default is left out, and those that do not fit are refused", () => {
  const defaults = { patchSize: 1, norm: "layer", mlp: "gelu", rope: false, timeFeatures: "sinCos" } as const;
  assert.deepEqual(ditConfig("tiny", { ...BASE, ...defaults, head: undefined }), ditConfig("tiny", BASE));
  const refused = (options: object, message: RegExp) =>
    assert.throws(() => ditConfig("tiny", { ...BASE, ...options }), { name: "ConfigError", message });
  refused({ patchSize: 3 }, /patchSize must divide the grid 4, got 3$/);
  refused({ norm: "batch" }, /at "norm"/);
  refused({ head: { width: 48, depth: 1, heads: 5 } }, /head\.heads must divide the width 48, got 5$/);
  refused({ head: { width: 48, depth: 0, heads: 4 } }, /at "head\.depth"/);
  refused({ rope: true, head: { width: 40, depth: 1, heads: 4 } }, /head\.heads .* multiple of 4 .* got 10$/);
});
