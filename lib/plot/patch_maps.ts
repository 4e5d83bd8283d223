/**
 * What a vision transformer makes of the patches of pictures, drawn beside the pictures: components of features,
 * attention and similarity to chosen patches.
 *
 * @module
 */
import { expectShape, type HostTensor, type Matrix, rows } from "novae/tensor/mod.ts";
import type { Figure, FigureOptions } from "./figure.ts";
import { type PanelMark, rasterPanel } from "./image_panel.ts";
import {
  componentMaps,
  enlarge,
  gridOfImages,
  overlay,
  type Raster,
  scalarMap,
  smoothRaster,
} from "./raster.ts";

/** What figures of patches can be told. */
export interface PatchMapOptions extends FigureOptions {
  /** Labels of the pictures, which stand in columns. */
  readonly columnLabels?: readonly string[];
}

/** What figures of one number a patch can be told. */
export interface ScalarMapOptions extends PatchMapOptions {
  /** Numbers of the darkest and the lightest colour, the same in all maps; by default fitted to the values. */
  readonly range?: readonly [number, number];
}

/** A patch that others are compared with. */
export interface ChosenPatch {
  /** What it shows, the label of its row. */
  readonly label: string;
  /** Index of its picture. */
  readonly image: number;
  /** Row of the patch, from the top. */
  readonly row: number;
  /** Column of the patch, from the left. */
  readonly col: number;
}

/** Share of a map that lies over its picture. */
const OVERLAY_SHARE = 0.65;
const GAP = 6;

/**
 * Draws the first three components of the patches as red, green and blue: pictures above, maps below them, and at the
 * bottom the maps, smoothly enlarged, over the pictures in grey. A colour means the same in all maps.
 *
 * *Source*: the pictures of Oquab et al., arXiv 2304.07193, figure 1. *Differs*: nothing is cut out.
 *
 * @param imageUnitBHWC pictures [B, H, W, 3] in [0, 1]; about three to eight fit a page.
 * @param components one row a patch, picture after picture and row by row in each; at least 3 columns.
 * @throws TypeError if the pictures do not have this shape; RangeError if the patches do not fill them with squares.
 */
export async function componentPanel(
  imageUnitBHWC: HostTensor,
  components: Matrix,
  options: PatchMapOptions = {},
): Promise<Figure> {
  const { pictures, grid } = patchesOf(imageUnitBHWC, components.rows / imageUnitBHWC.shape[0]);
  const maps = componentMaps(components, grid.rows, grid.cols);
  const over = maps.map((map, b) => {
    const { width, height } = pictures[b];
    return overlay(inGrey(pictures[b]), smoothRaster(map, width, height), OVERLAY_SHARE);
  });
  return await rasterPanel([pictures, maps.map((map) => enlarge(map, grid.side)), over], {
    rowLabels: ["Picture", "Components 1–3", "Over the picture"],
    gap: GAP,
    ...options,
  });
}

/**
 * Draws how strongly a token attends to the patches, a row of maps for each head below the pictures, in multiples of
 * even attention, `T · weight`. Unless a range is given, the lightest colour is the 99th percentile of all maps.
 *
 * @param imageUnitBHWC pictures [B, H, W, 3] in [0, 1]; about three to eight fit a page.
 * @param attentionBAT weights of each head [B, A, T]; patches are the last of the T tokens.
 * @param patches number of patches of a picture.
 * @throws TypeError if the tensors do not have these shapes; RangeError if the patches do not fill the pictures with
 * squares or there are fewer tokens.
 */
export async function attentionPanel(
  imageUnitBHWC: HostTensor,
  attentionBAT: HostTensor,
  patches: number,
  options: ScalarMapOptions = {},
): Promise<Figure> {
  const { pictures, grid } = patchesOf(imageUnitBHWC, patches);
  expectShape("Cannot draw attention", attentionBAT.shape, [pictures.length, null, null]);
  const [, heads, tokens] = attentionBAT.shape;
  if (tokens < patches) {
    throw new RangeError(`Cannot draw attention: wanted ${patches} tokens or more, got ${tokens}`);
  }
  const relative = (b: number, head: number) => {
    const end = (b * heads + head + 1) * tokens;
    return Float64Array.from(attentionBAT.data.subarray(end - patches, end), (weight) => tokens * weight);
  };
  const values = Array.from({ length: heads }, (_, head) => pictures.map((_, b) => relative(b, head)));
  const range = options.range ?? [0, percentile(values.flat(), 0.99)];
  const maps = values.map((row) => row.map((map) => scalarRaster(map, grid, range)));
  return await rasterPanel([pictures, ...maps], {
    rowLabels: ["Picture", ...maps.map((_, head) => `Head ${head + 1}`)],
    gap: GAP,
    colourBar: { title: "Attention, 1 = even", range },
    ...options,
  });
}

