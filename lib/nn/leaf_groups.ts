/**
 * Trees of parameters as few long vectors, where each operation is launched on a GPU.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { flattenTree, mapTree, sizeOf } from "novae/tensor/mod.ts";
import { launchesOperations } from "novae/engine/mod.ts";
import { isTensor } from "./gradients.ts";

/** 128 MiB, the largest buffer that every WebGPU device can bind. */
const LARGEST_VECTOR = 2 ** 25;

/** Leaves that are handled as one vector. */
export interface LeafGroup<K> {
  /** What its leaves have in common, as told by the caller. */
  readonly key: K;
  /** Paths and shapes in their order. */
  readonly leaves: readonly { readonly path: string; readonly shape: readonly number[] }[];
}

/**
 * The leaves of a tree of tensors in groups for elementwise work. On a GPU a group is one vector of many leaves, else
 * each leaf as it is.
 *
 * Groups of equal trees under equal keys are equal; a compiled graph then takes the vector of one step of the work
 * for the next and does not cut and join it again.
 */
export class LeafGroups<P, K = unknown> {
  /** The groups in their order. */
  readonly groups: readonly LeafGroup<K>[];
  readonly #like: P;
  readonly #joined = launchesOperations();

  /**
   * Groups by size and key.
   *
   * @param tree tells paths and shapes.
   * @param key keeps leaves apart that are treated differently; by default those of rank 2 and more from the others.
   */
  constructor(tree: P, key: (path: string, leaf: tf.Tensor) => K = (_, leaf) => (leaf.rank >= 2) as K) {
    this.#like = tree;
    const leaves = flattenTree<tf.Tensor>(tree, isTensor).filter(({ value }) => isTensor(value))
      .map(({ path, value }) => ({ path, shape: value.shape, size: value.size, key: key(path, value) }));
    const alike = Map.groupBy(leaves, (leaf) => leaf.key);
    this.groups = this.#joined
      ? [...alike.values()].flatMap(packed)
      : leaves.map((leaf) => ({ key: leaf.key, leaves: [leaf] }));
  }

  /** One tensor for each group, made of a tree of this form. */
  gather(tree: P): tf.Tensor[] {
    const byPath = new Map<string, tf.Tensor>();
    mapTree(tree, isTensor, (leaf, path) => byPath.set(path, leaf as tf.Tensor));
    return this.groups.map(({ leaves }) => {
      const tensors = leaves.map(({ path }) => byPath.get(path)!);
      return this.#joined ? tf.concat(tensors.map((t) => tf.reshape(t, [t.size]))) : tensors[0];
    });
  }

  /** The tree of this form whose groups are the given tensors. */
  scatter(tensors: readonly tf.Tensor[]): P {
    const byPath = new Map<string, tf.Tensor>();
    this.groups.forEach(({ leaves }, i) => {
      if (!this.#joined) return byPath.set(leaves[0].path, tensors[i]);
      const parts = tf.split(tensors[i], leaves.map(({ shape }) => sizeOf(shape)));
      leaves.forEach(({ path, shape }, j) => byPath.set(path, tf.reshape(parts[j], [...shape])));
    });
    return mapTree<P>(this.#like, isTensor, (leaf, path) => byPath.get(path) ?? leaf);
  }
}

/** Leaves of one key in vectors that are not too long. */
function packed<K>(leaves: readonly GroupedLeaf<K>[]): LeafGroup<K>[] {
  const groups: { key: K; leaves: GroupedLeaf<K>[]; size: number }[] = [];
  for (const leaf of leaves) {
    const last = groups.at(-1);
    if (last && last.size + leaf.size <= LARGEST_VECTOR) {
      last.leaves.push(leaf);
      last.size += leaf.size;
    } else groups.push({ key: leaf.key, leaves: [leaf], size: leaf.size });
  }
  return groups;
}

interface GroupedLeaf<K> {
  readonly path: string;
  readonly shape: readonly number[];
  readonly size: number;
  readonly key: K;
}
