/** The project's own operations with their gradients; their values are compared with PyTorch's elsewhere. */
import * as tf from "@tensorflow/tfjs";
import {
  attention,
  gelu,
  geluErf,
  layerNorm,
  modulatedLayerNorm,
  rmsNorm,
  silu,
  softmaxCrossEntropy,
} from "novae/engine/mod.ts";
import { type Case, normal, uniform } from "../engine_harness.ts";
import { show } from "./sizes.ts";

/** A function and its gradients for all of its arguments. */
function withGradients(name: string, inputs: Case["inputs"], fn: (...xs: tf.Tensor[]) => tf.Tensor): Case {
  return {
    name,
    inputs,
    fn: (...xs: tf.Tensor[]) => {
      const weighted = (...args: tf.Tensor[]) => {
        const y = fn(...args);
        return tf.sum(tf.mul(y, tf.reshape(tf.linspace(0.5, 1.5, y.size), y.shape)));
      };
      return [fn(...xs), ...tf.grads(weighted)(xs)];
    },
  };
}

const ROWS: readonly number[][] = [[1, 7], [3, 5], [2, 3, 16], [2, 3, 17], [5, 257]];

export const fused: Case[] = [
  ...[gelu, geluErf, silu].flatMap((fn) =>
    [[], [1], [7], ...ROWS].map((shape) => withGradients(`${fn.name} ${show(shape)}`, [normal(...shape)], fn))
  ),
  ...ROWS.flatMap((shape) => {
    const x = normal(...shape), weight = normal(shape.at(-1)!), bias = normal(shape.at(-1)!);
    return [
      withGradients(`layerNorm ${show(shape)}`, [x, weight, bias], (a, w, b) => layerNorm(a, w, b)),
      withGradients(`layerNorm without bias ${show(shape)}`, [x, weight], (a, w) => layerNorm(a, w, null)),
      withGradients(`layerNorm alone ${show(shape)}`, [x], (a) => layerNorm(a, null, null)),
      withGradients(`rmsNorm ${show(shape)}`, [x, weight], (a, w) => rmsNorm(a, w)),
    ];
  }),
  ...[[1, 1, 7], [2, 3, 16], [3, 5, 17]].map(([batch, tokens, width]) =>
    withGradients(
      `modulatedLayerNorm ${show([batch, tokens, width])}`,
      [normal(batch, tokens, width), normal(batch, 1, width), normal(batch, 1, width)],
      (x, shift, scale) => modulatedLayerNorm(x, shift, scale),
    )
  ),
  ...[[1, 1, 1, 1], [2, 3, 5, 4], [1, 2, 17, 8]].map(([batch, heads, tokens, width]) =>
    withGradients(
      `attention ${show([batch, heads, tokens, width])}`,
      [tokens, tokens + 1, tokens + 1].map((count) => normal(batch, heads, count, width)),
      (q, k, v) => attention(q, k, v),
    )
  ),
  ...[[1, 2], [3, 5], [2, 17]].map((shape) => {
    const targets = uniform(0, 1, ...shape);
    const constant = () => tf.tensor(targets.data, [...targets.shape]);
    return withGradients(
      `softmaxCrossEntropy ${show(shape)}`,
      [normal(...shape)],
      (x) => softmaxCrossEntropy(x, constant()),
    );
  }),
];
