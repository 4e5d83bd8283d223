/**
 * Mean and standard deviation of each channel of what does not fit into memory at once.
 *
 * @module
 */
import type { HostTensor } from "./host_tensor.ts";

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
    if (tensor.shape.at(-1) !== channels) {
      throw new TypeError(
        `Cannot measure channels: the last axis must be ${channels}, got shape [${tensor.shape.join(", ")}]`,
      );
    }
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
        `Cannot measure channels: at least two vectors are needed, got ${this.#count}`,
      );
    }
  }
}
