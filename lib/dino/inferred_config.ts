/**
 * Settings from the names and shapes of weights alone.
 *
 * @module
 */
import { ConfigError, WeightsError } from "novae/tensor/mod.ts";
import { parseVitConfig, type PositionFit, type VitConfig } from "./config.ts";
import { PUBLISHED_VITS } from "./sizes.ts";
import { NAME_TABLES, type NamedFamily, type NameTable, SPECIAL_NAMES } from "./weight_names.ts";

type ShapeOf = (name: string) => readonly number[] | undefined;

/**
 * Reads settings off the shapes of weights. What shapes do not tell is as published: the number of heads by the
 * width (or by the rotary periods), epsilon and frequencies by the family, the fit of positions by the naming.
 *
 * @param shapes shapes by bare name.
 * @throws WeightsError if a tensor that tells a setting is missing, or if no published encoder has this width.
 */
export function inferVitConfig(
  what: string,
  named: NamedFamily,
  shapes: ReadonlyMap<string, readonly number[]>,
): VitConfig {
  const { naming, family } = named, table = NAME_TABLES[naming][family];
  const shapeOf: ShapeOf = (path) => shapes.get(nameOf(table, path));
  const needed = (path: string, rank: number): readonly number[] => {
    const shape = shapeOf(path), name = nameOf(table, path);
    if (shape?.length === rank) return shape;
    throw new WeightsError(
      `${what}: ${name} must be there with rank ${rank} to tell the settings, got ${
        shape ? `[${shape}]` : "none"
      }`,
    );
  };
  const [width, , , patchSize] = needed("patchEmbed.weight", 4);
  const registers = shapeOf("registers")?.at(-2) ?? 0;
  const gated = shapeOf("blocks.0.mlp.down.weight") !== undefined &&
    shapeOf("blocks.0.mlp.gate.weight") !== undefined;
  const hidden = needed(gated ? "blocks.0.mlp.down.weight" : "blocks.0.mlp.fc2.weight", 2)[1];
  const rotary = family === "dinov3";
  const side = rotary ? 0 : patchSize * Math.sqrt(needed("positions", 3)[1] - 1);
  const biased = shapeOf("blocks.0.attention.queryBias") !== undefined;
  const fit: PositionFit = naming === "huggingface" ? "size" : "offset";
  return checked(what, {
    patchSize,
    width,
    depth: depthOf(shapes.keys()),
    heads: headsOf(what, width, shapes.get(SPECIAL_NAMES.periods)),
    mlpRatio: hidden / width,
    mlp: gated ? "gatedSilu" : "geluErf",
    registers,
    layerScaleInit: shapeOf("blocks.0.layerScale1") ? 1e-5 : null,
    ...(rotary ? { ropeTheta: 100 } : { learnedPositions: registers > 0 ? "antialias" : fit }),
    ...(rotary && biased ? {} : { attentionBias: biased ? "qkv" : "none" }),
    ...(!shapeOf("maskToken") && { maskToken: false }),
    normEps: rotary ? 1e-5 : 1e-6,
    imageSize: rotary ? 14 * patchSize : side,
  });
}

/** Name in the file of the tensor that holds a weight, or the first part of it. */
function nameOf(table: NameTable, path: string): string {
  const block = /^blocks\.(\d+)\./.exec(path)?.[1] ?? "";
  const entry = table[path.replace(/^blocks\.\d+\./, "blocks.#.")] ?? "";
  const name = typeof entry === "string" ? entry : "name" in entry ? entry.name : entry[0];
  return name.replace("#", block);
}

/** By the highest number of a block, so that a block with gaps is told as missing weights. */
function depthOf(names: Iterable<string>): number {
  const numbers = [...names].map((name) =>
    Number(/^(?:blocks|layer|encoder\.layer)\.(\d+)\./.exec(name)?.[1] ?? -1)
  );
  return 1 + numbers.reduce((highest, number) => Math.max(highest, number), -1);
}

function headsOf(what: string, width: number, periods?: readonly number[]): number {
  if (periods) return width / (4 * periods[0]);
  const published = Object.values(PUBLISHED_VITS).find((config) => config.width === width);
  if (published) return published.heads;
  throw new WeightsError(
    `${what}: shapes do not tell the number of heads at width ${width}; give the settings or config.json`,
  );
}

function checked(what: string, config: VitConfig): VitConfig {
  try {
    return parseVitConfig(config);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new WeightsError(`${what}: its shapes must give settings: ${error.message}`);
  }
}
