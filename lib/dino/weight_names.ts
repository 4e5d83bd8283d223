/**
 * How published weight files name the weights of a vision transformer: tables of names, and what else such files
 * hold.
 *
 * *Source*: the modules of facebookresearch/dino, dinov2 and dinov3, and `ViTModel`, `Dinov2Model`,
 * `Dinov2WithRegistersModel` and `DINOv3ViTModel` of Hugging Face's transformers.
 *
 * @module
 */
import { WeightsError } from "novae/tensor/mod.ts";

/** Whose names a file uses: those of the authors' own code (`meta`) or of Hugging Face's. */
export type WeightNaming = "meta" | "huggingface";

/** Generation of an encoder. */
export type DinoFamily = "dino" | "dinov2" | "dinov3";

/** A tensor of a file that is a weight of ours, or one of several parts of it along the first axis. */
export interface NamedPart {
  /** Name in the file; `#` stands for the number of the block. */
  readonly name: string;
  /** Which part, from 0. */
  readonly part: number;
  /** How many parts there are. */
  readonly of: number;
}

/** Names by our path, `#` being the number of a block; a list is joined along the first axis of the file's layout. */
export type NameTable = Readonly<Record<string, string | readonly string[] | NamedPart>>;

const part = (name: string, index: number, of: number): NamedPart => ({ name, part: index, of });

/** Weight and bias of modules. */
function affine(modules: Readonly<Record<string, string>>): NameTable {
  const entries = Object.entries(modules).flatMap(([ours, theirs]) =>
    ["weight", "bias"].map((kind) => [`${ours}.${kind}`, `${theirs}.${kind}`])
  );
  return Object.fromEntries(entries);
}

/** Gate and value of a gated perceptron, which are the halves of one map. */
function fusedGate(name: string): NameTable {
  const halves = (kind: string) => [part(`${name}.${kind}`, 0, 2), part(`${name}.${kind}`, 1, 2)];
  const [weights, biases] = [halves("weight"), halves("bias")];
  return {
    "blocks.#.mlp.gate.weight": weights[0],
    "blocks.#.mlp.gate.bias": biases[0],
    "blocks.#.mlp.up.weight": weights[1],
    "blocks.#.mlp.up.bias": biases[1],
  };
}

/** Queries, keys and values as three maps. */
function threeMaps(query: string, key: string, value: string): NameTable {
  return {
    "blocks.#.attention.qkv": [`${query}.weight`, `${key}.weight`, `${value}.weight`],
    "blocks.#.attention.queryBias": `${query}.bias`,
    "blocks.#.attention.keyBias": `${key}.bias`,
    "blocks.#.attention.valueBias": `${value}.bias`,
  };
}

const META: NameTable = {
  clsToken: "cls_token",
  maskToken: "mask_token",
  positions: "pos_embed",
  "blocks.#.attention.qkv": "blocks.#.attn.qkv.weight",
  "blocks.#.attention.queryBias": part("blocks.#.attn.qkv.bias", 0, 3),
  "blocks.#.attention.keyBias": part("blocks.#.attn.qkv.bias", 1, 3),
  "blocks.#.attention.valueBias": part("blocks.#.attn.qkv.bias", 2, 3),
  "blocks.#.layerScale1": "blocks.#.ls1.gamma",
  "blocks.#.layerScale2": "blocks.#.ls2.gamma",
  ...affine({
    patchEmbed: "patch_embed.proj",
    "blocks.#.norm1": "blocks.#.norm1",
    "blocks.#.attention.proj": "blocks.#.attn.proj",
    "blocks.#.norm2": "blocks.#.norm2",
    "blocks.#.mlp.fc1": "blocks.#.mlp.fc1",
    "blocks.#.mlp.fc2": "blocks.#.mlp.fc2",
    "blocks.#.mlp.down": "blocks.#.mlp.w3",
    norm: "norm",
  }),
};

const HUGGING_FACE: NameTable = {
  clsToken: "embeddings.cls_token",
  maskToken: "embeddings.mask_token",
  registers: "embeddings.register_tokens",
  positions: "embeddings.position_embeddings",
};

const HUGGING_FACE_12: NameTable = {
  ...HUGGING_FACE,
  ...threeMaps(
    "encoder.layer.#.attention.attention.query",
    "encoder.layer.#.attention.attention.key",
    "encoder.layer.#.attention.attention.value",
  ),
  ...affine({
    patchEmbed: "embeddings.patch_embeddings.projection",
    "blocks.#.attention.proj": "encoder.layer.#.attention.output.dense",
    norm: "layernorm",
  }),
};

