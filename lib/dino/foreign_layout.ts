/**
 * From the layout of PyTorch's modules to ours: maps are transposed, convolutions become maps, parts are cut and
 * joined.
 *
 * @module
 */
import { concatRows, float32, type HostTensor, rows, WeightsError } from "novae/tensor/mod.ts";
import type { VitConfig } from "./config.ts";
import { vitTree } from "./vit_params.ts";
import { NAME_TABLES, type NamedFamily, type NamedPart } from "./weight_names.ts";

/** Where a weight of ours comes from. */
export interface PlannedWeight {
  /** Our path, e.g. `blocks.0.mlp.fc1.weight`. */
  readonly path: string;
  /** Our shape. */
  readonly shape: readonly number[];
  /** Names in the file, joined along the first axis of the file's layout. */
  readonly names: readonly string[];
  /** Which part of the only name, if it holds more. */
  readonly part?: NamedPart;
  /** Side of the patches. */
  readonly patchSize: number;
}

/**
 * Where each weight that the settings ask for comes from, in the order of our tree.
 *
 * @throws WeightsError if the family has no such weight.
 */
export function planWeights(
  what: string,
  { naming, family }: NamedFamily,
  config: VitConfig,
): PlannedWeight[] {
  const table = NAME_TABLES[naming][family], plan: PlannedWeight[] = [], unknown: string[] = [];
  vitTree(config, (path, shape) => {
    const block = /^blocks\.(\d+)\./.exec(path)?.[1] ?? "";
    const entry = table[path.replace(/^blocks\.\d+\./, "blocks.#.")];
    if (entry === undefined) return void unknown.push(path);
    const isPart = typeof entry === "object" && "name" in entry;
    const names = (isPart ? [entry.name] : [entry].flat() as string[]).map((name) =>
      name.replace("#", block)
    );
    plan.push({ path, shape, names, part: isPart ? entry : undefined, patchSize: config.patchSize });
  });
  if (unknown.length === 0) return plan;
  throw new WeightsError(`${what}: settings must be of the family ${family}, got some with ${unknown[0]}`);
}

/** Names and shapes in the file of what makes up a weight; tokens without their leading axes. */
export function fileLayout(
  { path, shape, names, part, patchSize }: PlannedWeight,
): [string, readonly number[]][] {
  if (path === "patchEmbed.weight") return [[names[0], [shape[1], 3, patchSize, patchSize]]];
  const layout = isMap(path) ? shape.toReversed() : [...shape];
  layout[0] = layout[0] * (part?.of ?? 1) / names.length;
  return names.map((name) => [name, layout]);
}

/**
 * Reads a weight and brings it into our layout.
 *
 * @throws WeightsError if its values are no floating-point numbers.
 */
export async function gather(
  what: string,
  weight: PlannedWeight,
  read: (name: string) => Promise<HostTensor>,
): Promise<HostTensor> {
  const pieces: HostTensor[] = [];
  for (const name of weight.names) {
    const tensor = await read(name);
    if (tensor.dtype !== "float32") {
      throw new WeightsError(`${what}: ${name} must hold floating-point numbers, got ${tensor.dtype}`);
    }
    pieces.push(tensor);
  }
  const { path, shape, part } = weight;
  const whole = pieces.length === 1 ? pieces[0] : concatRows(pieces);
  if (path === "patchEmbed.weight") return float32(patchMap(whole), shape);
  if (part) return inOurLayout(path, partOf(whole, part), shape);
  return inOurLayout(path, whole, shape);
}

function partOf(tensor: HostTensor, { part, of }: NamedPart): HostTensor {
  const count = tensor.shape[0] / of;
  return rows(tensor, part * count, (part + 1) * count);
}

function inOurLayout(
  path: string,
  { data, shape: [outDim] }: HostTensor,
  shape: readonly number[],
): HostTensor {
  if (!isMap(path)) return float32(data.slice() as Float32Array, shape);
  return float32(transposed(data as Float32Array, outDim, data.length / outDim), shape);
}

/** Whether a weight is a linear map, whose axes PyTorch has the other way round. */
function isMap(path: string): boolean {
  return /attention\.(qkv|proj\.weight)$|mlp\.\w+\.weight$/.test(path);
}

/** In squares that fit the cache, as one of the two sides is walked with a large stride. */
function transposed(data: Float32Array, height: number, width: number): Float32Array {
  const result = new Float32Array(data.length), side = 32;
  for (let top = 0; top < height; top += side) {
    for (let left = 0; left < width; left += side) {
      const bottom = Math.min(top + side, height), right = Math.min(left + side, width);
      for (let i = top; i < bottom; i++) {
        for (let j = left; j < right; j++) result[j * height + i] = data[i * width + j];
      }
    }
  }
  return result;
}

/** A convolution [D, 3, p, p] that does not overlap as a map of pixels in the order row, column, channel. */
function patchMap({ data, shape: [width, channels, side] }: HostTensor): Float32Array {
  const result = new Float32Array(data.length), area = side * side;
  for (let d = 0; d < width; d++) {
    for (let c = 0; c < channels; c++) {
      for (let pixel = 0; pixel < area; pixel++) {
        result[(pixel * channels + c) * width + d] = data[(d * channels + c) * area + pixel];
      }
    }
  }
  return result;
}
