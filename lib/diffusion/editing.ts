/**
 * Editing: a part of an image is drawn anew as a class would have it, the rest stays. The model was not trained for it.
 *
 * @module
 */
import { expectShape, float32, type HostTensor, Rng } from "novae/tensor/mod.ts";
import type { DitConfig } from "./config.ts";
import { noiseOf } from "./noise.ts";
import type { SamplerProgress } from "./sampler.ts";
import type { LatentSampler, SampleRequest } from "./sample_request.ts";

/** A rectangle of latent tokens. */
export interface TokenBox {
  /** Its first row of tokens, from 0 at the top. */
  readonly row: number;
  /** Its first column of tokens, from 0 at the left. */
  readonly column: number;
  /** Rows of tokens in it. */
  readonly rows: number;
  /** Columns of tokens in it. */
  readonly columns: number;
}

/** What to draw anew, and how. */
export interface EditRequest extends Omit<SampleRequest, "noise" | "callback" | "taps"> {
  /** Shape of the transformer. */
  readonly config: DitConfig;
  /** Latents of the images, normalised like the training latents, [labels.length, N, Z]. */
  readonly dataBNZ: HostTensor;
  /** The rectangle. */
  readonly box: TokenBox;
  /** Which part of the image is drawn anew: what is in the box or all the rest. Default `inside`. */
  readonly edit?: "inside" | "outside";
}

/** Latents on the path of known ones, beside those that are drawn. */
export interface KnownLatents {
  /** Known latents, [B, N, Z]; what is not known may have any value. */
  readonly dataBNZ: HostTensor;
  /** Noise that the sampling starts from, [B, N, Z]. */
  readonly noiseBNZ: HostTensor;
  /** For each token whether its latents are known, N values. */
  readonly known: ArrayLike<boolean>;
}

/**
 * Draws a part of images anew as their labels say, and keeps the rest.
 *
 * After each step the tokens that are kept are put back onto their own path, `(1 − t)·noise + t·data` with the noise
 * that the sampling began with: at t = 1 they are the image's. The others see them through attention only. With
 * `repeats` above 1 each step is taken again from new noise, which makes both parts agree better.
 *
 * *Source*: editing without training as in SVG (arXiv 2510.15301), whose code for it is not published; the known part
 * and the repeats as in RePaint (Lugmayr et al., arXiv 2201.09865). *Differs* from RePaint: the known part keeps one
 * noise, so its path is straight.
 *
 * @param sampler opened for the configuration in this thread.
 * @returns zBNZ [labels.length, N, Z]; a pure function of request and seed, whatever the batches. Kept tokens are equal
 * to those of `dataBNZ`, and nothing depends on what is there for the others.
 * @throws RangeError if the box does not lie within the grid or a setting cannot be used; TypeError if the latents have
 * another shape.
 */
export async function editLatents(sampler: LatentSampler, request: EditRequest): Promise<HostTensor> {
  const { config, dataBNZ, box, edit = "inside", ...rest } = request, { labels, seed, firstIndex = 0 } = rest;
  const shape = [config.grid ** 2, config.channels];
  expectShape("Cannot edit latents", dataBNZ.shape, [labels.length, ...shape]);
  const inBox = tokensInBox(box, config.grid), known = inBox.map((inside) => inside !== (edit === "inside"));
  const numbers = Int32Array.from({ length: labels.length }, (_, i) => firstIndex + i);
  const noise = noiseOf(new Rng(seed), numbers, shape), keep = keepKnown({ dataBNZ, noiseBNZ: noise, known });
  return await sampler.sample({ ...rest, noise, taps: ["z"], callback: keep });
}

/**
 * A callback for a sampler, which puts known tokens back onto their path after each step. The sampler's `taps` must name
 * `z`.
 */
export function keepKnown(
  { dataBNZ, noiseBNZ, known }: KnownLatents,
): (progress: SamplerProgress & { readonly first?: number }) => HostTensor {
  const [, tokens, channels] = dataBNZ.shape, size = tokens * channels;
  return ({ tNext: t, taps, first = 0 }) => {
    const z = taps.z!, data = Float32Array.from(z.data);
    for (let i = 0; i < data.length; i++) {
      if (!known[Math.floor(i / channels) % tokens]) continue;
      const at = first * size + i;
      data[i] = (1 - t) * noiseBNZ.data[at] + t * dataBNZ.data[at];
    }
    return float32(data, z.shape);
  };
}

/**
 * Which tokens of a square grid are in a box.
 *
 * @param grid tokens along each side.
 * @returns N = grid² values, row after row.
 * @throws RangeError if the box is empty or does not lie within the grid.
 */
export function tokensInBox({ row, column, rows, columns }: TokenBox, grid: number): boolean[] {
  const fits = (start: number, extent: number) =>
    Number.isInteger(start) && Number.isInteger(extent) && start >= 0 && extent >= 1 &&
    start + extent <= grid;
  if (!fits(row, rows) || !fits(column, columns)) {
    throw new RangeError(
      `Cannot edit a box of tokens: it must lie within ${grid} × ${grid} tokens, got ${rows} × ${columns} from ` +
        `row ${row} and column ${column}`,
    );
  }
  return Array.from({ length: grid ** 2 }, (_, n) => {
    const i = Math.floor(n / grid), j = n % grid;
    return i >= row && i < row + rows && j >= column && j < column + columns;
  });
}
