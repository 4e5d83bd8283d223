/** Strict loading of published weights, detection of naming, family and settings, and named sizes. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import * as tf from "@tensorflow/tfjs";
import { jit, read } from "novae/engine/mod.ts";
import {
  countVitParams,
  initVit,
  loadEncoder,
  parseVitConfig,
  PUBLISHED_VITS,
  readPretrained,
  saveEncoder,
  vit,
  VIT_SIZES,
  vitConfig,
  vitConfigFromTransformers,
  type VitParams,
  vitShapes,
  weightSource,
} from "novae/dino/mod.ts";
import { hashBytes, readSafetensors } from "novae/io/mod.ts";
import {
  ConfigError,
  flattenTree,
  float32,
  type HostTensor,
  int32,
  isHostTensor,
  mapTree,
  Rng,
  sizeOf,
  WeightsError,
} from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const folder = fileURLToPath(new URL("golden/dino_families", import.meta.url));
const { cases } = JSON.parse(await Deno.readTextFile(`${folder}/cases.json`));

type Tensors = Map<string, HostTensor>;
const load = async (name: string): Promise<Tensors> =>
  (await readSafetensors(`${folder}/${name}.safetensors`)).tensors;
const configOf = (name: string) => vitConfigFromTransformers(cases[name].transformers).config;

const refused = (tensors: Tensors, message: RegExp, options = {}) =>
  assert.rejects(readPretrained(weightSource(tensors), options), (error) => {
    assert.ok(error instanceof WeightsError, String(error));
    assert.match(error.message, message);
    assert.ok(!error.message.includes("\n"));
    return true;
  });

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

Deno.test("a mask needs a mask token", async () => {
  const config = configOf("dino");
  const { params } = await readPretrained(weightSource(await load("dino.meta")), { config });
  const weights = mapTree<VitParams>(params, isHostTensor, (leaf) => {
    const { data, shape } = leaf as HostTensor;
    return tf.tensor(data, [...shape]);
  });
  assert.throws(
    () => vit(tf.zeros([1, 8, 8, 3]), weights, config, { maskBN: tf.zeros([1, 4]) }),
    /Cannot mask patches: the transformer has no mask token/,
  );
});

Deno.test("settings are read off the shapes where the width is a published one", async () => {
  const tensors = (width: number, hidden: number, extra: [string, number[]][]): Tensors => {
    const block: [string, number[]][] = [0, 1].flatMap((i): [string, number[]][] => [
      [`blocks.${i}.norm1.weight`, [width]],
      [`blocks.${i}.norm1.bias`, [width]],
      [`blocks.${i}.norm2.weight`, [width]],
      [`blocks.${i}.norm2.bias`, [width]],
      [`blocks.${i}.attn.qkv.weight`, [3 * width, width]],
      [`blocks.${i}.attn.qkv.bias`, [3 * width]],
      [`blocks.${i}.attn.proj.weight`, [width, width]],
      [`blocks.${i}.attn.proj.bias`, [width]],
      [`blocks.${i}.mlp.fc1.weight`, [hidden, width]],
      [`blocks.${i}.mlp.fc1.bias`, [hidden]],
      [`blocks.${i}.mlp.fc2.weight`, [width, hidden]],
      [`blocks.${i}.mlp.fc2.bias`, [width]],
    ]);
    const shapes: [string, number[]][] = [
      ["cls_token", [1, 1, width]],
      ["patch_embed.proj.weight", [width, 3, 16, 16]],
      ["patch_embed.proj.bias", [width]],
      ["norm.weight", [width]],
      ["norm.bias", [width]],
      ...block,
      ...extra,
    ];
    return new Map(shapes.map(([name, shape]) => [name, float32(new Float32Array(sizeOf(shape)), shape)]));
  };
  const found = await readPretrained(weightSource(tensors(384, 1536, [["pos_embed", [1, 197, 384]]])));
  assert.deepEqual(found.config, { ...VIT_SIZES["dino-vits16"], depth: 2 });
  await refused(
    tensors(40, 80, [["pos_embed", [1, 197, 40]]]),
    /number of heads at width 40; give the settings/,
  );
  await refused(tensors(384, 1536, []), /pos_embed must be there with rank 3 to tell the settings, got none/);
});

Deno.test("rotary periods tell the number of heads, and DINOv3's settings need nothing else", async () => {
  for (const name of ["dinov3", "dinov3_plus", "dinov3_7b"]) {
    const found = await readPretrained(weightSource(await load(`${name}.meta`)));
    assert.deepEqual({ ...found.config, imageSize: 0 }, { ...configOf(name), imageSize: 0 });
  }
});

Deno.test("what is missing, unexpected and misshapen is told at once", async () => {
  for (
    const [name, missing, misshapen] of [
      [
        "dinov2_reg.huggingface",
        "encoder.layer.1.attention.attention.key.weight",
        "embeddings.position_embeddings",
      ],
      ["dinov2_giant.meta", "blocks.1.mlp.w12.bias", "blocks.0.attn.qkv.weight"],
      ["dinov3.meta", "storage_tokens", "patch_embed.proj.weight"],
      ["dino.huggingface", "layernorm.bias", "encoder.layer.0.intermediate.dense.weight"],
    ]
  ) {
    const tensors = await load(name), transformersConfig = cases[name.split(".")[0]].transformers;
    tensors.delete(missing);
    tensors.set("blocks.0.extra", float32([1], [1]));
    tensors.set(misshapen, float32([1, 2], [1, 2]));
    const parts = [`missing ${missing}`, "unexpected blocks.0.extra", `misshapen ${misshapen}: wanted [`];
    const pattern = parts.map((part) => part.replaceAll(/[.[\]]/g, "\\$&")).join("; ");
    await refused(
      tensors,
      new RegExp(`Cannot load x: weights must fit the settings: ${pattern}.*got \\[1,2\\]`),
      {
        transformersConfig,
        name: "x",
      },
    );
  }
});

Deno.test("wrappers around the names are seen through, and heads and poolers are left out by name", async () => {
  const bare = await load("dinov3_plus.huggingface"), config = configOf("dinov3_plus");
  const wanted = await readPretrained(weightSource(bare), { config });
  const renamed = (rename: (name: string) => string) =>
    new Map([...bare].map(([name, tensor]) => [rename(name), tensor]));
  for (
    const rename of [
      (name: string) => `dinov3_vit.${name}`,
      (name: string) => `model.${name}`,
      (name: string) => name.startsWith("layer") ? `model.${name}` : name,
    ]
  ) {
    const tensors = renamed(rename);
    tensors.set("classifier.weight", float32([1], [1]));
    const { params, ignored } = await readPretrained(weightSource(tensors), { config });
    assert.deepEqual(params, wanted.params);
    assert.deepEqual(ignored, ["classifier.weight"]);
  }
  const twice = renamed((name) => `model.${name}`);
  for (const [name, tensor] of bare) twice.set(name, tensor);
  await refused(twice, /embeddings\.cls_token must be there once, got model\.embeddings/, { config });
});

Deno.test("of a training checkpoint the teacher is taken, or the student if asked for", async () => {
  const bare = await load("dino.meta"), config = configOf("dino"), checkpoint: Tensors = new Map();
  for (const [name, { shape, data }] of bare) {
    checkpoint.set(`teacher.backbone.${name}`, float32(data as Float32Array, shape));
    const doubled = Float32Array.from(data, (value) => 2 * value);
    checkpoint.set(`student.module.backbone.${name}`, float32(doubled, shape));
  }
  checkpoint.set("teacher.head.mlp.0.weight", float32([1], [1]));
  checkpoint.set("dino_loss.center", float32([1], [1]));
  const teacher = await readPretrained(weightSource(checkpoint), { config });
  const student = await readPretrained(weightSource(checkpoint), { config, network: "student" });
  const direct = await readPretrained(weightSource(bare), { config });
  assert.deepEqual(teacher.params, direct.params);
  assert.equal(student.params.clsToken.data[0], 2 * direct.params.clsToken.data[0]);
  assert.ok(
    teacher.ignored.includes("teacher.head.mlp.0.weight") && teacher.ignored.includes("dino_loss.center"),
  );
  assert.equal(teacher.ignored.length, bare.size + 2);
  const teacherOnly = new Map([...checkpoint].filter(([name]) => name.startsWith("teacher.")));
  await refused(teacherOnly, /it must have a student, got none/, { config, network: "student" });
});

Deno.test("blocks that were saved in chunks are found by their own number", async () => {
  const bare = await load("dinov2.meta"), config = configOf("dinov2");
  const chunked = new Map(
    [...bare].map(([name, tensor]) => [name.replace(/^blocks\.(\d)\./, "blocks.$1.$1."), tensor]),
  );
  const [got, wanted] = await Promise.all(
    [chunked, bare].map(async (tensors) => (await readPretrained(weightSource(tensors), { config })).params),
  );
  assert.deepEqual(got, wanted);
});

Deno.test("periods, masks and biases of keys must agree with a transformer that goes without them", async () => {
  const changed = async (name: string, tensor: string, change: (data: Float32Array) => void) => {
    const tensors = await load(name),
      { data, shape } = tensors.get(tensor)!,
      copy = data.slice() as Float32Array;
    change(copy);
    return tensors.set(tensor, float32(copy, shape));
  };
  const mask = "blocks.1.attn.qkv.bias_mask", periods = "rope_embed.periods";
  await refused(
    await changed("dinov3.meta", periods, (data) => data[1] *= 1.02),
    /rope_embed\.periods must be 100 \*\* \(i \/ 3\), got .* for i = 1/,
  );
  await refused(
    await changed("dinov3.meta", mask, (data) => data[0] = 0),
    /blocks\.1\.attn\.qkv\.bias_mask must be 1 at 0, got 0/,
  );
  await refused(
    await changed("dinov3.meta", mask, (data) => data[24] = 1),
    /bias_mask must be 0 at 24, got 1/,
  );
  const unfilled = await changed("dinov3.meta", mask, (data) => data.fill(NaN));
  const { params, ignored } = await readPretrained(weightSource(unfilled));
  assert.ok(!("keyBias" in params.blocks[1].attention));
  assert.deepEqual(ignored.toSorted(), ["blocks.0.attn.qkv.bias_mask", mask, periods]);
  unfilled.delete(mask);
  await refused(unfilled, /blocks\.1\.attn\.qkv\.bias must be zero for keys, got /);
  const withKeys = (await load("dinov3.huggingface")).set(
    "layer.0.attention.k_proj.bias",
    float32(new Float32Array(24), [24]),
  );
  const found = await readPretrained(weightSource(withKeys), { config: configOf("dinov3") });
  assert.deepEqual(found.ignored, ["layer.0.attention.k_proj.bias"]);
  withKeys.get("layer.0.attention.k_proj.bias")!.data[3] = 0.5;
  await refused(withKeys, /k_proj\.bias must be zero, got 0\.5/, { config: configOf("dinov3") });
});

Deno.test("weights of another family, of no transformer or of integers are refused", async () => {
  const tensors = await load("dinov2.huggingface");
  await refused(
    new Map([["weight", float32([1], [1])]]),
    /it must have patch_embed\.proj\.weight \(Meta's names\)/,
  );
  await refused(tensors, /must be of dino as in config\.json, got the names of dinov2/, {
    transformersConfig: cases.dino.transformers,
  });
  await refused(tensors, /its config\.json must fit: .*model_type must be vit, dinov2.*, got clip/, {
    transformersConfig: { "model_type": "clip" },
  });
  await refused(await load("dino.meta"), /settings must be of the family dino, got some with registers/, {
    config: { ...configOf("dino"), registers: 4 },
  });
  tensors.set("layernorm.bias", int32(new Int32Array(20), [20]));
  await refused(tensors, /layernorm\.bias must hold floating-point numbers, got int32/, {
    config: configOf("dinov2"),
  });
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
    [{ ...dino, "hidden_size": undefined }, /"width" must be a positive number/],
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
