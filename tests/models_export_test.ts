/** Exported encoders, decoders and transformers give in a session of their own what the toolkit gives. */
import assert from "node:assert/strict";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import * as ort from "onnxruntime-node";
import { CompiledAutoencoder, exportDecoder, readAutoencoder } from "novae/autoencoder/mod.ts";
import {
  type DiffusionModel,
  dit,
  type DitConfig,
  ditConfig,
  type DitParams,
  exportTransformer,
  initDit,
  saveDiffusion,
} from "novae/diffusion/mod.ts";
import { DinoEncoder, exportEncoder } from "novae/dino/mod.ts";
import { constantTree } from "novae/engine/mod.ts";
import { float32, type HostTensor, int32, mapTree, Rng } from "novae/tensor/mod.ts";
import { assertClose, normal, toTf, uniform } from "./engine_harness.ts";

const MODELS = new URL("../data/models", import.meta.url).pathname;

/** Runs an exported file without any optimisation of this project's. */
async function run(
  bytes: Uint8Array,
  feeds: Record<string, HostTensor>,
): Promise<Record<string, HostTensor>> {
  const session = await ort.InferenceSession.create(bytes);
  const results = await session.run(Object.fromEntries(
    Object.entries(feeds).map((
      [name, { dtype, data, shape }],
    ) => [name, new ort.Tensor(dtype, data as never, shape)]),
  ));
  await session.release();
  return Object.fromEntries(
    Object.entries(results).map((
      [name, { data, dims }],
    ) => [name, float32(data as Float32Array, [...dims])]),
  );
}

Deno.test("the exported encoder gives the features of the shipped one", async () => {
  const encoder = await DinoEncoder.load(join(MODELS, "encoder-solids.safetensors"), { device: "cpu" });
  const image = uniform(0, 1, 2, 64, 64, 3);
  const { bytes, inputs, outputs, opset } = exportEncoder(encoder.config, encoder.params, 2);
  assert.deepEqual([inputs, outputs, opset], [["image"], ["features.clsBD", "features.patchesBND"], 21]);
  const got = await run(bytes, { image }), wanted = await encoder.features(image);
  assertClose(got["features.clsBD"], wanted.clsBD, "class token");
  assertClose(got["features.patchesBND"], wanted.patchesBND, "patch tokens");
  await encoder.dispose();
});

Deno.test("the exported decoder gives the images of the shipped one and carries its statistics", async () => {
  const file = await readAutoencoder(join(MODELS, "ae-vae-solids.safetensors"));
  const autoencoder = new CompiledAutoencoder(file.config, file.params, { device: "cpu" });
  const latents = normal(1, 64, 16), { bytes } = exportDecoder(file);
  const { image } = await run(bytes, { latents });
  assertClose(image, await autoencoder.decode(latents), "image");
  const text = new TextDecoder("latin1").decode(bytes);
  assert.ok(text.includes(JSON.stringify([...file.stats.mean])) && !text.includes("com.microsoft"));
  await autoencoder.dispose();
});

const TRANSFORMER_INPUTS = {
  latents: normal(2, 4, 3),
  time: float32([0.25, 0.75], [2]),
  label: int32([1, 4], [2]),
};

function randomTransformer(config: DitConfig): DiffusionModel {
  const rng = new Rng(3);
  const params = mapTree<DitParams<HostTensor>>(
    initDit(rng, config),
    (leaf) => (leaf as HostTensor).data !== undefined,
    (leaf, path) => {
      const { shape, data } = leaf as HostTensor;
      return float32(rng.split(path).normal(data.length).map((v) => v * 0.2), shape);
    },
  );
  const latents = { mean: new Float32Array(3), std: new Float32Array(3).fill(1), count: 1 };
  return { config, params, space: "svg", latents };
}

function eagerVelocity({ params, config }: DiffusionModel): HostTensor {
  const { latents, time, label } = TRANSFORMER_INPUTS;
  const values = tf.tidy(() =>
    dit(toTf(latents), toTf(time), toTf(label), constantTree<DitParams>(params), config).velocityBNZ
      .dataSync()
      .slice()
  );
  return float32(values as Float32Array, [2, 4, 3]);
}

Deno.test("a transformer with patches, RMSNorm, SwiGLU, rotary positions and a wide head is exported too", async () => {
  await tf.setBackend("cpu");
  const head = { width: 48, depth: 1, heads: 4 };
  const options = { norm: "rms", mlp: "swiglu", rope: true, timeFeatures: "fourier", head } as const;
  for (const variant of [options, { ...options, patchSize: 2, learnSigma: true }]) {
    const model = randomTransformer(ditConfig("tiny", { channels: 3, grid: 2, classes: 4, ...variant }));
    const { velocity } = await run(exportTransformer(model, 2).bytes, TRANSFORMER_INPUTS);
    assertClose(velocity, eagerVelocity(model), "velocity");
  }
});

Deno.test("the exported transformer gives the velocity of the eager one, from the command line too", async () => {
  await tf.setBackend("cpu");
  const model = randomTransformer(ditConfig("tiny", { channels: 3, grid: 2, classes: 4 }));
  const { latents, time, label } = TRANSFORMER_INPUTS;
  const { velocity } = await run(exportTransformer(model, 2).bytes, { latents, time, label });
  assertClose(velocity, eagerVelocity(model), "velocity");

  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "dit.safetensors");
    await saveDiffusion(path, model);
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "lib/cli/main.ts", "export", path, "--batch", "2"],
      env: { NO_COLOR: "1" },
    }).output();
    assert.equal(code, 0, new TextDecoder().decode(stderr));
    assert.match(
      new TextDecoder().decode(stdout),
      /dit\.onnx: \d+\.\d+ MB, opset 21, inputs latents, time, label, outputs velocity/,
    );
    const read = await run(await Deno.readFile(join(folder, "dit.onnx")), { latents, time, label });
    assertClose(read.velocity, velocity, "velocity from the file");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
