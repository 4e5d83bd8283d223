/**
 * Images above their reconstructions and what differs.
 *
 * @module
 */
import { concatRows, expectShape, float32, type HostTensor, rows } from "novae/tensor/mod.ts";
import { imageGrid, type RgbImage } from "novae/io/mod.ts";
import type { Figure } from "./figure.ts";
import { type ImagePanelOptions, rasterPanel } from "./image_panel.ts";
import { gridOfImages } from "./raster.ts";

/** What differences are multiplied with, unless something else is wanted. */
const DIFFERENCE_GAIN = 5;

/** How a {@linkcode reconstructionGrid} is drawn. */
export interface ReconstructionGridOptions {
  /** What the differences are multiplied with. Default 5. */
  readonly gain?: number;
  /** Side of the square that each pixel becomes; as many as make an image 64 pixels wide or wider, if omitted. */
  readonly scale?: number;
}

/**
 * Three rows: images, their reconstructions, and `gain · |image − reconstruction|`, clipped at 1, so that black means
 * equal.
 *
 * @param imageUnitBHWC images in [0, 1], `[B, H, W, 3]`.
 * @param reconstructionUnit the same shape.
 * @throws TypeError if the shapes differ.
 */
export function reconstructionGrid(
  imageUnitBHWC: HostTensor,
  reconstructionUnit: HostTensor,
  options: ReconstructionGridOptions = {},
): RgbImage {
  const difference = differenceImages(imageUnitBHWC, reconstructionUnit, options.gain);
  const [count, , width] = imageUnitBHWC.shape, { scale = Math.max(1, Math.ceil(64 / width)) } = options;
  return imageGrid(concatRows([imageUnitBHWC, reconstructionUnit, difference]), count, { scale });
}

/** Reconstructions by one autoencoder, for a {@linkcode reconstructionPanel}. */
export interface LabelledReconstructions {
  /** Whose they are, the label of their row. */
  readonly label: string;
  /** `imageUnit` `[B, H, W, 3]`, of the same images in the same order. */
  readonly images: HostTensor;
}

/** What a {@linkcode reconstructionPanel} can be told. */
export interface ReconstructionPanelOptions extends ImagePanelOptions {
  /** What the differences are multiplied with. Default 5. */
  readonly gain?: number;
}

/**
 * Draws images and below them their reconstructions by several autoencoders, each above its
 * {@linkcode differenceImages}.
 *
 * @param imageUnitBHWC images in [0, 1], `[B, H, W, 3]`; about three to eight fit a page.
 * @throws TypeError if the shapes differ.
 */
export async function reconstructionPanel(
  imageUnitBHWC: HostTensor,
  reconstructions: readonly LabelledReconstructions[],
  { gain = DIFFERENCE_GAIN, ...options }: ReconstructionPanelOptions = {},
): Promise<Figure> {
  const row = (images: HostTensor) =>
    Array.from({ length: images.shape[0] }, (_, b) => gridOfImages(rows(images, b, b + 1)));
  const pairs = reconstructions.map(({ images }) => [
    row(images),
    row(differenceImages(imageUnitBHWC, images, gain)),
  ]);
  return await rasterPanel([row(imageUnitBHWC), ...pairs.flat()], {
    rowLabels: ["Picture", ...reconstructions.flatMap(({ label }) => [label, `Difference × ${gain}`])],
    ...options,
  });
}

/**
 * `gain · |image − reconstruction|`, so that black means equal; values above 1 are clipped where they are drawn.
 *
 * @param imageUnitBHWC images in [0, 1], `[B, H, W, 3]`.
 * @param reconstructionUnit the same shape.
 * @throws TypeError if the shapes differ.
 */
export function differenceImages(
  imageUnitBHWC: HostTensor,
  reconstructionUnit: HostTensor,
  gain: number = DIFFERENCE_GAIN,
): HostTensor {
  expectShape("Cannot compare images", reconstructionUnit.shape, imageUnitBHWC.shape);
  const { data } = imageUnitBHWC, other = reconstructionUnit.data;
  return float32(
    Float32Array.from(data, (value, i) => gain * Math.abs(value - other[i])),
    imageUnitBHWC.shape,
  );
}
