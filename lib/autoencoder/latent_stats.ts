/**
 * Mean and standard deviation of each latent channel, and latents brought to mean 0 and standard deviation 1.
 *
 * @module
 */
import { float32, type HostTensor, sizeOf } from "novae/tensor/mod.ts";
import type { Autoencoder, LatentStats } from "./autoencoder.ts";

/** Moments of vectors that were measured together. */
export interface MeasuredMoments {
  /** Number of vectors. */
  readonly count: number;
  /** Mean of each channel. */
  readonly mean: ArrayLike<number>;
  /** Sum of the squared deviations from that mean, of each channel. */
  readonly squares: ArrayLike<number>;
}

/**
 * Mean and standard deviation of each channel of a stream of tensors, in double precision.
 *
 * Batches are merged by their means and sums of squared deviations, which loses no digits to large means.
 *
 * *Source*: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances"
 * (1979).
 */
export class ChannelMoments {
  readonly #mean: Float64Array;
  readonly #squares: Float64Array;
  #count = 0;

  /**
   * Nothing is measured yet.
   *
   * @param channels extent of the last axis of what will be added.
   */
  constructor(channels: number) {
    this.#mean = new Float64Array(channels);
    this.#squares = new Float64Array(channels);
  }

  /** Number of vectors added. */
  get count(): number {
    return this.#count;
  }

  /**
   * Adds a tensor `[…, channels]`.
   *
   * @throws TypeError if its last axis does not fit.
   */
  add(tensor: HostTensor): void {
    const channels = this.#mean.length;
    expectLast("Cannot measure latents", tensor, channels);
    const { data } = tensor, count = data.length / channels;
    if (count === 0) return;
    const mean = new Float64Array(channels), squares = new Float64Array(channels);
    for (let i = 0; i < data.length; i += channels) {
      for (let c = 0; c < channels; c++) mean[c] += data[i + c];
    }
    for (let c = 0; c < channels; c++) mean[c] /= count;
    for (let i = 0; i < data.length; i += channels) {
      for (let c = 0; c < channels; c++) squares[c] += (data[i + c] - mean[c]) ** 2;
    }
    this.merge({ count, mean, squares });
  }

  /**
   * Adds what was measured elsewhere.
   *
   * @throws TypeError if it has other channels.
   */
  merge({ count, mean, squares }: MeasuredMoments): void {
    const channels = this.#mean.length, total = this.#count + count;
    if (mean.length !== channels || squares.length !== channels) {
      throw new TypeError(`Cannot join moments: ${channels} channels are needed, got ${mean.length}`);
    }
    if (count === 0) return;
    for (let c = 0; c < channels; c++) {
      const shift = mean[c] - this.#mean[c];
      this.#squares[c] += squares[c] + shift ** 2 * this.#count * count / total;
      this.#mean[c] += shift * count / total;
    }
    this.#count = total;
  }

  /** What was measured so far, as plain JSON. */
  measured(): { count: number; mean: number[]; squares: number[] } {
    return { count: this.#count, mean: [...this.#mean], squares: [...this.#squares] };
  }

  /** The mean of each channel. */
  mean(): Float64Array {
    this.#needTwo();
    return this.#mean.slice();
  }

  /**
   * The unbiased standard deviation of each channel.
   *
   * @throws RangeError if fewer than two vectors were added.
   */
  std(): Float64Array {
    this.#needTwo();
    return this.#squares.map((sum) => Math.sqrt(sum / (this.#count - 1)));
  }

  /** The moments of `scale·x + shift`. */
  affine(scale: number, shift: number): ChannelMoments {
    const result = new ChannelMoments(this.#mean.length);
    result.#count = this.#count;
    result.#mean.set(this.#mean.map((m) => m * scale + shift));
    result.#squares.set(this.#squares.map((s) => s * scale ** 2));
    return result;
  }

  #needTwo(): void {
    if (this.#count < 2) {
      throw new RangeError(
        `Cannot measure latents: at least two tokens are needed, got ${this.#count}`,
      );
    }
  }
}

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
