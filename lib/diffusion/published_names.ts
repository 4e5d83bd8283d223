/**
 * How published files name the weights of diffusion transformers, and how they lay them out.
 *
 * *Source*: the modules of shiml20/SVG, of facebookresearch/DiT, willisma/SiT and hustvl/LightningDiT, which share
 * their names, and of bytetriper/RAE.
 *
 * @module
 */
import { flattenTree, sizeOf, WeightsError } from "novae/tensor/mod.ts";
import type { DitConfig } from "./config.ts";
import { ditShapes, isShape } from "./dit_params.ts";

/** Whose names a file uses: `dit` are also those of SiT and LightningDiT. */
export type DitNaming = "svg" | "dit" | "rae";

/** Where a weight of ours comes from. */
export interface PlannedWeight {
  /** Our path, e.g. `blocks.0.mlp.fc1.weight`. */
  readonly path: string;
  /** Our shape. */
  readonly shape: readonly number[];
  /** What it is made of, joined along the first axis of the file's layout. */
  readonly pieces: readonly NamedPiece[];
  /** The row in the file of each of our columns, if their order differs; see {@linkcode pairedOrder}. */
  readonly order?: Int32Array;
}

/** A tensor of a file, or the half of one. */
export interface NamedPiece {
  /** Name in the file. */
  readonly name: string;
  /** Its shape in the file. */
  readonly shape: readonly number[];
  /** Its first row that is wanted. */
  readonly first: number;
  /** How many rows are. */
  readonly rows: number;
}

/** The first linear map, by which a naming is known. */
export const FIRST_MAP: Readonly<Record<DitNaming, string>> = {
  svg: "ln1",
  dit: "x_embedder.proj",
  rae: "s_embedder.proj",
};

const RENAMES: readonly (readonly [RegExp, string])[] = [
  [/^head\.tokens\./, `${FIRST_MAP.dit}.`],
  [/^head\.projection\./, "s_projector."],
  [/^time\.fc1\./, "t_embedder.mlp.0."],
  [/^time\.fc2\./, "t_embedder.mlp.2."],
  [/^time\.frequencies$/, "t_embedder.W"],
  [/^labels\.table$/, "y_embedder.embedding_table.weight"],
  [/^outputNorm\./, "final_layer.norm_final."],
  [/^output\./, "final_layer.linear."],
  [/\.attention\./, ".attn."],
  [/\.qNorm\./, ".q_norm."],
  [/\.kNorm\./, ".k_norm."],
  [/\.mlp\.(gate|up)\./, ".mlp.w12."],
  [/\.mlp\.down\./, ".mlp.w3."],
];

/**
 * Where each weight that a configuration asks for comes from, in the order of our tree.
 *
 * @throws WeightsError if the naming has no such transformer.
 */
export function planWeights(what: string, naming: DitNaming, config: DitConfig): PlannedWeight[] {
  if ((naming === "rae") !== (config.head !== undefined)) {
    throw new WeightsError(
      `${what}: a head must be there in RAE's names and in no others, got ${
        config.head ? "one" : "none"
      } in ${naming === "rae" ? "those" : "others"}`,
    );
  }
  return flattenTree<readonly number[]>(ditShapes(config), isShape).map(({ path, value: shape }) => ({
    path,
    shape,
    pieces: piecesOf(naming, path, shape, config),
    ...orderOf(path, config),
  }));
}

function piecesOf(
  naming: DitNaming,
  path: string,
  shape: readonly number[],
  config: DitConfig,
): NamedPiece[] {
  if (/^(head\.)?modulation\./.test(path)) return modulationPieces(path, shape, config);
  const head = /^head\.blocks\.(\d+)\./.exec(path);
  const counted = head ? path.replace(head[0], `blocks.${config.depth + Number(head[1])}.`) : path;
  const start = counted.replace(/^tokens\./, `${FIRST_MAP[naming]}.`);
  const name = RENAMES.reduce((text, [pattern, replacement]) => text.replace(pattern, replacement), start);
  const layout = path === "labels.table" ? [...shape] : shape.toReversed(), rows = layout[0];
  if (/^(head\.)?tokens\.weight$/.test(path) && naming !== "svg") {
    const { patchSize = 1, channels } = config;
    return [{ name, shape: [rows, channels, patchSize, patchSize], first: 0, rows }];
  }
  const half = /\.mlp\.(gate|up)\./.exec(path)?.[1];
  if (half === undefined) return [{ name, shape: layout, first: 0, rows }];
  return [{ name, shape: [2 * rows, ...layout.slice(1)], first: half === "up" ? rows : 0, rows }];
}

