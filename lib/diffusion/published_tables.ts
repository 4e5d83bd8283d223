/**
 * Fixed tables in published files, which are computed here: they are checked, then left out.
 *
 * @module
 */
import { type HostTensor, sizeOf, WeightsError } from "novae/tensor/mod.ts";
import type { LazyTensor } from "novae/io/mod.ts";
import { axialRopeTable2d, sinCosPositions2d } from "novae/nn/mod.ts";
import { type DitConfig, tokenGrid } from "./config.ts";
import { type DitNaming, pairedOrder } from "./published_names.ts";

/** Name of the table of sine-cosine positions. */
export const POSITIONS = "pos_embed";

/** Modules of rotary angles: of the blocks by naming, and of a head. */
const ROTARY = { svg: "feat_rope", dit: "feat_rope", rae: "enc_feat_rope" }, HEAD_ROTARY = "dec_feat_rope";

/** What bfloat16, which keeps 8 bits, makes of values up to 1. */
const TOLERANCE = 1 / 256;

/**
 * Checks sine-cosine positions and rotary angles.
 *
 * @returns names of the tables.
 * @throws WeightsError naming a table that is missing, misshapen or another one.
 */
export async function checkTables(
  what: string,
  tensors: ReadonlyMap<string, LazyTensor>,
  naming: DitNaming,
  config: DitConfig,
): Promise<string[]> {
  const tables = tablesOf(naming, config);
  for (const [name, table] of tables) {
    const tensor = tensors.get(name);
    if (!tensor) throw new WeightsError(`${what}: weights must fit the settings: missing ${name}`);
    const shape = name === POSITIONS ? [1, ...table.shape] : table.shape;
    if (`${tensor.shape}` !== `${shape}`) {
      throw new WeightsError(`${what}: ${name} must be of shape [${shape}], got [${tensor.shape}]`);
    }
    const { data } = await tensor.read();
    const wrong = data.findIndex((value, i) => !(Math.abs(value - table.data[i]) <= TOLERANCE));
    if (wrong < 0) continue;
    const is = `${table.data[wrong].toFixed(4)} at ${wrong}, got ${data[wrong]}`;
    throw new WeightsError(`${what}: ${name} must be the fixed table of its grid: ${is}`);
  }
  return [...tables.keys()];
}

function tablesOf(naming: DitNaming, config: DitConfig): Map<string, HostTensor> {
  const side = tokenGrid(config), { width, heads, head } = config;
  const tables = new Map([[POSITIONS, sinCosPositions2d(side, side, width)]]);
  if (!config.rope) return tables;
  const add = (module: string, headDim: number) => {
    const { cos, sin } = axialRopeTable2d(side, side, headDim);
    tables.set(`${module}.freqs_cos`, sideBySide(cos)).set(`${module}.freqs_sin`, sideBySide(sin));
  };
  add(ROTARY[naming], width / heads);
  if (head) add(HEAD_ROTARY, head.width / head.heads);
  return tables;
}

/** A rotary table [N, K] with the channels of a pair side by side, as files have it. */
function sideBySide({ dtype, shape, data }: HostTensor): HostTensor {
  const headDim = shape[1], order = pairedOrder(headDim), result = new Float32Array(sizeOf(shape));
  for (let at = 0; at < result.length; at++) result[at - at % headDim + order[at % headDim]] = data[at];
  return { dtype, shape, data: result } as HostTensor;
}
