/**
 * The configuration of a published diffusion transformer, from the names and shapes of its weights.
 *
 * @module
 */
import { ConfigError, WeightsError } from "novae/tensor/mod.ts";
import { type DitConfig, mlpWidth, parseDitConfig } from "./config.ts";
import { type DitNaming, FIRST_MAP } from "./published_names.ts";
import { POSITIONS } from "./published_tables.ts";
import { DIT_SIZES, type DitSizeShape, WIDE_HEAD } from "./sizes.ts";

/** Tensors of which only the shape counts, by bare name. */
export type NamedShapes = ReadonlyMap<string, { readonly shape: readonly number[] }>;

/**
 * Tells whose names a file uses.
 *
 * @throws WeightsError if they are of no such transformer.
 */
export function namingOf(what: string, has: (name: string) => boolean): DitNaming {
  const naming = (["svg", "rae", "dit"] as const).find((name) => has(`${FIRST_MAP[name]}.weight`));
  if (naming !== undefined) return naming;
  throw new WeightsError(
    `${what}: it must have ${FIRST_MAP.svg}.weight (SVG's names), ${FIRST_MAP.dit}.weight (DiT's and SiT's) or ` +
      `${FIRST_MAP.rae}.weight (RAE's), got none of them`,
  );
}

/**
 * The configuration that names and shapes tell.
 *
 * @throws WeightsError if a tensor that tells it is missing, or they tell none that there can be.
 */
export function inferDit(
  what: string,
  naming: DitNaming,
  tensors: NamedShapes,
  { heads, headHeads }: { readonly heads?: number; readonly headHeads?: number },
): DitConfig {
  const shapeOf = needed(what, tensors), isRae = naming === "rae";
  const first = shapeOf(`${FIRST_MAP[naming]}.weight`, naming === "svg" ? 2 : 4);
  const [width, channels, patchSize = 1] = first;
  const blocks = blocksOf(tensors), depth = isRae ? encoderDepth(blocks, shapeOf, width) : blocks;
  const has = (pattern: RegExp) => tensors.keys().some((name) => pattern.test(name));
  const qkHeads = (block: number, w: number) => {
    const norm = ["q_norm", "k_norm"].map((which) => tensors.get(`blocks.${block}.attn.${which}.weight`))
      .find(Boolean);
    return norm?.shape.length === 1 ? w / norm.shape[0] : undefined;
  };
  const headWidth = isRae ? shapeOf(`${FIRST_MAP.dit}.weight`, 4)[0] : undefined;
  const [outputs] = shapeOf("final_layer.linear.bias", 1), tokens = shapeOf(POSITIONS, 3)[1];
  const input = {
    channels,
    grid: patchSize * Math.round(Math.sqrt(tokens)),
    classes: shapeOf("y_embedder.embedding_table.weight", 2)[0] - 1,
    width,
    depth,
    heads: heads ?? qkHeads(0, width) ?? publishedHeads(what, width, "heads"),
    ...perceptronOf(tensors, shapeOf, width),
    qkNorm: has(/\.attn\.[qk]_norm\./),
    learnSigma: outputs === 2 * patchSize ** 2 * channels,
    patchSize,
    norm: has(/\.norm[12]\.weight$|\.norm_final\./) ? "rms" : "layer",
    rope: has(/^(?:enc_|dec_)?feat_rope\./),
    timeFeatures: tensors.has("t_embedder.W") ? "fourier" : "sinCos",
    ...(headWidth !== undefined && {
      head: {
        width: headWidth,
        depth: blocks - depth,
        heads: headHeads ?? qkHeads(depth, headWidth) ?? publishedHeads(what, headWidth, "headHeads"),
      },
    }),
  };
  try {
    return parseDitConfig(input);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new WeightsError(`${what}: its settings must be valid: ${error.message}`);
  }
}

type ShapeOf = (name: string, rank: number) => readonly number[];

function needed(what: string, tensors: NamedShapes): ShapeOf {
  return (name, rank) => {
    const shape = tensors.get(name)?.shape;
    if (shape?.length === rank) return shape;
    const got = shape ? `[${shape}]` : "none";
    throw new WeightsError(
      `${what}: ${name} must be there with rank ${rank} to tell the settings, got ${got}`,
    );
  };
}

/** One more than the highest number of a block, so that gaps are told as missing weights. */
function blocksOf(tensors: NamedShapes): number {
  let count = 0;
  for (const name of tensors.keys()) {
    count = Math.max(count, 1 + Number(/^blocks\.(\d+)\./.exec(name)?.[1] ?? -1));
  }
  return count;
}

/**
 * Blocks before those of a head, which are of another width; of a head of the same width, all but the last two, as in
 * the published models.
 */
function encoderDepth(blocks: number, shapeOf: ShapeOf, width: number): number {
  const widths = Array.from({ length: blocks }, (_, i) => shapeOf(`blocks.${i}.attn.proj.bias`, 1)[0]);
  const first = widths.findIndex((other) => other !== width);
  return first < 0 ? Math.max(blocks - WIDE_HEAD.depth, 1) : first;
}

/** The kind of perceptron and its ratio. */
function perceptronOf(
  tensors: NamedShapes,
  shapeOf: ShapeOf,
  width: number,
): Pick<DitConfig, "mlp" | "mlpRatio"> {
  if (!tensors.keys().some((name) => /\.mlp\.w(?:12|3)\./.test(name))) {
    return { mlp: "gelu", mlpRatio: shapeOf("blocks.0.mlp.fc1.bias", 1)[0] / width };
  }
  const hidden = shapeOf("blocks.0.mlp.w12.bias", 1)[0] / 2;
  // Widths are rounded down twice; a ratio of 4 gives most of them.
  const ratios = [4, ...[0, 1, 2].map((more) => (Math.floor(1.5 * hidden) + more) / width)];
  const mlpRatio = ratios.find((ratio) =>
    mlpWidth({ mlpRatio: ratio, mlp: "swiglu" } as DitConfig, width) === hidden
  );
  return { mlp: "swiglu", mlpRatio: mlpRatio ?? 4 };
}

/** Heads of the published models by width. */
function publishedHeads(what: string, width: number, option: string): number {
  const shapes: readonly DitSizeShape[] = [
    ...(["S", "B", "L", "XL", "XXL", "XXXL"] as const).map((size) => DIT_SIZES[size]),
    WIDE_HEAD,
  ];
  const found = shapes.find((shape) => shape.width === width);
  if (found) return found.heads;
  throw new WeightsError(
    `${what}: without query-key normalisation, "${option}" must be given for a width of ${width}, got none`,
  );
}
