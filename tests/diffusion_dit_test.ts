import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  countParameters,
  dit,
  DIT_SIZES,
  type DitConfig,
  ditConfig,
  type DitParams,
  ditShapes,
  type DitSize,
  initDit,
  isShape,
  parseDitConfig,
  pathPoint,
  velocityLoss,
} from "novae/diffusion/mod.ts";
import { jit, read } from "novae/engine/mod.ts";
import { valueAndGrads } from "novae/nn/mod.ts";
import {
  flattenTree,
  float32,
  type HostTensor,
  int32,
  isHostTensor,
  mapTree,
  Rng,
  sizeOf,
} from "novae/tensor/mod.ts";
import golden from "./golden/dit.json" with { type: "json" };

await tf.setBackend("cpu");

/** The inputs that tests/golden/dit.py makes: sines of the index. */
function wave(shape: readonly number[], phase: number, amplitude: number, base = 0): HostTensor {
  const data = new Float32Array(sizeOf(shape));
  for (let i = 0; i < data.length; i++) {
    data[i] = base + amplitude * Math.sin(12.9898 * (i + 1) + 78.233 * (phase + 1));
  }
  return float32(data, shape);
}

function goldenParams(config: DitConfig): DitParams<HostTensor> {
  const names = Object.keys(golden.grads);
  return mapTree(ditShapes(config), isShape, (shape, path) => {
    const phase = names.indexOf(path);
    assert.ok(phase >= 0, `the reference has "${path}"`);
    return wave(shape as number[], phase, 0.3, path.endsWith("Norm.weight") ? 1 : 0);
  });
}

interface Inputs<T> {
  data: T;
  noise: T;
  t: T;
  labels: T;
}

function goldenStep(params: DitParams, { data, noise, t, labels }: Inputs<tf.Tensor>, config: DitConfig) {
  return valueAndGrads((p: DitParams) => {
    const { velocityBNZ } = dit(pathPoint(data, noise, t), t, labels, p, config);
    return { loss: velocityLoss(velocityBNZ, data, noise), aux: { velocityBNZ } };
  }, params);
}

const toTf = <T>(tree: unknown): T =>
  mapTree<T>(tree, isHostTensor, (leaf) => {
    const { data, shape, dtype } = leaf as HostTensor;
    return tf.tensor(data, [...shape], dtype);
  });

Deno.test("velocity, loss and gradients agree with PyTorch, eager and compiled", async () => {
  const config = parseDitConfig(golden.config);
  const shape = [3, 9, 5], params = goldenParams(config);
  const inputs: Inputs<HostTensor> = {
    data: wave(shape, 101, 1.2),
    noise: wave(shape, 202, 1.5),
    t: float32(golden.t, [3]),
    labels: int32(golden.labels, [3]),
  };
  const step = (p: DitParams, i: Inputs<tf.Tensor>) => goldenStep(p, i, config);
  for (const device of ["cpu", "tfjs-cpu"] as const) {
    const run = jit(step, { device });
    const { loss, aux, grads } = await read(await run(params, inputs));
    await run.dispose();
    assertClose(loss.data, [golden.loss], 1e-4, 1e-5, "loss");
    assertClose(aux.velocityBNZ.data, golden.velocity, 1e-4, 1e-5, "velocity");
    const got = new Map(
      flattenTree<HostTensor>(grads, isHostTensor).map((leaf) => [leaf.path, leaf.value.data]),
    );
    for (const [path, wanted] of Object.entries(golden.grads)) {
      assertClose(got.get(path)!, wanted, 1e-4, 1e-5, path);
    }
  }
});

Deno.test("one time for the whole batch equals the same time for each sample, and a tap is what it says", () => {
  const config = parseDitConfig(golden.config);
  tf.tidy(() => {
    const params = toTf<DitParams>(goldenParams(config));
    const z = toTf<tf.Tensor>(wave([2, 9, 5], 3, 1)), labels = tf.tensor1d([0, 4], "int32");
    const taps = ["tokens", "condition", "block00.attention", "block01.mlp", "block01"];
    const one = dit(z, tf.tensor1d([0.3]), labels, params, config, { taps });
    const each = dit(z, tf.tensor1d([0.3, 0.3]), labels, params, config);
    assertClose(one.velocityBNZ.dataSync(), each.velocityBNZ.dataSync(), 1e-6, 1e-6, "velocity");
    assert.deepEqual(Object.keys(one.taps).sort(), [...taps].sort());
    assert.deepEqual(one.taps["block01"].shape, [2, 9, 8]);
    assert.throws(() => dit(z, tf.tensor1d([0.3]), labels, params, config, { taps: ["block02"] }), {
      name: "RangeError",
      message: /no "block02"/,
    });
  });
});

