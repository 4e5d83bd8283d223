/** Diffusion transformers under the names of published files, against PyTorch modules: values and gradients. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as tf from "@tensorflow/tfjs";
import {
  countParameters,
  dit,
  type DitConfig,
  type DitNaming,
  type DitParams,
  loadDiffusion,
  type PublishedDit,
  type PublishedDitOptions,
  readPublishedDit,
  saveDiffusion,
} from "novae/diffusion/mod.ts";
import { jit, read } from "novae/engine/mod.ts";
import { readSafetensors, writeSafetensors } from "novae/io/mod.ts";
import { valueAndGrads } from "novae/nn/mod.ts";
import { flattenTree, float32, type HostTensor, int32, isHostTensor } from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const folder = fileURLToPath(new URL("golden/published_dit", import.meta.url));
const { cases } = JSON.parse(await Deno.readTextFile(join(folder, "cases.json"))) as {
  cases: Record<string, GoldenCase>;
};

interface GoldenCase {
  naming: DitNaming;
  channels: number;
  grid: number;
  patch: number;
  width: number;
  depth: number;
  heads: number;
  ratio: number;
  qk: boolean;
  sigma: boolean;
  rms: boolean;
  swiglu: boolean;
  rope: boolean;
  fourier: boolean;
  head: [width: number, depth: number, heads: number] | null;
}

/** What names and shapes do not tell of a case. */
function optionsOf(name: string): PublishedDitOptions {
  const { qk, heads, head } = cases[name];
  return {
    ...(!qk && { heads, ...(head && { headHeads: head[2] }) }),
    ...(name === "dit" && { foreign: "record" as const }),
  };
}

const load = (name: string): Promise<PublishedDit> =>
  readPublishedDit(join(folder, `${name}.pt`), optionsOf(name));
const outputsOf = async (name: string) =>
  (await readSafetensors(join(folder, `${name}.outputs.safetensors`))).tensors;

/** The settings that the generator had. */
function configOf(c: GoldenCase): DitConfig {
  return {
    channels: c.channels,
    grid: c.grid,
    classes: 3,
    width: c.width,
    depth: c.depth,
    heads: c.heads,
    mlpRatio: c.ratio,
    qkNorm: c.qk,
    learnSigma: c.sigma,
    ...(c.patch > 1 && { patchSize: c.patch }),
    ...(c.rms && { norm: "rms" as const }),
    ...(c.swiglu && { mlp: "swiglu" as const }),
    ...(c.rope && { rope: true }),
    ...(c.fourier && { timeFeatures: "fourier" as const }),
    ...(c.head && { head: { width: c.head[0], depth: c.head[1], heads: c.head[2] } }),
  };
}

interface Inputs<T> {
  z: T;
  target: T;
  t: T;
  y: T;
}

/** The loss of the golden file: the mean squared difference. */
function goldenStep(params: DitParams, { z, target, t, y }: Inputs<tf.Tensor>, config: DitConfig) {
  return valueAndGrads((p: DitParams) => {
    const { velocityBNZ, taps } = dit(z, t, y, p, config, { taps: ["output"] });
    const loss = tf.mean(tf.square(tf.sub(velocityBNZ, target))) as tf.Scalar;
    return { loss, aux: { velocityBNZ, output: taps.output } };
  }, params);
}

