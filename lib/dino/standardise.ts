/**
 * Patch features brought to mean 0 and standard deviation 1, channel by channel, inside the encoder.
 *
 * @module
 */
import { ChannelMoments, float32, type HostTensor } from "novae/tensor/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import type { VitConfig } from "./config.ts";
import { DinoEncoder } from "./encoder.ts";
import type { VitParams } from "./vit_params.ts";

/** Where features are computed. */
export interface StandardiseOptions {
  /** Default `auto`. */
  readonly device?: DeviceName;
  /** Threads on the CPU; all cores if omitted. */
  readonly threads?: number;
}

/**
 * Weights of the same encoder whose patch tokens have mean 0 and standard deviation 1 in each channel over the images
 * given.
 *
 * A training leaves most of a feature's length in a direction that all tokens share: a decoder, or a residual aligned
 * with the features, then sees little of what tells tokens apart. The last normalisation ends in a gain and an offset
 * of each channel, which take up the change exactly: what a linear map can read off the features stays as it is.
 * Distances between features change, the class token's among them.
 *
 * @param images batches of pixels in [0, 1], [B, H, W, 3], as {@linkcode DinoEncoder.features} takes them.
 * @returns new weights; all but the last normalisation is shared with those given.
 * @throws RangeError if there are fewer than two tokens, or a channel is the same in all of them.
 */
export async function standardiseFeatures(
  config: VitConfig,
  params: VitParams<HostTensor>,
  images: Iterable<HostTensor> | AsyncIterable<HostTensor>,
  options: StandardiseOptions = {},
): Promise<VitParams<HostTensor>> {
  const moments = new ChannelMoments(config.width);
  const encoder = new DinoEncoder(config, params, options);
  try {
    for await (const batch of images) moments.add((await encoder.features(batch)).patchesBND);
  } finally {
    await encoder.dispose();
  }
  const mean = moments.mean(), std = moments.std(), constant = std.indexOf(0);
  if (constant >= 0) {
    throw new RangeError(`Cannot standardise features: channel ${constant} is the same in all tokens`);
  }
  const { weight, bias } = params.norm;
  const changed = (tensor: HostTensor, change: (value: number, channel: number) => number) =>
    float32(Float32Array.from(tensor.data, change), tensor.shape);
  return {
    ...params,
    norm: {
      weight: changed(weight, (gain, c) => gain / std[c]),
      bias: changed(bias, (offset, c) => (offset - mean[c]) / std[c]),
    },
  };
}
