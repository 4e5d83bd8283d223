/**
 * Activations with gradients of their own: recorded, GELU is one fused operator of ONNX Runtime; backwards few passes
 * over the input, of which nothing but itself and the result is kept.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { GELU } from "./kernels/fused.ts";
import { isTracing } from "./trace.ts";

const GELU_LINEAR = 2 * Math.sqrt(2 / Math.PI), GELU_CUBIC = GELU_LINEAR * 0.044715;

/**
 * Gaussian error linear unit, tanh approximation.
 *
 * `y = x / 2 · (1 + tanh(sqrt(2 / π) · (x + 0.044715 x³)))`
 *
 * *Source*: Hendrycks & Gimpel (arXiv 1606.08415); PyTorch's `gelu(approximate="tanh")`.
 */
export function gelu(x: tf.Tensor): tf.Tensor {
  const op = tf.customGrad((...args) => {
    const [value, save] = args as unknown as [tf.Tensor, tf.GradSaveFunc];
    const result = geluForward(value);
    // The result is the input of whatever follows and so kept for its gradient anyway.
    save([value, result]);
    return {
      value: result,
      gradFunc: (dy: tf.Tensor | tf.Tensor[], [kept, y]: tf.Tensor[]) =>
        tf.mul(dy as tf.Tensor, geluDerivative(kept, y)),
    };
  });
  return op(x);
}

function geluForward(x: tf.Tensor): tf.Tensor {
  if (isTracing()) return tf.engine().runKernel(GELU, { x }, { approximate: "tanh" });
  return tf.mul(x, tf.sigmoid(tf.neg(tf.mul(negativeSlope(x), x))));
}

/** −u / x for the tanh form x · σ(u), u = 2·sqrt(2/π)·(x + 0.044715 x³). */
function negativeSlope(x: tf.Tensor): tf.Tensor {
  return tf.sub(tf.mul(tf.square(x), -GELU_CUBIC), GELU_LINEAR);
}

/** With v = 1 − σ(u) and y = x · σ(u): y' = σ + y · v · u' = 1 + v · (y · u' − 1). */
function geluDerivative(x: tf.Tensor, y: tf.Tensor): tf.Tensor {
  const slope = negativeSlope(x);
  const v = tf.sigmoid(tf.mul(slope, x));
  const du = tf.sub(tf.mul(slope, -3), 2 * GELU_LINEAR);
  return tf.add(tf.mul(tf.sub(tf.mul(du, y), 1), v), 1);
}

/**
 * Gaussian error linear unit, exact.
 *
 * `y = x / 2 · (1 + erf(x / sqrt(2)))`
 *
 * *Source*: Hendrycks & Gimpel (arXiv 1606.08415); PyTorch's `gelu`.
 */
export function geluErf(x: tf.Tensor): tf.Tensor {
  return unaryOp(x, (value) => {
    if (isTracing()) return tf.engine().runKernel(GELU, { x: value }, { approximate: "none" });
    return tf.mul(value, normalCdf(value));
  }, (dy, saved) => {
    const density = tf.mul(tf.exp(tf.mul(tf.square(saved), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    return tf.mul(dy, tf.add(normalCdf(saved), tf.mul(saved, density)));
  });
}

function normalCdf(x: tf.Tensor): tf.Tensor {
  return tf.add(tf.mul(tf.erf(tf.mul(x, Math.SQRT1_2)), 0.5), 0.5);
}

/**
 * Sigmoid linear unit, also called swish.
 *
 * `y = x · σ(x)`
 *
 * *Source*: Elfwing et al. (arXiv 1702.03118).
 */
export function silu(x: tf.Tensor): tf.Tensor {
  return unaryOp(x, (value) => tf.mul(value, tf.sigmoid(value)), (dy, saved) => {
    const gate = tf.sigmoid(saved);
    return tf.mul(dy, tf.mul(gate, tf.add(tf.mul(saved, tf.sub(1, gate)), 1)));
  });
}

function unaryOp(
  x: tf.Tensor,
  forward: (x: tf.Tensor) => tf.Tensor,
  gradient: (dy: tf.Tensor, x: tf.Tensor) => tf.Tensor,
): tf.Tensor {
  const op = tf.customGrad((...args) => {
    const [value, save] = args as unknown as [tf.Tensor, tf.GradSaveFunc];
    save([value]);
    return {
      value: forward(value),
      gradFunc: (dy: tf.Tensor | tf.Tensor[], saved: tf.Tensor[]) => gradient(dy as tf.Tensor, saved[0]),
    };
  });
  return op(x);
}
