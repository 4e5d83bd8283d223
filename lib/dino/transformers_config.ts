/**
 * Settings from the `config.json` beside weights in Hugging Face's format.
 *
 * @module
 */
import { ConfigError, told } from "novae/tensor/mod.ts";
import { parseVitConfig, type PositionFit, type VitConfig } from "./config.ts";
import { swiGluWidth } from "./sizes.ts";
import type { DinoFamily } from "./weight_names.ts";

/** Settings and the generation that they belong to. */
export interface FamilyConfig {
  /** Generation. */
  readonly family: DinoFamily;
  /** Settings. */
  readonly config: VitConfig;
}

/** What `config.json` leaves out has the default of its class. */
const DEFAULTS = {
  vit: { "layer_norm_eps": 1e-12, "qkv_bias": true, "hidden_act": "gelu" },
  dinov2: { "layer_norm_eps": 1e-6, "qkv_bias": true, "hidden_act": "gelu", "mlp_ratio": 4 },
  "dinov2_with_registers": {
    "layer_norm_eps": 1e-6,
    "qkv_bias": true,
    "hidden_act": "gelu",
    "mlp_ratio": 4,
    "num_register_tokens": 4,
  },
  "dinov3_vit": {
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
    "rope_theta": 100,
    "num_register_tokens": 0,
    "query_bias": true,
    "key_bias": false,
    "value_bias": true,
    "proj_bias": true,
    "mlp_bias": true,
  },
} as const;

type ModelType = keyof typeof DEFAULTS;
type Given = Readonly<Record<string, unknown>>;

/**
 * Settings of a transformer from its `config.json`.
 *
 * *Differs*: the initial value of LayerScale is not taken over, as trained weights replace it.
 *
 * @param json the parsed file, of `model_type` vit, dinov2, dinov2_with_registers or dinov3_vit.
 * @throws ConfigError if it describes another kind of model, or one that DINO's transformers do not cover.
 */
export function vitConfigFromTransformers(json: unknown): FamilyConfig {
  if (typeof json !== "object" || json === null) fail(`an object is needed, got ${told(json)}`);
  const type = (json as Given).model_type as ModelType;
  if (typeof type !== "string" || !Object.hasOwn(DEFAULTS, type)) {
    fail(`model_type must be ${Object.keys(DEFAULTS).join(", ")}, got ${told(type)}`);
  }
  const given: Given = { "image_size": 224, ...DEFAULTS[type], ...json };
  expect(given, "num_channels", [undefined, 3]);
  const shared = {
    patchSize: given.patch_size,
    width: given.hidden_size,
    depth: given.num_hidden_layers,
    heads: given.num_attention_heads,
    normEps: given.layer_norm_eps,
    imageSize: given.image_size,
  };
  if (type === "dinov3_vit") {
    return { family: "dinov3", config: parseVitConfig({ ...shared, ...dinov3(given) }) };
  }
  const own = type === "vit" ? dino(given) : dinov2(given, type === "dinov2_with_registers");
  return { family: type === "vit" ? "dino" : "dinov2", config: parseVitConfig({ ...shared, ...own }) };
}

function dino(given: Given): Partial<VitConfig> {
  return {
    ...plainMlp(given),
    mlpRatio: ratio(given, "intermediate_size"),
    registers: 0,
    layerScaleInit: null,
    learnedPositions: "size",
    attentionBias: allOrNone(given),
    maskToken: false,
  };
}

function dinov2(given: Given, withRegisters: boolean): Partial<VitConfig> {
  const width = number(given, "hidden_size"), mlpRatio = number(given, "mlp_ratio");
  const learnedPositions: PositionFit = withRegisters ? "antialias" : "size";
  const gated = { mlp: "gatedSilu", mlpRatio: swiGluWidth(width, mlpRatio) / width } as const;
  return {
    ...(given.use_swiglu_ffn === true ? gated : { ...plainMlp(given), mlpRatio }),
    registers: withRegisters ? given.num_register_tokens as number : 0,
    layerScaleInit: 1e-5,
    learnedPositions,
    attentionBias: allOrNone(given),
    ...(given.use_mask_token === false && { maskToken: false }),
  };
}

function dinov3(given: Given): Partial<VitConfig> {
  for (const key of ["proj_bias", "mlp_bias"]) expect(given, key, [true]);
  expect(given, "value_bias", [given.query_bias]);
  expect(given, "key_bias", given.query_bias === true ? [true, false] : [false]);
  const gated = given.use_gated_mlp === true;
  if (gated) expect(given, "hidden_act", ["silu"]);
  const nested = given.rope_parameters as Given | undefined; // where newer versions keep it
  const biases = given.query_bias === true ? given.key_bias === true ? "qkv" : undefined : "none";
  return {
    ...(gated ? { mlp: "gatedSilu" } as const : plainMlp(given)),
    mlpRatio: ratio(given, "intermediate_size"),
    registers: given.num_register_tokens as number,
    layerScaleInit: 1e-5,
    ropeTheta: (nested?.rope_theta ?? given.rope_theta) as number,
    ...(biases && { attentionBias: biases }),
  };
}

function plainMlp(given: Given): Pick<VitConfig, "mlp"> {
  expect(given, "hidden_act", ["gelu", "gelu_new", "gelu_pytorch_tanh"]);
  return { mlp: given.hidden_act === "gelu" ? "geluErf" : "gelu" };
}

function allOrNone(given: Given): "qkv" | "none" {
  expect(given, "qkv_bias", [true, false]);
  return given.qkv_bias ? "qkv" : "none";
}

function ratio(given: Given, key: string): number {
  return number(given, key) / number(given, "hidden_size");
}

function number(given: Given, key: string): number {
  const value = given[key];
  if (typeof value !== "number") fail(`${key} must be a number, got ${told(value)}`);
  return value;
}

function expect(given: Given, key: string, wanted: readonly unknown[]): void {
  if (!wanted.includes(given[key])) {
    fail(
      `${key} must be ${wanted.filter((value) => value !== undefined).join(" or ")}, got ${told(given[key])}`,
    );
  }
}

function fail(wanted: string): never {
  throw new ConfigError(`Cannot use transformers settings: ${wanted}`);
}
