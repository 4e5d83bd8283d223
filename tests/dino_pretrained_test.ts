/** Strict loading of published weights, and detection of their naming, family and settings. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { readPretrained, VIT_SIZES, vitConfigFromTransformers, weightSource } from "novae/dino/mod.ts";
import { readSafetensors } from "novae/io/mod.ts";
import { float32, type HostTensor, int32, sizeOf, WeightsError } from "novae/tensor/mod.ts";

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
