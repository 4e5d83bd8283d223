/**
 * Tensors in files, read when they are wanted.
 *
 * @module
 */
import type { DType, HostTensor } from "novae/tensor/mod.ts";
import type { StoredDType } from "./stored_elements.ts";

/** A tensor in a file: its type and shape are known, its elements are read on demand. */
export interface LazyTensor {
  /** Element type of what is read. */
  readonly dtype: DType;
  /** Element type in the file. */
  readonly stored: StoredDType;
  /** Extents, outermost first; empty for a scalar. */
  readonly shape: readonly number[];
  /**
   * Reads the elements, row-major; only their part of the file is touched. Each call reads anew.
   *
   * @throws WeightsError if the file has been changed since it was opened, or an integer does not fit into 32 bits.
   */
  read(): Promise<HostTensor>;
}

/**
 * Reads tensors into memory, one after another; while one is converted, the next is read already.
 *
 * @param tensors by name.
 * @returns the same names in the same order.
 * @throws WeightsError as {@link LazyTensor.read} does.
 */
export async function readTensors(
  tensors: ReadonlyMap<string, LazyTensor>,
): Promise<Map<string, HostTensor>> {
  const entries = [...tensors], read = new Map<string, HostTensor>();
  let next = entries[0]?.[1].read();
  for (const [i, [name]] of entries.entries()) {
    const current = next;
    next = entries[i + 1]?.[1].read();
    next?.catch(() => {}); // told when its turn comes, unless this one fails first
    read.set(name, await current);
  }
  return read;
}