for (const [name, c] of Object.entries(cases)) {
  Deno.test(`${name}: settings, output and all gradients are those of PyTorch, eager and compiled`, async () => {
    const { config, params, naming } = await load(name), golden = await outputsOf(name);
    assert.equal(naming, c.naming);
    assert.deepEqual(config, configOf(c));
    const of = (key: string) => golden.get(key)!;
    const inputs: Inputs<HostTensor> = {
      z: of("z"),
      target: of("target"),
      t: of("t"),
      y: int32(Int32Array.from(of("y").data), of("y").shape),
    };
    const wanted = await readPublishedDit(join(folder, `${name}.gradients.safetensors`), optionsOf(name));
    const wantedGrads = new Map(
      flattenTree<HostTensor>(wanted.params, isHostTensor).map((leaf) => [leaf.path, leaf.value.data]),
    );
    const step = (p: DitParams, i: Inputs<tf.Tensor>) => goldenStep(p, i, config);
    for (const device of ["cpu", "tfjs-cpu"] as const) {
      const run = jit(step, { device });
      const { loss, aux, grads } = await read(await run(params, inputs));
      await run.dispose();
      assertClose(loss.data, of("loss").data, `${device}: loss`);
      assertClose(aux.output.data, of("output").data, `${device}: output`);
      const kept = aux.output.data.filter((_, i) => i % of("output").shape[2] < c.channels);
      assert.deepEqual(aux.velocityBNZ.data, kept, "the velocity is the first channels of the output");
      const leaves = flattenTree<HostTensor>(grads, isHostTensor);
      assert.equal(leaves.length, wantedGrads.size);
      for (const { path, value } of leaves) {
        assertClose(value.data, wantedGrads.get(path)!, `${device}: ${path}`);
      }
    }
  });
}

Deno.test("parameters are counted as PyTorch counts those of the files", async () => {
  for (const name of Object.keys(cases)) {
    const { tensors } = await readSafetensors(join(folder, `${name}.gradients.safetensors`));
    let total = 0;
    for (const [key, { data }] of tensors) if (!key.includes("freqs_")) total += data.length;
    assert.equal(countParameters(configOf(cases[name])).total, total, name);
  }
});

Deno.test("of a training's checkpoint the average is taken, or the weights if they are asked for", async () => {
  const path = join(folder, "dit.pt"), options = optionsOf("dit");
  const average = await readPublishedDit(path, options);
  const model = await readPublishedDit(path, { ...options, network: "ema" });
  assert.deepEqual(average.params.output, model.params.output);
  assert.ok(average.ignored.includes("model.pos_embed") && average.ignored.includes("pos_embed"));
  assert.ok(average.ignored.some((name) => name.startsWith("opt.")));
  // The generator wrote zeros as the other weights, whose table of positions is none.
  await assert.rejects(readPublishedDit(path, { ...options, network: "model" }), {
    name: "WeightsError",
    message: /pos_embed must be the fixed table of its grid: 1\.0000 at 4, got 0/,
  });
  await assert.rejects(readPublishedDit(join(folder, "rope.pt"), { network: "ema" }), {
    name: "WeightsError",
    message: /it must have "ema", got none/,
  });
  assert.deepEqual((await load("swiglu")).ignored, [
    "projectors.0.0.weight",
    "projectors.0.0.bias",
    "pos_embed",
  ]);
});

Deno.test("a published transformer is kept in a file of ours, with the statistics of its latents", async () => {
  const { config, params } = await load("svg"), path = await Deno.makeTempFile({ suffix: ".safetensors" });
  const latents = { mean: new Float32Array(5).fill(0.5), std: new Float32Array(5).fill(2), count: 10 };
  await saveDiffusion(path, { config, params, space: "svg", latents });
  const back = await loadDiffusion(path);
  assert.deepEqual([back.config, back.params, back.latents], [config, params, latents]);
  await Deno.remove(path);
});

Deno.test("a trainer's settings in a checkpoint are refused unless they are asked for as records", () =>
  assert.rejects(readPublishedDit(join(folder, "dit.pt"), { heads: 2 }), {
    name: "WeightsError",
    message: /argparse/,
  }));

