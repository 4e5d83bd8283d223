/** Named sizes and settings of transformers, and what follows from them: weights, shapes, counts. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { jit, read } from "novae/engine/mod.ts";
import {
  countVitParams,
  initVit,
  loadEncoder,
  parseVitConfig,
  PUBLISHED_VITS,
  saveEncoder,
  vit,
  VIT_SIZES,
  type VitConfig,
  vitConfig,
  vitConfigFromTransformers,
  type VitParams,
  vitShapes,
} from "novae/dino/mod.ts";
import { hashBytes } from "novae/io/mod.ts";
import {
  ConfigError,
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  mapTree,
  Rng,
  sizeOf,
} from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

/** Parameters of the published encoders: DINO without its head, DINOv3 as in Hugging Face's files. */
const PUBLISHED_COUNTS: Record<keyof typeof PUBLISHED_VITS, number> = {
  "dino-vits16": 21_665_664,
  "dino-vits8": 21_670_272,
  "dino-vitb16": 85_798_656,
  "dino-vitb8": 85_807_872,
  "dinov2-vits14": 22_056_576,
  "dinov2-vitb14": 86_580_480,
  "dinov2-vitl14": 304_368_640,
  "dinov2-vitg14": 1_136_480_768,
  "dinov2-vits14-reg": 22_058_112,
  "dinov2-vitb14-reg": 86_583_552,
  "dinov2-vitl14-reg": 304_372_736,
  "dinov2-vitg14-reg": 1_136_486_912,
  "dinov3-vits16": 21_596_544,
  "dinov3-vits16plus": 28_692_864,
  "dinov3-vitb16": 85_660_416,
  "dinov3-vitl16": 303_129_600,
  "dinov3-vith16plus": 840_592_640,
  "dinov3-vit7b16": 6_716_035_072,
};

Deno.test("published encoders have their number of parameters, in closed form and by their shapes", () => {
  assert.deepEqual(Object.keys(PUBLISHED_COUNTS), Object.keys(PUBLISHED_VITS));
  for (const [name, count] of Object.entries(PUBLISHED_COUNTS)) {
    const config = vitConfig(name), leaves = flattenTree<HostTensor>(vitShapes(config), isHostTensor);
    assert.equal(countVitParams(config), count, name);
    assert.equal(leaves.reduce((sum, leaf) => sum + sizeOf(leaf.value.shape), 0), count, name);
    assert.deepEqual(parseVitConfig(JSON.parse(JSON.stringify(config))), config);
  }
  assert.throws(
    () => vitConfig("dinov3-vitx"),
    /size must be one of tiny, .*dinov3-vit7b16, got dinov3-vitx/,
  );
});

Deno.test("the weights that a seed draws stay the same", () => {
  const leaves = flattenTree<HostTensor>(initVit(new Rng(7), VIT_SIZES.tiny), isHostTensor);
  assert.equal(
    hashBytes(...leaves.flatMap((leaf) => [leaf.path, leaf.value.data])),
    "d23dbd38ee94c4db850949fe367623b843f1fcec4eaa7d483ed3ffd9d7ed4619",
  );
});

Deno.test("transformers of every family can be drawn, run, saved and loaded", async () => {
  const tiny = { width: 16, depth: 2, heads: 2, mlpRatio: 2, patchSize: 4, imageSize: 16 };
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  for (const name of ["dino-vits16", "dinov2-vits14", "dinov2-vitg14-reg", "dinov3-vit7b16"] as const) {
    const config = { ...VIT_SIZES[name], ...tiny }, params = initVit(new Rng(1), config);
    await saveEncoder(path, config, params);
    const loaded = await loadEncoder(path);
    assert.deepEqual(loaded.config, config);
    const run = jit((x: tf.Tensor, p: VitParams) => vit(x, p, config), { device: "cpu" });
    const { clsBD, registersBRD, patchesBND } = await read(
      await run(float32(new Rng(2).normal(2 * 8 * 12 * 3), [2, 8, 12, 3]), loaded.params),
    ) as unknown as Record<string, HostTensor>;
    assert.deepEqual(
      [clsBD.shape, registersBRD.shape, patchesBND.shape],
      [[2, 16], [2, config.registers, 16], [2, 6, 16]],
    );
    assert.ok([...clsBD.data, ...patchesBND.data].every(Number.isFinite));
    await run.dispose();
  }
  await Deno.remove(path);
});

