/**
 * Pictures made of numbers: grids of images, maps of scalars, labels and components, as RGBA rasters and PNG.
 *
 * @module
 */
import { resizeBytes } from "novae/io/mod.ts";
import { expectShape, type HostTensor, type Matrix } from "novae/tensor/mod.ts";
import { CLASS_COLOURS } from "./theme.ts";

/** Colours of {@linkcode scalarMap} from low to high, red, green and blue in 0 … 255. */
export const SCALAR_COLOURS: readonly (readonly [number, number, number])[] = [
  [68, 1, 84],
  [70, 50, 127],
  [54, 92, 141],
  [39, 127, 142],
  [31, 161, 135],
  [74, 194, 109],
  [159, 218, 58],
  [253, 231, 37],
];

/** A picture: four bytes a pixel (red, green, blue, opacity), row by row. */
export interface Raster {
  /** Pixels in a row. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
  /** height · width · 4 bytes. */
  readonly data: Uint8Array;
}

/** How images are laid out in a grid. */
export interface GridOptions {
  /** Images in a row; by default all in one row up to 8. */
  readonly columns?: number;
  /** Transparent pixels between images, 2 by default. */
  readonly gap?: number;
  /** Whole number of pixels for each pixel of the images, 1 by default. */
  readonly scale?: number;
}

/**
 * Lays images out in rows with transparent gaps, so that the grid suits a light and a dark page.
 *
 * @param imageUnit images [B, H, W, 3] in [0, 1]; values outside are clipped.
 * @throws TypeError for another shape.
 */
export function gridOfImages(imageUnit: HostTensor, options: GridOptions = {}): Raster {
  expectShape("Cannot lay out images", imageUnit.shape, [null, null, null, 3]);
  const [count, height, width] = imageUnit.shape;
  const images = Array.from({ length: count }, (_, b) => {
    const size = height * width;
    const data = new Uint8Array(4 * size);
    for (let p = 0; p < size; p++) {
      for (let c = 0; c < 3; c++) data[4 * p + c] = toByte(imageUnit.data[3 * (b * size + p) + c]);
      data[4 * p + 3] = 255;
    }
    return { width, height, data };
  });
  return gridOfRasters(images, options);
}

/**
 * Lays equally large rasters out in rows with transparent gaps.
 *
 * @throws RangeError if there are none or their sizes differ.
 */
export function gridOfRasters(rasters: readonly Raster[], options: GridOptions = {}): Raster {
  if (rasters.length === 0) throw new RangeError("Cannot lay out images: at least one is needed, got none");
  const scaled = rasters.map((raster) => enlarge(raster, options.scale ?? 1));
  const { width, height } = scaled[0];
  const columns = options.columns ?? Math.min(scaled.length, 8);
  const gap = options.gap ?? 2;
  const rowCount = Math.ceil(scaled.length / columns);
  const grid = {
    width: columns * width + (columns - 1) * gap,
    height: rowCount * height + (rowCount - 1) * gap,
  };
  const data = new Uint8Array(4 * grid.width * grid.height);
  scaled.forEach((raster, i) => {
    if (raster.width !== width || raster.height !== height) {
      throw new RangeError(
        `Cannot lay out images: all must be ${width} × ${height}, got ${raster.width} × ${raster.height}`,
      );
    }
    const left = (i % columns) * (width + gap), top = Math.floor(i / columns) * (height + gap);
    for (let y = 0; y < height; y++) {
      data.set(raster.data.subarray(4 * y * width, 4 * (y + 1) * width), 4 * ((top + y) * grid.width + left));
    }
  });
  return { ...grid, data };
}

/** Repeats each pixel `scale` times in both directions. */
export function enlarge(raster: Raster, scale: number): Raster {
  if (scale === 1) return raster;
  if (!Number.isInteger(scale) || scale < 1) {
    throw new RangeError(`Cannot enlarge a picture: scale must be a whole number from 1, got ${scale}`);
  }
  const width = raster.width * scale, height = raster.height * scale;
  const source = new Uint32Array(raster.data.slice().buffer);
  const target = new Uint32Array(width * height);
  for (let y = 0; y < height; y++) {
    const row = Math.floor(y / scale) * raster.width;
    for (let x = 0; x < width; x++) target[y * width + x] = source[row + Math.floor(x / scale)];
  }
  return { width, height, data: new Uint8Array(target.buffer) };
}

/**
 * Colours a map of scalars from dark blue (low) over green to yellow (high), in steps of equal lightness.
 *
 * *Source*: eight anchors of matplotlib's viridis, linear between them.
 *
 * @param values rows × columns numbers, row by row; not finite ones are left transparent.
 * @param range numbers of the darkest and the lightest colour; by default the least and the greatest value.
 */
