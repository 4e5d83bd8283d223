/**
 * Interpolation of initial noise, to see how samples change between two of them.
 *
 * @module
 */
import { expectShape, float32, type HostTensor, Rng, rows } from "novae/tensor/mod.ts";
import type { DitConfig } from "./config.ts";
import { noiseOf } from "./noise.ts";
import type { LatentSampler, SampleRequest } from "./sample_request.ts";

/** `linear` as in SVG's figures; `spherical` keeps the norm of the noise, which linear mixing shrinks. */
export type NoiseInterpolation = "linear" | "spherical";

/** A row of samples between two of one class. */
export interface RowRequest extends Omit<SampleRequest, "labels" | "noise" | "firstIndex"> {
  /** Shape of the transformer. */
  readonly config: DitConfig;
  /** Label of all of them, in [0, L]. */
  readonly label: number;
  /** Number of the first sample under the seed. Default 0. */
  readonly from?: number;
  /** Number of the last. Default 1. */
  readonly to?: number;
  /** Number of samples S ≥ 2, both ends included. Default 10. */
  readonly count?: number;
  /** Default `linear`. */
  readonly method?: NoiseInterpolation;
}

/**
 * Samples of one class whose initial noise goes from one sample's to another's, see {@linkcode interpolateNoise}. The
 * ends are the samples that {@linkcode LatentSampler.sample} draws with these numbers.
 *
 * @param sampler opened for the configuration.
 * @returns zSNZ [S, N, Z], normalised like the training latents.
 * @throws RangeError if the label, the count or a setting cannot be used.
 */
export async function sampleRow(sampler: LatentSampler, request: RowRequest): Promise<HostTensor> {
  const { config, label, from = 0, to = 1, count = 10, method, ...rest } = request;
  const ends = noiseOf(new Rng(rest.seed), [from, to], [config.grid ** 2, config.channels]);
  const one = (i: number): HostTensor => ({ ...rows(ends, i, i + 1), shape: ends.shape.slice(1) });
  const noise = interpolateNoise(one(0), one(1), count, method);
  return await sampler.sample({ ...rest, noise, labels: new Int32Array(count).fill(label) });
}

/**
 * Noise on the way from one sample's to another's.
 *
 * `linear`: `(1 − r)·from + r·to`. `spherical`: `(sin((1 − r)θ)·from + sin(rθ)·to) / sin θ`, with θ the angle
 * between them.
 *
 * *Source*: `sample_dino_interp.py` of shiml20/SVG (linear, r from 0 to 1 in 10 steps, one class); Shoemake 1985.
 *
 * @param fromNZ noise [N, Z] of the first sample.
 * @param toNZ noise [N, Z] of the last.
 * @param count number of samples S ≥ 2, both ends included.
 * @returns [S, N, Z].
 * @throws RangeError if `count` is below 2; TypeError if the shapes differ.
 */
export function interpolateNoise(
  fromNZ: HostTensor,
  toNZ: HostTensor,
  count: number,
  method: NoiseInterpolation = "linear",
): HostTensor {
  if (!Number.isInteger(count) || count < 2) {
    throw new RangeError(`Cannot interpolate noise: count must be an integer of 2 or more, got ${count}`);
  }
  expectShape("Cannot interpolate noise", toNZ.shape, fromNZ.shape);
  const from = fromNZ.data, to = toNZ.data, size = from.length;
  const theta = method === "spherical" ? angle(from, to) : 0;
  const data = new Float32Array(count * size);
  for (let s = 0; s < count; s++) {
    const r = s / (count - 1);
    // Parallel noise has no arc to follow; the straight line is the limit.
    const straight = Math.sin(theta) < 1e-6;
    const a = straight ? 1 - r : Math.sin((1 - r) * theta) / Math.sin(theta);
    const b = straight ? r : Math.sin(r * theta) / Math.sin(theta);
    for (let i = 0; i < size; i++) data[s * size + i] = a * from[i] + b * to[i];
  }
  return float32(data, [count, ...fromNZ.shape]);
}

function angle(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let ab = 0, aa = 0, bb = 0;
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] ** 2;
    bb += b[i] ** 2;
  }
  return Math.acos(Math.min(Math.max(ab / Math.sqrt(aa * bb), -1), 1));
}
