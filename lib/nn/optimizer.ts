/**
 * Optimisers as pure functions over trees of parameters.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type HostTensor, isHostTensor, mapTree, zeros } from "novae/tensor/mod.ts";
import { isTensor } from "./gradients.ts";
import { LeafGroups } from "./leaf_groups.ts";

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
  const pace = paces(rate, shrink);
  const groups = new LeafGroups(
    params,
    (path, leaf) => pace(shrink !== null && decays(path, leaf), options.rateFactor?.(path) ?? 1),
  );
  const olds = groups.gather(params), slopes = groups.gather(grads);
  const firsts = groups.gather(state.first), seconds = groups.gather(state.second);
  const news = groups.groups.map(({ key: { ownRate, kept } }, i) => {
    const first = tf.add(tf.mul(firsts[i], beta1), tf.mul(slopes[i], 1 - beta1));
    const second = tf.add(tf.mul(seconds[i], beta2), tf.mul(tf.square(slopes[i]), 1 - beta2));
    const update = tf.mul(tf.div(first, tf.add(tf.sqrt(second), floor)), ownRate);
    return { param: tf.sub(kept === null ? olds[i] : tf.mul(olds[i], kept), update), first, second };
  });
  return {
    params: groups.scatter(news.map(({ param }) => param)),
    state: {
      first: groups.scatter(news.map(({ first }) => first)),
      second: groups.scatter(news.map(({ second }) => second)),
    },
  };
}

/** How a parameter moves. */
interface Pace {
  /** Step size. */
  readonly ownRate: tf.Tensor;
  /** What weight decay leaves of it; null without decay. */
  readonly kept: tf.Tensor | null;
}

/** Paces by decay and factor of the learning rate; equal ones are one object. */
function paces(
  rate: tf.Tensor,
  shrink: tf.Tensor | null,
): (decays: boolean, factor: number | tf.Scalar) => Pace {
  const known = { true: new Map<number | tf.Scalar, Pace>(), false: new Map<number | tf.Scalar, Pace>() };
  return (decays, factor) => {
    const byFactor = known[`${decays}`], found = byFactor.get(factor);
    if (found) return found;
    const scaled = (x: tf.Tensor) => factor === 1 ? x : tf.mul(x, factor);
    const pace = { ownRate: scaled(rate), kept: decays && shrink ? tf.sub(1, scaled(shrink)) : null };
    byFactor.set(factor, pace);
    return pace;
  };
}

/**
 * Scales gradients so that their joint Euclidean norm is at most `maxNorm`: `g · min(1, maxNorm / ‖g‖)`.
 *
 * @param maxNorm null leaves the gradients as they are.
 * @returns the scaled tree and the norm before scaling.
 */
export function clipByGlobalNorm<P>(grads: P, maxNorm: number | null): { grads: P; norm: tf.Scalar } {
  const groups = new LeafGroups(grads), slopes = groups.gather(grads);
  const norm = tf.sqrt(slopes.map((g) => tf.sum(tf.square(g))).reduce((a, b) => tf.add(a, b))) as tf.Scalar;
  if (maxNorm === null) return { grads, norm };
  const factor = tf.div(maxNorm, tf.maximum(norm, maxNorm));
  return { grads: groups.scatter(slopes.map((g) => tf.mul(g, factor))), norm };
}

/** Scales each gradient by itself so that its Euclidean norm is at most `maxNorm`: `g · min(1, maxNorm / ‖g‖)`. */
export function clipEachByNorm<P>(grads: P, maxNorm: number): P {
  return mapTree<P>(grads, isTensor, (leaf) => {
    const grad = leaf as tf.Tensor, norm = tf.sqrt(tf.sum(tf.square(grad)));
    return tf.mul(grad, tf.div(maxNorm, tf.maximum(norm, maxNorm)));
  });
}