/** Names of the weights of each family in each naming. */
export const NAME_TABLES: Readonly<Record<WeightNaming, Readonly<Record<DinoFamily, NameTable>>>> = {
  meta: {
    dino: META,
    dinov2: { ...META, registers: "register_tokens", ...fusedGate("blocks.#.mlp.w12") },
    dinov3: {
      ...META,
      registers: "storage_tokens",
      ...affine({ "blocks.#.mlp.gate": "blocks.#.mlp.w1", "blocks.#.mlp.up": "blocks.#.mlp.w2" }),
    },
  },
  huggingface: {
    dino: {
      ...HUGGING_FACE_12,
      ...affine({
        "blocks.#.norm1": "encoder.layer.#.layernorm_before",
        "blocks.#.norm2": "encoder.layer.#.layernorm_after",
        "blocks.#.mlp.fc1": "encoder.layer.#.intermediate.dense",
        "blocks.#.mlp.fc2": "encoder.layer.#.output.dense",
      }),
    },
    dinov2: {
      ...HUGGING_FACE_12,
      "blocks.#.layerScale1": "encoder.layer.#.layer_scale1.lambda1",
      "blocks.#.layerScale2": "encoder.layer.#.layer_scale2.lambda1",
      ...affine({
        "blocks.#.norm1": "encoder.layer.#.norm1",
        "blocks.#.norm2": "encoder.layer.#.norm2",
        "blocks.#.mlp.fc1": "encoder.layer.#.mlp.fc1",
        "blocks.#.mlp.fc2": "encoder.layer.#.mlp.fc2",
        "blocks.#.mlp.down": "encoder.layer.#.mlp.weights_out",
      }),
      ...fusedGate("encoder.layer.#.mlp.weights_in"),
    },
    dinov3: {
      ...HUGGING_FACE,
      ...threeMaps("layer.#.attention.q_proj", "layer.#.attention.k_proj", "layer.#.attention.v_proj"),
      "blocks.#.layerScale1": "layer.#.layer_scale1.lambda1",
      "blocks.#.layerScale2": "layer.#.layer_scale2.lambda1",
      ...affine({
        patchEmbed: "embeddings.patch_embeddings",
        "blocks.#.norm1": "layer.#.norm1",
        "blocks.#.attention.proj": "layer.#.attention.o_proj",
        "blocks.#.norm2": "layer.#.norm2",
        "blocks.#.mlp.fc1": "layer.#.mlp.up_proj",
        "blocks.#.mlp.fc2": "layer.#.mlp.down_proj",
        "blocks.#.mlp.gate": "layer.#.mlp.gate_proj",
        "blocks.#.mlp.up": "layer.#.mlp.up_proj",
        "blocks.#.mlp.down": "layer.#.mlp.down_proj",
        norm: "norm",
      }),
    },
  },
};

/** Parts of other modules, which an encoder does not need: heads of training, of classifiers, and poolers. */
export const OTHER_MODULES: Readonly<Record<WeightNaming, RegExp>> = {
  // DINOv3 normalises the class tokens of local crops apart in training.
  meta: /^(head|dino_head|ibot_head|fc|linear_head|local_cls_norm)\./,
  huggingface: /^(pooler|classifier)\./,
};

/** Names of DINOv3's files that are checked and left out: see `checkSpecial` of the reader. */
export const SPECIAL_NAMES = {
  /** 1 / frequency of each rotary pair. */
  periods: "rope_embed.periods",
  /** Ones for queries and values, zeros for keys; NaN before it is filled. */
  biasMask: /^blocks\.\d+\.attn\.qkv\.bias_mask$/,
  /** A bias of keys, which DINOv3 keeps at zero. */
  keyBias: /^layer\.\d+\.attention\.k_proj\.bias$/,
} as const;

const WRAPPERS =
  /^(?:(?:state_dict|model|module|_orig_mod|backbone|vit|dinov2|dinov2_with_registers|dinov3_vit)\.)+/;
const CHUNKED_BLOCK = /^blocks\.\d+\.(\d+)\./;

/** Names of a file without what its makers wrapped around the encoder. */
export interface BareNames {
  /** Name in the file by bare name. */
  readonly bare: ReadonlyMap<string, string>;
  /** Names of other networks in the file. */
  readonly others: readonly string[];
}

/**
 * Strips wrappers from the names of a file: those of containers (`module.`, `backbone.`, `dinov3_vit.`, …), of a
 * training checkpoint, of which the teacher is taken unless the student is asked for, and of blocks in chunks.
 *
 * @param network which network of a training checkpoint; default `teacher`.
 * @throws WeightsError if two tensors get the same name, or a network was asked for that there is not.
 */
export function bareNames(
  what: string,
  names: Iterable<string>,
  network: "teacher" | "student" = "teacher",
): BareNames {
  const all = [...names], prefix = `${network}.`;
  const nested = all.some((name) => /^(teacher|student)\./.test(name));
  const ours = nested ? all.filter((name) => name.startsWith(prefix)) : all;
  if (ours.length === 0 && nested) throw new WeightsError(`${what}: it must have a ${network}, got none`);
  const bare = new Map<string, string>();
  for (const name of ours) {
    const short = (nested ? name.slice(prefix.length) : name).replace(WRAPPERS, "").replace(
      CHUNKED_BLOCK,
      "blocks.$1.",
    );
    const other = bare.get(short);
    if (other !== undefined) {
      throw new WeightsError(`${what}: ${short} must be there once, got ${other} and ${name}`);
    }
    bare.set(short, name);
  }
  return { bare, others: nested ? all.filter((name) => !name.startsWith(prefix)) : [] };
}

/** Whose names these are and of which generation. */
export interface NamedFamily {
  /** Whose names. */
  readonly naming: WeightNaming;
  /** Which generation. */
  readonly family: DinoFamily;
}

/**
 * Tells naming and family from the bare names of a file.
 *
 * @throws WeightsError if they are of no DINO transformer.
 */
export function detectFamily(what: string, has: (name: string) => boolean): NamedFamily {
  if (has("patch_embed.proj.weight")) {
    const rotary = has("rope_embed.periods") || has("storage_tokens");
    return { naming: "meta", family: rotary ? "dinov3" : has("blocks.0.ls1.gamma") ? "dinov2" : "dino" };
  }
  const naming = "huggingface";
  if (has("embeddings.patch_embeddings.weight")) return { naming, family: "dinov3" };
  if (has("embeddings.patch_embeddings.projection.weight")) {
    return { naming, family: has("encoder.layer.0.intermediate.dense.weight") ? "dino" : "dinov2" };
  }
  throw new WeightsError(
    `${what}: it must have patch_embed.proj.weight (Meta's names) or embeddings.patch_embeddings (Hugging Face's), ` +
      "got neither",
  );
}
