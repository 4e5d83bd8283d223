/**
 * Weights as constants of a graph.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type HostTensor, isHostTensor, mapTree } from "novae/tensor/mod.ts";

/**
 * The tensors of a tree of weights in host memory, made where it is called: inside a function that is compiled or
 * exported they become constants of its graph, which are laid out once and make up the file.
 *
 * @param params a tree of `HostTensor`.
 * @returns the same tree of `tf.Tensor`; disposed of by the scope around the call.
 */
export function constantTree<P>(params: unknown): P {
  return mapTree<P>(params, isHostTensor, (leaf) => {
    const { data, shape, dtype } = leaf as HostTensor;
    return tf.tensor(data, [...shape], dtype);
  });
}
