/**
 * Optimisers as pure functions over trees of parameters.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type HostTensor, isHostTensor, mapTree, zeros } from "novae/tensor/mod.ts";
import { isTensor } from "./gradients.ts";

/** Running means of the gradients and of their squares, each a tree of the form of the parameters. */
export interface AdamState<P> {
  /** Mean gradient. */
  readonly first: P;
  /** Mean squared gradient. */
  readonly second: P;
}

/** Settings of {@linkcode adamW}. */
export interface AdamWOptions {
  /** Step size; a scalar tensor where a schedule feeds it. */
  readonly learningRate: number | tf.Scalar;
  /** Decay of the mean gradient. Default 0.9. */
  readonly beta1?: number;
  /** Decay of the mean squared gradient. Default 0.999. */
  readonly beta2?: number;
  /** Added to the root of the mean squared gradient. Default 1e-8. */
  readonly eps?: number;
  /** Decoupled weight decay, multiplied by the learning rate. Default 0, which makes this Adam. */
  readonly weightDecay?: number | tf.Scalar;
  /** Chooses the parameters that decay. Default: those of rank 2 and more, so no bias and no gain. */
  readonly decays?: (path: string, param: tf.Tensor) => boolean;
  /** Factor of the learning rate of a parameter, its decay included; a scalar tensor where a schedule feeds it. Default 1. */
  readonly rateFactor?: (path: string) => number | tf.Scalar;
}

/** The state before the first update: zeros. */
export function initAdam<P>(params: P): AdamState<P> {
  const zero = () => mapTree<P>(params, isHostTensor, (p) => zeros((p as HostTensor).shape));
  return { first: zero(), second: zero() };
}

/**
 * One update of AdamW.
 *
 * `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`, `p ← p − lr·(m/(1−β₁ᵏ) / (√(v/(1−β₂ᵏ)) + ε) + wd·p)`
 *
 * *Source*: Loshchilov and Hutter, arXiv 1711.05101, in the form of `torch.optim.AdamW`.
 *
 * @param step number `k` of this update as a scalar tensor, counted from 1.
 * @returns new parameters and state; the arguments are left as they are.
 */
export function adamW<P>(
  params: P,
  grads: P,
  state: AdamState<P>,
  step: tf.Scalar,
  options: AdamWOptions,
): { params: P; state: AdamState<P> } {
  const { learningRate, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0 } = options;
  const decays = options.decays ?? ((_: string, p: tf.Tensor) => p.rank >= 2);
  // m̂ / (√v̂ + ε) = c·m / (√v + c·ε) / (1 − β₁ᵏ) with c = √(1 − β₂ᵏ): scalars take the corrections, not tensors.
  const correction = tf.sqrt(tf.sub(1, tf.pow(tf.scalar(beta2), step)));
  const rate = tf.mul(tf.div(learningRate, tf.sub(1, tf.pow(tf.scalar(beta1), step))), correction);
  const floor = tf.mul(correction, eps);
  const shrink = weightDecay === 0 ? null : tf.mul(learningRate, weightDecay);
  const pace = paceOf(rate, shrink);
  const at = leavesByPath(grads), firsts = leavesByPath(state.first), seconds = leavesByPath(state.second);
  const newFirst = new Map<string, tf.Tensor>(), newSecond = new Map<string, tf.Tensor>();
  const newParams = mapTree<P>(params, isTensor, (leaf, path) => {
    const param = leaf as tf.Tensor, grad = at.get(path)!;
    const first = tf.add(tf.mul(firsts.get(path)!, beta1), tf.mul(grad, 1 - beta1));
    const second = tf.add(tf.mul(seconds.get(path)!, beta2), tf.mul(tf.square(grad), 1 - beta2));
    newFirst.set(path, first);
    newSecond.set(path, second);
    const { ownRate, kept } = pace(options.rateFactor?.(path) ?? 1);
    const update = tf.mul(tf.div(first, tf.add(tf.sqrt(second), floor)), ownRate);
    return tf.sub(kept !== null && decays(path, param) ? tf.mul(param, kept) : param, update);
  });
  const rebuild = (leaves: Map<string, tf.Tensor>) =>
    mapTree<P>(params, isTensor, (_, path) => leaves.get(path));
  return { params: newParams, state: { first: rebuild(newFirst), second: rebuild(newSecond) } };
}

interface Pace {
  /** Step size. */
  ownRate: tf.Tensor;
  /** What weight decay leaves of a parameter; null without decay. */
  kept: tf.Tensor | null;
}

/** Step size and decay for a factor of the learning rate, computed once for each factor. */
function paceOf(rate: tf.Tensor, shrink: tf.Tensor | null): (factor: number | tf.Scalar) => Pace {
  const known = new Map<number | tf.Scalar, Pace>();
  return (factor) => {
    const found = known.get(factor);
    if (found) return found;
    const scaled = (x: tf.Tensor) => factor === 1 ? x : tf.mul(x, factor);
    const pace = { ownRate: scaled(rate), kept: shrink && tf.sub(1, scaled(shrink)) };
    known.set(factor, pace);
    return pace;
  };
}

function leavesByPath(tree: unknown): Map<string, tf.Tensor> {
  const leaves = new Map<string, tf.Tensor>();
  mapTree(tree, isTensor, (leaf, path) => leaves.set(path, leaf as tf.Tensor));
  return leaves;
}
