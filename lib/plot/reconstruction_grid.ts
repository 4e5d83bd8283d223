/**
 * Images above their reconstructions.
 *
 * @module
 */
import { concatRows, expectShape, type HostTensor } from "novae/tensor/mod.ts";
import { imageGrid, type RgbImage } from "novae/io/mod.ts";

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
  expectShape("Cannot compare images", reconstructionUnit.shape, imageUnitBHWC.shape);
  const [count, , width] = imageUnitBHWC.shape,
    { gain = 5, scale = Math.max(1, Math.ceil(64 / width)) } = options;
  const difference: HostTensor = {
    ...imageUnitBHWC,
    data: Float32Array.from(
      imageUnitBHWC.data as Float32Array,
      (value, i) => gain * Math.abs(value - reconstructionUnit.data[i]),
    ),
  };
  return imageGrid(concatRows([imageUnitBHWC, reconstructionUnit, difference]), count, { scale });
}