export function scalarMap(
  values: ArrayLike<number>,
  rows: number,
  cols: number,
  range: readonly [number, number] = finiteRange(values),
): Raster {
  const data = new Uint8Array(4 * rows * cols);
  const span = range[1] > range[0] ? range[1] - range[0] : 1;
  for (let p = 0; p < rows * cols; p++) {
    if (!Number.isFinite(values[p])) continue;
    const position = Math.min(Math.max((values[p] - range[0]) / span, 0), 1) * (SCALAR_COLOURS.length - 1);
    const below = Math.min(Math.floor(position), SCALAR_COLOURS.length - 2), part = position - below;
    for (let c = 0; c < 3; c++) {
      data[4 * p + c] = Math.round(
        SCALAR_COLOURS[below][c] * (1 - part) + SCALAR_COLOURS[below + 1][c] * part,
      );
    }
    data[4 * p + 3] = 255;
  }
  return { width: cols, height: rows, data };
}

/** Colours a map of labels with the class colours. */
export function labelMap(labels: ArrayLike<number>, rows: number, cols: number): Raster {
  const data = new Uint8Array(4 * rows * cols);
  const colours = CLASS_COLOURS.map((colour) =>
    [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16))
  );
  for (let p = 0; p < rows * cols; p++) {
    data.set(colours[labels[p] % colours.length], 4 * p);
    data[4 * p + 3] = 255;
  }
  return { width: cols, height: rows, data };
}

/**
 * Shows the first three components of each cell (of a PCA, say) as red, green and blue. Each component is stretched
 * from its 2nd to its 98th percentile over all maps together, so that a colour means the same in each.
 *
 * @param components one row a cell, map after map and row by row in each; at least 3 columns, of which 3 are shown.
 * @param rows cells of a map from top to bottom.
 * @param cols cells of a map from left to right.
 * @throws RangeError if the cells do not fill whole maps.
 */
export function componentMaps(components: Matrix, rows: number, cols: number): Raster[] {
  const cells = rows * cols, count = components.rows / cells;
  if (!Number.isInteger(count) || components.cols < 3) {
    throw new RangeError(
      `Cannot draw components: wanted a multiple of ${cells} rows and 3 columns or more, ` +
        `got ${components.rows} rows and ${components.cols} columns`,
    );
  }
  const data = new Uint8Array(4 * components.rows).fill(255);
  for (let c = 0; c < 3; c++) {
    const channel = Float64Array.from(
      { length: components.rows },
      (_, p) => components.data[p * components.cols + c],
    );
    const sorted = channel.toSorted(), last = sorted.length - 1;
    const low = sorted[Math.floor(0.02 * last)], high = sorted[Math.ceil(0.98 * last)];
    const span = high > low ? high - low : 1;
    for (let p = 0; p < channel.length; p++) data[4 * p + c] = toByte((channel[p] - low) / span);
  }
  return Array.from({ length: count }, (_, m) => ({
    width: cols,
    height: rows,
    data: data.slice(4 * m * cells, 4 * (m + 1) * cells),
  }));
}

/**
 * Resizes a raster, as Pillow's `Image.resize` does: bicubic between pixels when enlarging, averages of them when
 * shrinking. Opacity is resized like a colour, so let all pixels be opaque.
 *
 * @param width pixels in a row afterwards.
 * @param height rows afterwards.
 * @throws RangeError if a side is no whole number of at least 1.
 */
export function smoothRaster(raster: Raster, width: number, height: number): Raster {
  return { width, height, data: resizeBytes(raster.data, raster, { width, height }, 4, "bicubic") };
}

/**
 * Lays one raster over another of the same size.
 *
 * @param share of the upper one, in [0, 1].
 * @throws RangeError if the sizes differ.
 */
export function overlay(lower: Raster, upper: Raster, share: number): Raster {
  const { width, height } = lower;
  if (upper.width !== width || upper.height !== height) {
    throw new RangeError(
      `Cannot lay a picture over another: both must be ${width} × ${height}, got ${upper.width} × ${upper.height}`,
    );
  }
  const data = lower.data.map((value, i) => Math.round(value * (1 - share) + upper.data[i] * share));
  return { width, height, data };
}

/** Encodes a raster as PNG. */
export async function encodeRaster(raster: Raster): Promise<Uint8Array> {
  // Loaded on first use: its native part takes longer than most commands.
  const { default: sharp } = await import("sharp");
  const { width, height, data } = raster;
  const png = await sharp(data, { raw: { width, height, channels: 4 } }).png({ compressionLevel: 9 })
    .toBuffer();
  return new Uint8Array(png);
}

function toByte(unit: number): number {
  return Math.round(Math.min(Math.max(unit, 0), 1) * 255);
}

function finiteRange(values: ArrayLike<number>): [number, number] {
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) continue;
    low = Math.min(low, values[i]);
    high = Math.max(high, values[i]);
  }
  return [low, high];
}
