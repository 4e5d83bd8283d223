/**
 * Gradients with respect to trees of parameters.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { flattenTree, mapTree } from "novae/tensor/mod.ts";

/** Whether a value is a TensorFlow.js tensor, the leaf of trees inside traced functions. */
export function isTensor(value: unknown): value is tf.Tensor {
  return value instanceof tf.Tensor;
}

/** What a loss function returns: the scalar to differentiate and named tensors to keep. */
export interface LossAndAux<A> {
  /** What is differentiated. */
  readonly loss: tf.Scalar;
  /** Tensors to keep, such as predictions or parts of the loss. */
  readonly aux: A;
}

/** A loss, what was kept beside it, and the gradient of the loss for each parameter. */
export interface LossAndGrads<P, A> extends LossAndAux<A> {
  /** `∂loss/∂params`, a tree of the form of the parameters. */
  readonly grads: P;
}

/**
 * Evaluates a loss and its gradient `∂loss/∂params`, a tree of the form of `params`.
 *
 * A parameter that the loss does not depend on has gradient zero.
 *
 * @param lossFn maps the parameters to a scalar and to auxiliary tensors, through which no gradient flows back.
 * @param params tree of tensors.
 * @param options.lossScale factor of the loss while it is differentiated, taken out of the result again: half
 * precision loses small gradients without it. A power of two is exact. Default 1.
 * @throws Error if the loss depends on none of the parameters.
 */
export function valueAndGrads<P, A = Record<string, never>>(
  lossFn: (params: P) => LossAndAux<A>,
  params: P,
  options: { readonly lossScale?: number } = {},
): LossAndGrads<P, A> {
  const leaves = flattenTree<tf.Tensor>(params, isTensor).filter((leaf) => isTensor(leaf.value));
  const { lossScale = 1 } = options;
  let kept: unknown;
  const { value, grads } = tf.engine().gradients(
    () => {
      const { loss, aux } = lossFn(params);
      // The forward pass runs in a tidy scope, which would dispose what is only in `aux`.
      kept = mapTree(aux, isTensor, (t) => isTensor(t) ? tf.keep(tf.clone(t)) : t);
      return lossScale === 1 ? loss : tf.mul(loss, lossScale);
    },
    leaves.map((leaf) => leaf.value),
  );
  const unscaled = (t: tf.Tensor) => lossScale === 1 ? t : tf.mul(t, 1 / lossScale);
  const byPath = new Map(
    leaves.map((leaf, i) => [leaf.path, grads[i] ? unscaled(grads[i]) : tf.zerosLike(leaf.value)]),
  );
  const aux = mapTree<A>(kept, isTensor, (t) => isTensor(t) ? adopt(t) : t);
  return {
    loss: unscaled(value) as tf.Scalar,
    aux,
    grads: mapTree<P>(params, isTensor, (p, path) => byPath.get(path) ?? p),
  };
}

/** Hands a kept tensor to the scope that is active now, which disposes it like any other. */
function adopt(kept: tf.Tensor): tf.Tensor {
  const owned = tf.clone(kept);
  kept.dispose();
  return owned;
}

/** A tensor as it is, which a gradient takes for a constant. */
export function stopGradient(x: tf.Tensor): tf.Tensor {
  return tf.customGrad((...args: (tf.Tensor | tf.GradSaveFunc)[]) => {
    const value = args[0] as tf.Tensor;
    return { value: tf.clone(value), gradFunc: (dy: tf.Tensor) => tf.zerosLike(dy) };
  })(x);
}
