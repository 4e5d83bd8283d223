/**
 * Where published weights come from.
 *
 * @module
 */
import type { HostTensor } from "novae/tensor/mod.ts";

/** A tensor of a weight file that is read when asked for. */
export interface StoredTensor {
  /** Extents, outermost first. */
  readonly shape: readonly number[];
  /** Its values; floating-point numbers of any width come as float32. */
  read(): Promise<HostTensor>;
}

/** The tensors of one weight file, or of several that belong together, by name. */
export type WeightSource = ReadonlyMap<string, StoredTensor>;

/** Tensors in memory as a source of weights. */
export function weightSource(tensors: ReadonlyMap<string, HostTensor>): WeightSource {
  return new Map(
    [...tensors].map((
      [name, tensor],
    ) => [name, { shape: tensor.shape, read: () => Promise.resolve(tensor) }]),
  );
}