Deno.test("missing, unexpected, misshapen and foreign weights are refused in one line", async () => {
  const temporary = await Deno.makeTempDir(), path = `${temporary}/dit.safetensors`;
  const whole = (await readSafetensors(join(folder, "rope.gradients.safetensors"))).tensors;
  const refused = async (
    change: (tensors: Map<string, HostTensor>) => void,
    message: RegExp,
    options: PublishedDitOptions = {},
  ) => {
    const tensors = new Map(whole);
    change(tensors);
    await writeSafetensors(path, tensors);
    await assert.rejects(readPublishedDit(path, options), (error: Error) => {
      assert.equal(error.name, "WeightsError");
      assert.match(error.message, message);
      assert.ok(!error.message.includes("\n"));
      return true;
    });
  };
  const drop = (...names: string[]) => (tensors: Map<string, HostTensor>) =>
    names.forEach((name) => assert.ok(tensors.delete(name), name));
  const put = (name: string, shape: number[], value = 0) => (tensors: Map<string, HostTensor>) =>
    tensors.set(name, float32(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value), shape));

  try {
    await refused(
      drop("x_embedder.proj.weight"),
      /ln1\.weight .* x_embedder\.proj\.weight .* got none of them$/,
    );
    await refused(drop("blocks.0.mlp.fc2.bias"), /missing blocks\.0\.mlp\.fc2\.bias$/);
    await refused(put("blocks.0.norm3.weight", [16]), /unexpected blocks\.0\.norm3\.weight$/);
    await refused(
      put("blocks.0.attn.proj.weight", [16, 8]),
      /misshapen blocks\.0\.attn\.proj\.weight: wanted \[16,16\], got \[16,8\]$/,
    );
    await refused(put("final_layer.linear.bias", [7]), /misshapen final_layer\.linear\.weight/);
    await refused(put("blocks.2.attn.proj.bias", [16]), /missing blocks\.1\.adaLN_modulation\.1\.weight/);
    await refused(drop("pos_embed"), /pos_embed must be there with rank 3 .* got none$/);
    await refused(put("pos_embed", [1, 8, 16]), /pos_embed must be of shape \[1,9,16\], got \[1,8,16\]$/);
    await refused(
      put("pos_embed", [1, 9, 16], 2),
      /pos_embed must be the fixed table of its grid: 0\.0000 at 0, got 2$/,
    );
    await refused(put("feat_rope.freqs_sin", [9, 8]), /feat_rope\.freqs_sin must be the fixed table/);
    await refused(drop("feat_rope.freqs_sin"), /missing feat_rope\.freqs_sin$/);
    await refused(drop("feat_rope.freqs_cos"), /missing feat_rope\.freqs_cos$/);
    await refused(drop("blocks.0.attn.q_norm.weight"), /missing blocks\.0\.attn\.q_norm\.weight$/);
    const norms = ["q_norm.weight", "q_norm.bias", "k_norm.weight", "k_norm.bias"];
    const unnormed = drop(...norms.map((name) => `blocks.0.attn.${name}`));
    await refused(unnormed, /"heads" must be given for a width of 16, got none$/);
    await refused(
      put("blocks.0.norm1.weight", [16]),
      /missing blocks\.0\.norm2\.weight, final_layer\.norm_final\.weight/,
    );
    await refused(
      put("blocks.0.mlp.w3.bias", [16]),
      /blocks\.0\.mlp\.w12\.bias must be there with rank 1 .* got none$/,
    );
    await refused(() => {}, /settings must be valid: .*heads must divide the width 16, got 3$/, { heads: 3 });
  } finally {
    await Deno.remove(temporary, { recursive: true });
  }
  const bytes = await Deno.readFile(join(folder, "svg.pt")), cut = await Deno.makeTempFile({ suffix: ".pt" });
  await Deno.writeFile(cut, bytes.subarray(0, bytes.length - 1000));
  await assert.rejects(readPublishedDit(cut), { name: "WeightsError", message: /^Cannot read weights .*$/ });
  await Deno.remove(cut);
});

/** float32 against the float64 of the golden files. */
function assertClose(got: ArrayLike<number>, wanted: ArrayLike<number>, what: string): void {
  assert.equal(got.length, wanted.length, what);
  for (let i = 0; i < got.length; i++) {
    const bound = 1e-5 + 1e-4 * Math.abs(wanted[i]);
    assert.ok(Math.abs(got[i] - wanted[i]) <= bound, `${what}[${i}]: ${got[i]} is not ${wanted[i]}`);
  }
}
