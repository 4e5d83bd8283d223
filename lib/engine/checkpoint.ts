/**
 * Recomputation: a part of a function whose intermediate values are not kept for the gradient but computed again.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { flattenTree, mapTree } from "novae/tensor/mod.ts";
import { isTracing } from "./trace.ts";

const isTensor = (value: unknown): boolean => value instanceof tf.Tensor;

/**
 * Runs a function without keeping its intermediate values: its gradient computes it a second time. A block of a deep
 * network takes the memory of its input instead of that of all its activations, for a third more time.
 *
 * *Source*: Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174); PyTorch's
 * `torch.utils.checkpoint`.
 *
 * @example
 * ```ts
 * import * as tf from "@tensorflow/tfjs";
 * import { checkpoint } from "novae/engine/mod.ts";
 * const block = checkpoint((x: tf.Tensor, params: { w: tf.Tensor }) => tf.tanh(tf.matMul(x, params.w)));
 * const [dx] = tf.grads((x, w) => tf.sum(block(x, { w })))([tf.ones([1, 2]), tf.zeros([2, 3])]);
 * if (dx.dataSync()[0] !== 0) throw new Error("wrong");
 * ```
 * @param fn pure; every tensor that it uses and that needs a gradient comes as an argument, in trees if wanted.
 * @returns a function of the same arguments.
 */
export function checkpoint<A extends unknown[]>(fn: (...args: A) => tf.Tensor): (...args: A) => tf.Tensor {
  return (...args) => {
    const leaves = flattenTree<tf.Tensor>(args, isTensor).filter(({ value }) => isTensor(value));
    // Integers and truth values have no gradient.
    const isLearned = ({ value }: { value: tf.Tensor }) => value.dtype === "float32";
    const learned = leaves.filter(isLearned);
    const run = (...values: tf.Tensor[]) => {
      const byPath = new Map(learned.map(({ path }, i) => [path, values[i]]));
      return fn(...mapTree<A>(args, isTensor, (leaf, path) => byPath.get(path) ?? leaf));
    };
    const op = tf.customGrad((...inputs) => {
      const save = inputs.pop() as unknown as tf.GradSaveFunc;
      save(inputs as tf.Tensor[]);
      return {
        value: run(...inputs as tf.Tensor[]),
        gradFunc: (dy: tf.Tensor | tf.Tensor[], saved: tf.Tensor[]) => {
          const gradient = dy as tf.Tensor;
          const again = saved.map((value) => isTracing() ? after(gradient, value) : value);
          return onOwnTape(() => tf.grads(run)(again, gradient));
        },
      };
    });
    return op(...learned.map(({ value }) => value));
  };
}

/** The part of tfjs's engine that records what gradients need. */
interface TapeState {
  activeTape: unknown[] | null;
  gradientDepth: number;
}

/** tfjs forgets the tape of a gradient in whose backward pass another is taken, and misses it at the end. */
function onOwnTape<R>(body: () => R): R {
  const { state } = tf.engine() as unknown as { state: TapeState };
  const { activeTape, gradientDepth } = state;
  try {
    return body();
  } finally {
    if (gradientDepth === 0) state.activeTape = activeTape;
  }
}

/**
 * `x`, but not before `event` is known: what is computed from it is another value than in the forward pass, and ONNX
 * Runtime, which else computes everything as soon as it can, has to wait.
 */
export function after(event: tf.Tensor, x: tf.Tensor): tf.Tensor {
  const first = tf.slice(tf.reshape(event, [event.size]), [0], [1]);
  return tf.mul(x, tf.add(tf.mul(first, 0), 1));
}