/** The modulations of all blocks, six times the width each, and twice the width before the output. */
function modulationPieces(path: string, shape: readonly number[], config: DitConfig): NamedPiece[] {
  const ofHead = path.startsWith("head."), { width, depth } = ofHead ? config.head! : config;
  const kind = path.slice(path.lastIndexOf(".") + 1), first = ofHead ? config.depth : 0;
  const piece = (module: string, rows: number): NamedPiece => {
    const name = `${module}.adaLN_modulation.1.${kind}`;
    return { name, shape: kind === "weight" ? [rows, shape[0]] : [rows], first: 0, rows };
  };
  const blocks = Array.from({ length: depth }, (_, i) => piece(`blocks.${first + i}`, 6 * width));
  return ofHead || !config.head ? [...blocks, piece("final_layer", 2 * width)] : blocks;
}

/** Rotary positions turn pairs of channels, which the files have side by side and we have half a head apart. */
function orderOf(path: string, config: DitConfig): { order?: Int32Array } {
  if (!config.rope) return {};
  const { width, heads } = path.startsWith("head.") ? config.head! : config, headDim = width / heads;
  const order = pairedOrder(headDim);
  if (/\.[qk]Norm\.\w+$/.test(path)) return { order };
  if (!/\.qkv\.\w+$/.test(path)) return {};
  return {
    order: Int32Array.from(
      { length: 3 * width },
      (_, row) => row < 2 * width ? row - row % headDim + order[row % headDim] : row,
    ),
  };
}

/**
 * The channel in the file of each of our channels of a head: there, rotary pairs (2f, 2f + 1) of the row fill the
 * first half and those of the column the second; here, the first of all pairs come first.
 */
export function pairedOrder(headDim: number): Int32Array {
  const half = headDim / 2;
  return Int32Array.from(
    { length: headDim },
    (_, channel) => 2 * (channel % half) + Math.floor(channel / half),
  );
}

/**
 * Reads the pieces of a weight into our layout, one after the other: linear maps [out, in, …] become [in, out], with
 * the places of a patch first.
 *
 * @param read gives the values of a tensor of the file.
 */
export async function gather(
  { path, shape, pieces, order }: PlannedWeight,
  read: (name: string) => Promise<Float32Array>,
): Promise<Float32Array> {
  if (path === "labels.table") return (await read(pieces[0].name)).slice();
  const result = new Float32Array(sizeOf(shape)), columns = shape[shape.length - 1];
  let column = 0;
  for (const piece of pieces) {
    writeColumns(result, await read(piece.name), piece, { column, columns, order });
    column += piece.rows;
  }
  return result;
}

/** Side of the squares in which a map is turned, so that both sides fit the cache. */
const TILE = 32;

/** Writes rows of a piece as columns of a map, or values of a vector, from `column` on. */
function writeColumns(
  result: Float32Array,
  data: Float32Array,
  { shape, first, rows }: NamedPiece,
  { column, columns, order }: { column: number; columns: number; order?: Int32Array },
): void {
  const [, channels = 1, ...places] = shape, area = sizeOf(places), inner = channels * area;
  for (let top = 0; top < rows; top += TILE) {
    const bottom = Math.min(top + TILE, rows);
    for (let left = 0; left < inner; left += TILE) {
      const right = Math.min(left + TILE, inner);
      for (let row = top; row < bottom; row++) {
        const from = (order ? order[row] : first + row) * inner;
        for (let at = left; at < right; at++) { // `at` counts the input in our order: place, then channel
          const source = area === 1 ? at : at % channels * area + Math.floor(at / channels);
          result[at * columns + column + row] = data[from + source];
        }
      }
    }
  }
}
