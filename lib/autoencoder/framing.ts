/**
 * How image files of any size become the images of an autoencoder.
 *
 * @module
 */
import type { PixelSize } from "novae/io/mod.ts";
import type { Framing } from "novae/data/mod.ts";

/**
 * How image files become the images of an autoencoder: the shorter side is brought to `resize`, the middle square is
 * kept.
 *
 * *Source*: SVG's `SmallestMaxSize` and `CenterCrop` of albumentations. *Differs*: Pillow's Lanczos filter, as for image
 * folders in memory, where albumentations interpolates linearly and lets fine patterns alias.
 *
 * @param imageSize edge of the square that is kept.
 * @param resize shorter side before that, at least `imageSize`; the same if omitted.
 */
export function autoencoderFraming(
  imageSize: number,
  resize: number = imageSize,
): Framing & { readonly crop: PixelSize } {
  const crop = { height: imageSize, width: imageSize };
  return { resize: { shortestEdge: resize }, filter: "lanczos3", bytes: true, crop };
}
