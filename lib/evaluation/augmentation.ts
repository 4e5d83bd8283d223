/**
 * Light augmentation of labelled images on the host.
 *
 * @module
 */
import type { HostTensor, Rng } from "novae/tensor/mod.ts";

/** How strongly images are changed. */
export interface AugmentationOptions {
  /** Whether half of the images are mirrored. Default true. */
  readonly flip?: boolean;
  /** Largest shift as a share of the edge; what comes in repeats the border. Default 1/16. */
  readonly shift?: number;
  /** Largest change of contrast, brightness and of each channel's gain. Default 0.2, of which gains take half. */
  readonly color?: number;
}

/**
 * Mirrors, shifts and recolours each image by random amounts of its own.
 *
 * @param imageUnitBHWC pixels in [0, 1], [B, H, W, 3].
 * @param rng the changes are a function of it alone.
 * @returns new images in [0, 1].
 */
export function augmentImages(
  imageUnitBHWC: HostTensor,
  rng: Rng,
  options: AugmentationOptions = {},
): HostTensor {
  const { flip = true, shift = 1 / 16, color = 0.2 } = options;
  const [batch, height, width, channels] = imageUnitBHWC.shape, size = height * width * channels;
  const source = imageUnitBHWC.data, data = new Float32Array(source.length);
  const reach = Math.floor(shift * width);
  for (let b = 0; b < batch; b++) {
    const draw = rng.split(b), mirrored = flip && draw.next() < 0.5;
    const dy = draw.int(2 * reach + 1) - reach, dx = draw.int(2 * reach + 1) - reach;
    const contrast = draw.range(1 - color, 1 + color), brightness = draw.range(-color / 2, color / 2);
    const gains = Array.from({ length: channels }, () => contrast * draw.range(1 - color / 2, 1 + color / 2));
    const offset = 0.5 * (1 - contrast) + brightness;
    for (let y = 0; y < height; y++) {
      const fromRow = b * size + clamp(y + dy, height) * width * channels;
      for (let x = 0; x < width; x++) {
        const shifted = clamp(x + dx, width);
        const from = fromRow + (mirrored ? width - 1 - shifted : shifted) * channels;
        const to = b * size + (y * width + x) * channels;
        for (let c = 0; c < channels; c++) {
          data[to + c] = Math.min(Math.max(source[from + c] * gains[c] + offset, 0), 1);
        }
      }
    }
  }
  return { dtype: "float32", shape: imageUnitBHWC.shape, data };
}

function clamp(index: number, extent: number): number {
  return Math.min(Math.max(index, 0), extent - 1);
}