Deno.test("the published sizes have the published numbers of parameters", () => {
  const wanted: Partial<Record<DitSize, number>> = {
    S: 33_400_336,
    B: 131_382_544,
    L: 459_264_784,
    XL: 676_437_904,
    XXL: 952_705_296,
    XXXL: 1_354_579_984,
  };
  for (const [size, total] of Object.entries(wanted)) {
    const config = ditConfig(size as DitSize, { channels: 392, grid: 16, classes: 1000, learnSigma: true });
    assert.equal(countParameters(config).total, total, size);
  }
  // Those of DiT-XL/2, which facebookresearch/DiT prints when it trains.
  const dit = { channels: 4, grid: 32, classes: 1000, learnSigma: true, qkNorm: false, patchSize: 2 };
  assert.equal(countParameters(ditConfig("XL", dit)).total, 675_129_632);
  const featuresOnly = ditConfig("XL", { channels: 384, grid: 16, classes: 1000, learnSigma: true });
  assert.equal(countParameters(featuresOnly).total, 676_410_240);
});

Deno.test("initial weights have the announced shapes and the initialisation of DiT", () => {
  for (const size of ["tiny", "micro"] as const) {
    const config = ditConfig(size, { channels: 6, grid: 2, classes: 3 });
    const params = initDit(new Rng(1), config);
    const shapes = new Map(flattenTree<number[]>(ditShapes(config), isShape).map((l) => [l.path, l.value]));
    const leaves = flattenTree<HostTensor>(params, isHostTensor);
    assert.deepEqual(new Map(leaves.map((l) => [l.path, l.value.shape])), shapes);
    assert.equal(leaves.reduce((n, l) => n + l.value.data.length, 0), countParameters(config).learned);
  }
  const { width } = DIT_SIZES.micro;
  const params = initDit(new Rng(1), ditConfig("micro", { channels: 6, grid: 2, classes: 300 }));
  const std = ({ data }: HostTensor) => Math.sqrt([...data].reduce((s, v) => s + v * v, 0) / data.length);
  assert.ok(
    Math.abs(std(params.labels.table) - 0.02) < 1e-3 && Math.abs(std(params.time.fc1.weight) - 0.02) < 1e-3,
  );
  const bound = Math.sqrt(6 / (4 * width)), qkv = params.blocks[0].attention.qkv.weight;
  assert.ok(Math.max(...qkv.data) <= bound && Math.abs(std(qkv) - bound / Math.sqrt(3)) < 2e-3);
  assert.equal(std(params.modulation.weight), 0);
  assert.equal(std(params.output.weight), 0);
  assert.notDeepEqual(params.blocks[0].mlp, params.blocks[1].mlp);
});

Deno.test("an untrained transformer predicts velocity zero", () => {
  const config = ditConfig("tiny", { channels: 3, grid: 2, classes: 2 });
  tf.tidy(() => {
    const params = toTf<DitParams>(initDit(new Rng(2), config));
    const z = tf.randomNormal([2, 4, 3]);
    const { velocityBNZ } = dit(z, tf.tensor1d([0.1, 0.9]), tf.tensor1d([0, 2], "int32"), params, config);
    assert.ok(velocityBNZ.dataSync().every((v) => v === 0));
  });
});

Deno.test("inputs of the wrong shape and impossible configurations are refused with what was wanted", () => {
  const config = ditConfig("tiny", { channels: 3, grid: 2, classes: 2 });
  tf.tidy(() => {
    const params = toTf<DitParams>(initDit(new Rng(2), config));
    const t = tf.tensor1d([0.5]), labels = tf.tensor1d([1, 1], "int32");
    const call = (z: tf.Tensor, time = t) => () => dit(z, time, labels, params, config);
    assert.throws(call(tf.zeros([2, 4, 5])), {
      name: "TypeError",
      message: /\[any, 4, 3\], got \[2, 4, 5\]/,
    });
    assert.throws(call(tf.zeros([3, 4, 3])), TypeError);
    assert.throws(call(tf.zeros([2, 4, 3]), tf.tensor1d([0.1, 0.2, 0.3])), TypeError);
  });
  const refused = (change: object, message: RegExp) =>
    assert.throws(() => parseDitConfig({ ...config, ...change }), { name: "ConfigError", message });
  refused({ heads: 5 }, /heads must divide the width 32, got 5/);
  refused({ depht: 2 }, /depht/);
  refused({ channels: 0 }, /channels/);
  assert.throws(() => ditConfig("M" as DitSize, { channels: 3, grid: 2, classes: 2 }), {
    name: "ConfigError",
    message: /tiny, pico, micro, nano.* got M/,
  });
});

function assertClose(
  got: ArrayLike<number>,
  wanted: ArrayLike<number>,
  rtol: number,
  atol: number,
  what: string,
): void {
  assert.equal(got.length, wanted.length, what);
  for (let i = 0; i < got.length; i++) {
    const bound = atol + rtol * Math.abs(wanted[i]);
    assert.ok(Math.abs(got[i] - wanted[i]) <= bound, `${what}[${i}]: ${got[i]} is not ${wanted[i]}`);
  }
}
