/**
 * Contact sheets: samples of a data set on one picture, with masks and depths where there are any.
 *
 * @module
 */
import { concatRows, full, type HostTensor, Rng } from "novae/tensor/mod.ts";
import { imageGrid, type RgbImage } from "novae/io/mod.ts";
import type { Dataset } from "./dataset.ts";
import { isSolids } from "./solids.ts";

/** What a contact sheet shows. */
export interface ContactSheetOptions {
  /** The data set to draw samples of. */
  readonly dataset: Dataset;
  /** Number of samples; 20 if omitted, and never more than there are images. */
  readonly count?: number;
  /** Seed of the choice; 0 if omitted. */
  readonly seed?: number;
  /** Side of the square that each pixel becomes; by default such that a sample is about 128 wide. */
  readonly scale?: number;
}

const COLUMNS = 10;

/** Colours of wall, floor and solid in a mask. */
const MASK_COLORS = [[76, 120, 168], [186, 176, 172], [245, 133, 24]] as const;

/** matplotlib's viridis at nine even steps. */
const VIRIDIS = [
  [68, 1, 84],
  [71, 45, 123],
  [59, 82, 139],
  [44, 114, 142],
  [33, 145, 140],
  [40, 174, 128],
  [94, 201, 98],
  [173, 220, 48],
  [253, 231, 37],
] as const;

/**
 * Draws samples in rows of ten, one class a column where there are ten classes. For `solids`, each row of images is
 * followed by a row of masks (wall blue, floor grey, solid orange) and one of depths (viridis, near is yellow).
 *
 * @returns RGB bytes, ready for `encodePng`.
 */
export function renderContactSheet(options: ContactSheetOptions): RgbImage {
  const { dataset, count = 20, seed = 0 } = options;
  const { scale = Math.max(1, Math.round(128 / dataset.imageSize)) } = options;
  if (!(Number.isInteger(count) && count >= 1)) {
    throw new RangeError(
      `Cannot draw a contact sheet: count must be a whole number of at least 1, got ${count}`,
    );
  }
  const chosen = chooseSamples(dataset, Math.min(count, dataset.size), seed);
  const columns = Math.min(COLUMNS, chosen.length), rows: HostTensor[] = [];
  for (let i = 0; i < chosen.length; i += columns) {
    const indices = chosen.slice(i, i + columns), pad = columns - indices.length;
    rows.push(dataset.images(indices), ...blank(pad, dataset));
    if (!isSolids(dataset)) continue;
    rows.push(maskImages(dataset.masks(indices)), ...blank(pad, dataset));
    rows.push(depthImages(dataset.depths(indices)), ...blank(pad, dataset));
  }
  return imageGrid(concatRows(rows), columns, { gap: 2 * Math.ceil(scale / 2), scale });
}

/** Sample k is of class k mod L where one is left, else any other; drawn without repetition. */
function chooseSamples(dataset: Dataset, count: number, seed: number): number[] {
  const order = new Rng(seed).split("contact sheet").permutation(dataset.size);
  const labels = dataset.labels(order), byClass = dataset.classes.map((): number[] => []);
  for (let i = order.length - 1; i >= 0; i--) byClass[labels[i]].push(order[i]);
  return Array.from({ length: count }, (_, k) => {
    const queue = byClass[k % byClass.length];
    return (queue.length > 0 ? queue : byClass.find((other) => other.length > 0)!).pop()!;
  });
}

function blank(count: number, { imageSize }: Dataset): HostTensor[] {
  return count === 0 ? [] : [full([count, imageSize, imageSize, 3], 1)];
}

function maskImages(masks: HostTensor): HostTensor {
  return colored(masks, (value) => MASK_COLORS[value]);
}

/** Colours by depth, from the nearest to the farthest point of all the images. */
function depthImages(depths: HostTensor): HostTensor {
  let near = Infinity, far = -Infinity;
  for (const depth of depths.data) {
    near = Math.min(near, depth);
    far = Math.max(far, depth);
  }
  return colored(depths, (depth) => viridis((far - depth) / Math.max(far - near, 1e-6)));
}

function viridis(value: number): number[] {
  const position = value * (VIRIDIS.length - 1), low = Math.min(Math.floor(position), VIRIDIS.length - 2);
  return VIRIDIS[low].map((c, i) => c + (position - low) * (VIRIDIS[low + 1][i] - c));
}

function colored(values: HostTensor, color: (value: number) => readonly number[]): HostTensor {
  const data = new Float32Array(values.data.length * 3);
  values.data.forEach((value, i) => data.set(color(value).map((byte) => byte / 255), i * 3));
  return { dtype: "float32", shape: [...values.shape, 3], data };
}