/**
 * Draws how similar all patches are to chosen ones, a row of maps for each of them below the pictures. The chosen
 * patches are framed, in the pictures and in their own maps.
 *
 * @param imageUnitBHWC pictures [B, H, W, 3] in [0, 1]; about three to eight fit a page.
 * @param similarities a row for each chosen patch, in it all patches, picture after picture and row by row in each.
 * @param chosen the patches that others are compared with.
 * @throws TypeError if the pictures do not have this shape; RangeError if the patches do not fill them with squares or
 * a chosen one is not among them.
 */
export async function similarityPanel(
  imageUnitBHWC: HostTensor,
  similarities: Matrix,
  chosen: readonly ChosenPatch[],
  options: ScalarMapOptions = {},
): Promise<Figure> {
  const { pictures, grid } = patchesOf(imageUnitBHWC, similarities.cols / imageUnitBHWC.shape[0]);
  if (similarities.rows !== chosen.length) {
    throw new RangeError(
      `Cannot draw similarity: wanted ${chosen.length} rows, got ${similarities.rows}`,
    );
  }
  const range = options.range ?? [percentile([similarities.data], 0.01), percentile([similarities.data], 1)];
  const cells = grid.rows * grid.cols;
  const maps = chosen.map((_, row) =>
    pictures.map((_, b) => {
      const first = row * similarities.cols + b * cells;
      return scalarRaster(similarities.data.subarray(first, first + cells), grid, range);
    })
  );
  return await rasterPanel([pictures, ...maps], {
    rowLabels: ["Picture", ...chosen.map(({ label }) => label)],
    gap: GAP,
    colourBar: { title: "Cosine to the framed patch", range },
    marks: chosen.flatMap((patch, i) => [0, i + 1].map((row) => frameOf(patch, row, pictures, grid))),
    ...options,
  });
}

/** Patches of a picture: how many there are and their side in pixels. */
interface PatchGrid {
  readonly rows: number;
  readonly cols: number;
  readonly side: number;
}

function patchesOf(imageUnitBHWC: HostTensor, patches: number): { pictures: Raster[]; grid: PatchGrid } {
  expectShape("Cannot draw patches", imageUnitBHWC.shape, [null, null, null, 3]);
  const [count, height, width] = imageUnitBHWC.shape, side = Math.sqrt(height * width / patches);
  if (![side, height / side, width / side].every(Number.isInteger)) {
    throw new RangeError(
      `Cannot draw patches: squares must fill pictures of ${width} × ${height}, got ${patches} patches a picture`,
    );
  }
  const pictures = Array.from({ length: count }, (_, b) => gridOfImages(rows(imageUnitBHWC, b, b + 1)));
  return { pictures, grid: { rows: height / side, cols: width / side, side } };
}

/** The picture without its colours, by the luma of ITU-R BT.709. */
function inGrey({ width, height, data }: Raster): Raster {
  const grey = data.slice();
  for (let i = 0; i < data.length; i += 4) {
    grey.fill(Math.round(0.2126 * data[i] + 0.7152 * data[i + 1] + 0.0722 * data[i + 2]), i, i + 3);
  }
  return { width, height, data: grey };
}

function scalarRaster(
  values: ArrayLike<number>,
  grid: PatchGrid,
  range: readonly [number, number],
): Raster {
  return enlarge(scalarMap(values, grid.rows, grid.cols, range), grid.side);
}

/** A frame around a patch in the given row of pictures and maps, wide enough to leave the patch to be seen. */
function frameOf(
  patch: ChosenPatch,
  panelRow: number,
  pictures: readonly Raster[],
  grid: PatchGrid,
): PanelMark {
  const { image, row, col } = patch;
  const inside = (at: number, end: number) => Number.isInteger(at) && at >= 0 && at < end;
  if (!(inside(image, pictures.length) && inside(row, grid.rows) && inside(col, grid.cols))) {
    throw new RangeError(
      `Cannot frame a patch: there are ${pictures.length} pictures of ${grid.rows} × ${grid.cols} patches, ` +
        `got row ${row}, column ${col} of picture ${image}`,
    );
  }
  const { width, height } = pictures[image], side = 2 * grid.side;
  return {
    x: image * (width + GAP) + (col - 0.5) * grid.side,
    y: panelRow * (height + GAP) + (row - 0.5) * grid.side,
    width: side,
    height: side,
  };
}

/** The value below which a share of all finite values lies. */
function percentile(parts: readonly ArrayLike<number>[], share: number): number {
  const sorted = Float64Array.from(parts.flatMap((part) => Array.from(part).filter(Number.isFinite)))
    .toSorted();
  return sorted.length === 0 ? 0 : sorted[Math.floor(share * (sorted.length - 1))];
}