Deno.test("a mask needs a mask token", () => {
  const config: VitConfig = { ...VIT_SIZES["dino-vits16"], width: 16, depth: 1, heads: 2, imageSize: 32 };
  const weights = mapTree<VitParams>(initVit(new Rng(1), config), isHostTensor, (leaf) => {
    const { data, shape } = leaf as HostTensor;
    return tf.tensor(data, [...shape]);
  });
  assert.throws(
    () => vit(tf.zeros([1, 32, 32, 3]), weights, config, { maskBN: tf.zeros([1, 4]) }),
    /Cannot mask patches: the transformer has no mask token/,
  );
});

Deno.test("config.json gives the settings of the published encoders, with the positions of Hugging Face's code", () => {
  const small = { "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6 };
  const dinov3 = {
    ...small,
    "model_type": "dinov3_vit",
    "patch_size": 16,
    "image_size": 224,
    "intermediate_size": 1536,
    "use_gated_mlp": true,
    "hidden_act": "silu",
    "rope_theta": 100,
    "num_register_tokens": 4,
    "layer_norm_eps": 1e-5,
    "key_bias": false,
  };
  const parse = vitConfigFromTransformers;
  assert.deepEqual(parse(dinov3), { family: "dinov3", config: VIT_SIZES["dinov3-vits16plus"] });
  const { "rope_theta": _, ...newer } = dinov3;
  assert.equal(parse({ ...newer, "rope_parameters": { "rope_theta": 50 } }).config.ropeTheta, 50);
  const giant = {
    "model_type": "dinov2",
    "hidden_size": 1536,
    "num_hidden_layers": 40,
    "num_attention_heads": 24,
    "patch_size": 14,
    "image_size": 518,
    "mlp_ratio": 4,
    "use_swiglu_ffn": true,
  };
  assert.deepEqual(parse(giant).config, { ...VIT_SIZES["dinov2-vitg14"], learnedPositions: "size" });
  assert.deepEqual(
    parse({ ...giant, "model_type": "dinov2_with_registers", "num_register_tokens": 4 }).config,
    VIT_SIZES["dinov2-vitg14-reg"],
  );
  const dino = {
    ...small,
    "model_type": "vit",
    "patch_size": 8,
    "intermediate_size": 1536,
    "layer_norm_eps": 1e-12,
  };
  assert.deepEqual(parse(dino).config, {
    ...VIT_SIZES["dino-vits8"],
    normEps: 1e-12,
    learnedPositions: "size",
  });
  const bad: [unknown, RegExp][] = [
    [{ ...dinov3, "hidden_act": "gelu" }, /hidden_act must be silu, got gelu/],
    [{ ...dinov3, "value_bias": false }, /value_bias must be true, got false/],
    [{ ...dinov3, "proj_bias": false }, /proj_bias must be true, got false/],
    [{ ...dino, "num_channels": 1 }, /num_channels must be 3, got 1/],
    [{ ...dino, "hidden_size": undefined }, /hidden_size must be a number, got nothing/],
    [{ ...dino, "intermediate_size": "many" }, /intermediate_size must be a number, got many/],
    [null, /an object is needed, got null/],
  ];
  for (const [json, message] of bad) {
    assert.throws(() => parse(json), (error) => error instanceof ConfigError && message.test(error.message));
  }
});

Deno.test("settings of positions, registers, gains and biases are checked", () => {
  const learned = VIT_SIZES["dino-vits16"], rotary = VIT_SIZES["dinov3-vits16"];
  const bad: [Record<string, unknown>, RegExp][] = [
    [{ ...learned, ropeTheta: 100 }, /one of "ropeTheta" and "learnedPositions", got both/],
    [{ ...rotary, ropeTheta: undefined }, /one of "ropeTheta" and "learnedPositions", got neither/],
    [
      { ...learned, learnedPositions: "bilinear" },
      /"learnedPositions" must be size, offset or antialias, got bilinear/,
    ],
    [{ ...learned, registers: -1 }, /"registers" must be a positive number or 0, got -1/],
    [{ ...learned, layerScaleInit: 0 }, /"layerScaleInit" must be a positive number, got 0/],
    [{ ...learned, attentionBias: "q" }, /"attentionBias" must be qkv, qv or none, got q/],
    [{ ...learned, maskToken: 1 }, /"maskToken" must be true or false, got 1/],
    [{ ...learned, heads: 7 }, /"heads" must divide "width", got 7 and 384/],
  ];
  for (const [config, message] of bad) {
    assert.throws(
      () => parseVitConfig(config),
      (error) => error instanceof ConfigError && message.test(error.message),
    );
  }
});
