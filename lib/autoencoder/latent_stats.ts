/**
 * Mean and standard deviation of each latent channel, and latents brought to mean 0 and standard deviation 1.
 *
 * @module
 */
import { ChannelMoments, float32, type HostTensor, sizeOf } from "novae/tensor/mod.ts";
import type { Autoencoder, LatentStats } from "./autoencoder.ts";

/**
 * Measures the latents of a stream of image batches.
 *
 * @param batches `imageUnit` batches `[B, H, W, 3]`.
 * @returns mean and unbiased standard deviation of each channel over images and tokens.
 * @throws RangeError if there are fewer than two tokens or a channel is constant.
 */
export async function measureLatents(
  autoencoder: Pick<Autoencoder, "channels" | "encode">,
  batches: Iterable<HostTensor> | AsyncIterable<HostTensor>,
): Promise<LatentStats> {
  const moments = new ChannelMoments(autoencoder.channels);
  for await (const images of batches) moments.add(await autoencoder.encode(images));
  return latentStats([moments]);
}

/**
 * The statistics of latents whose channels were measured in groups, in the order of the channels.
 *
 * @throws RangeError if there are fewer than two tokens or a channel is constant.
 */
export function latentStats(groups: readonly ChannelMoments[]): LatentStats {
  const stats = {
    mean: Float32Array.from(groups.flatMap((moments) => [...moments.mean()])),
    std: Float32Array.from(groups.flatMap((moments) => [...moments.std()])),
    count: groups[0].count,
  };
  const constant = stats.std.findIndex((s) => !(s > 0));
  if (constant >= 0) {
    throw new RangeError(
      `Cannot normalise latents: every channel must vary, channel ${constant} has standard deviation ${
        stats.std[constant]
      }`,
    );
  }
  return stats;
}

/**
 * Brings latents to mean 0 and standard deviation 1 a channel: `(z − mean) / std`.
 *
 * @param zBNZ latents as they come from `encode`.
 * @returns a new tensor of the same shape.
 */
export function normalizeLatents(zBNZ: HostTensor, stats: LatentStats): HostTensor {
  return perChannel("Cannot normalise latents", zBNZ, stats, (z, mean, std) => (z - mean) / std);
}

/**
 * Undoes {@linkcode normalizeLatents}: `z·std + mean`.
 *
 * @param zBNZ normalised latents.
 * @returns a new tensor of the same shape, ready for `decode`.
 */
export function denormalizeLatents(zBNZ: HostTensor, stats: LatentStats): HostTensor {
  return perChannel("Cannot denormalise latents", zBNZ, stats, (z, mean, std) => z * std + mean);
}

function perChannel(
  what: string,
  tensor: HostTensor,
  stats: LatentStats,
  fn: (value: number, mean: number, std: number) => number,
): HostTensor {
  const channels = stats.mean.length;
  expectLast(what, tensor, channels);
  const data = new Float32Array(sizeOf(tensor.shape));
  for (let i = 0; i < data.length; i += channels) {
    for (let c = 0; c < channels; c++) data[i + c] = fn(tensor.data[i + c], stats.mean[c], stats.std[c]);
  }
  return float32(data, tensor.shape);
}

function expectLast(what: string, tensor: HostTensor, channels: number): void {
  const last = tensor.shape[tensor.shape.length - 1];
  if (last !== channels) throw new TypeError(`${what}: last dimension must be ${channels}, got ${last}`);
}
