import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { jit, read } from "novae/engine/mod.ts";
import {
  conv2d,
  conv2dCHW,
  type ConvParams,
  depthToSpace,
  initConv,
  spaceToDepth,
  upsampleConv2dCHW,
  upsampleNearest2,
  valueAndGrads,
} from "novae/nn/mod.ts";
import { float32, type HostTensor, Rng } from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const normal = (seed: number, shape: number[]) =>
  float32(new Rng(seed).normal(shape.reduce((a, b) => a * b, 1)), shape);
const tensor = (host: HostTensor) => tf.tensor(host.data as Float32Array, [...host.shape]);
const tensors = (params: ConvParams<HostTensor>): ConvParams => ({
  weight: tensor(params.weight),
  bias: tensor(params.bias),
});

function assertClose(got: ArrayLike<number>, wanted: ArrayLike<number>, tolerance = 1e-4) {
  assert.equal(got.length, wanted.length);
  for (let i = 0; i < got.length; i++) {
    assert.ok(
      Math.abs(got[i] - wanted[i]) <= tolerance * (1 + Math.abs(wanted[i])),
      `${i}: ${got[i]}, ${wanted[i]}`,
    );
  }
}

/** A convolution written as its definition; `same` padding of stride 2 lies below and to the right. */
function definition(
  x: HostTensor,
  params: ConvParams<HostTensor>,
  stride: number,
  before: number,
  out: number[],
) {
  const [batch, height, width, inChannels] = x.shape, [kernel, , , outChannels] = params.weight.shape;
  const y: number[] = [];
  for (let b = 0; b < batch; b++) {
    for (let i = 0; i < out[0]; i++) {
      for (let j = 0; j < out[1]; j++) {
        for (let o = 0; o < outChannels; o++) {
          let sum = params.bias.data[o];
          for (let u = 0; u < kernel; u++) {
            for (let v = 0; v < kernel; v++) {
              const r = i * stride + u - before, c = j * stride + v - before;
              if (r < 0 || c < 0 || r >= height || c >= width) continue;
              for (let k = 0; k < inChannels; k++) {
                sum += x.data[((b * height + r) * width + c) * inChannels + k] *
                  params.weight.data[((u * kernel + v) * inChannels + k) * outChannels + o];
              }
            }
          }
          y.push(sum);
        }
      }
    }
  }
  return y;
}

Deno.test("convolutions of kernels 1 and 3 equal their definition", () => {
  const x = normal(1, [2, 6, 4, 3]);
  for (
    const [kernel, stride, before, out] of [[3, 1, 1, [6, 4]], [3, 2, 0, [3, 2]], [1, 1, 0, [6, 4]]] as const
  ) {
    const params = initConv(new Rng(2), kernel, 3, 5);
    const y = tf.tidy(() => conv2d(tensor(x), tensors(params), { stride }).dataSync());
    assertClose(y, definition(x, params, stride, before, [...out]));
  }
});

Deno.test("a convolution without padding drops the border", () => {
  const x = normal(1, [1, 5, 4, 2]), params = initConv(new Rng(2), 3, 2, 3);
  const y = tf.tidy(() => conv2d(tensor(x), tensors(params), { padding: "valid" }).dataSync());
  assertClose(y, definition(x, params, 1, 0, [3, 2]));
});

Deno.test("a convolution refuses an input with other channels", () => {
  const params = initConv(new Rng(0), 3, 4, 4);
  assert.throws(
    () => tf.tidy(() => conv2d(tf.zeros([1, 2, 2, 3]), tensors(params))),
    { name: "TypeError", message: "Cannot convolve: shape must be [any, any, any, 4], got [1, 2, 2, 3]" },
  );
});

Deno.test("initial kernels stay within one over the root of their inputs, and zeros are zeros", () => {
  const { weight, bias } = initConv(new Rng(3), 3, 16, 32), bound = 1 / 12;
  const largest = Math.max(...weight.data.map(Math.abs));
  assert.ok(largest <= bound && largest > 0.99 * bound);
  assert.ok(bias.data.some((v) => v !== 0) && bias.data.every((v) => Math.abs(v) <= bound));
  assert.ok(initConv(new Rng(3), 3, 2, 2, { init: "zeros" }).weight.data.every((v) => v === 0));
});

Deno.test("up-sampling repeats each pixel, and its gradient sums the four copies", () => {
  const x = tensor(normal(4, [2, 3, 2, 3]));
  const y = upsampleNearest2(x), dy = tensor(normal(5, [2, 6, 4, 3]));
  const wanted = tf.image.resizeNearestNeighbor(x as tf.Tensor4D, [6, 4]);
  assert.deepEqual(y.dataSync(), wanted.dataSync());
  const gradient = tf.grad((t) => tf.sum(tf.mul(upsampleNearest2(t), dy)))(x);
  assertClose(gradient.dataSync(), tf.mul(tf.avgPool(dy as tf.Tensor4D, 2, 2, "valid"), 4).dataSync());
});

Deno.test("up-sampling joined with its convolution equals one after the other, value and gradient", () => {
  const params = tensors(initConv(new Rng(6), 3, 3, 2)), weights = tensor(normal(8, [2, 6, 8, 2]));
  const toCHW = (t: tf.Tensor) => tf.transpose(t, [0, 3, 1, 2]),
    toHWC = (t: tf.Tensor) => tf.transpose(t, [0, 2, 3, 1]);
  const apart = (x: tf.Tensor, p: ConvParams) => conv2d(upsampleNearest2(x), p);
  const joined = (x: tf.Tensor, p: ConvParams) => toHWC(upsampleConv2dCHW(toCHW(x), p));
  const evaluate = (fn: (x: tf.Tensor, p: ConvParams) => tf.Tensor) => {
    const x = tensor(normal(7, [2, 3, 4, 3]));
    const total = (p: { x: tf.Tensor; params: ConvParams }) => {
      const y = fn(p.x, p.params);
      return { loss: tf.sum(tf.mul(y, weights)) as tf.Scalar, aux: { y } };
    };
    const { aux, grads } = valueAndGrads(total, { x, params });
    return [aux.y, grads.x, grads.params.weight, grads.params.bias].map((t) => t.dataSync());
  };
  const wanted = evaluate(apart);
  evaluate(joined).forEach((values, i) => assertClose(values, wanted[i]));
});

Deno.test("channels-first convolutions are the channels-last ones, transposed", () => {
  const x = tensor(normal(1, [2, 6, 4, 3]));
  for (const [kernel, stride] of [[3, 1], [3, 2], [1, 1]]) {
    const params = tensors(initConv(new Rng(2), kernel, 3, 5));
    const first = conv2dCHW(tf.transpose(x, [0, 3, 1, 2]), params, { stride });
    assertClose(tf.transpose(first, [0, 2, 3, 1]).dataSync(), conv2d(x, params, { stride }).dataSync());
  }
});

Deno.test("space to depth and back is the identity, in the channel order row, column, channel", () => {
  const x = tf.range(0, 2 * 4 * 6 * 3).reshape([2, 4, 6, 3]);
  const deep = spaceToDepth(x, 2);
  assert.deepEqual(deep.shape, [2, 2, 3, 12]);
  assert.deepEqual([...deep.slice([0, 0, 0, 0], [1, 1, 1, 12]).dataSync()], [
    0,
    1,
    2,
    3,
    4,
    5,
    18,
    19,
    20,
    21,
    22,
    23,
  ]);
  assert.deepEqual(depthToSpace(deep, 2).dataSync(), x.dataSync());
  assert.throws(() => spaceToDepth(x, 4), RangeError);
  assert.throws(() => depthToSpace(x, 2), RangeError);
});

Deno.test("compiled convolutions and their gradients equal eager ones", async () => {
  const loss = (x: tf.Tensor, params: { a: ConvParams; b: ConvParams; c: ConvParams }) => {
    const half = conv2d(x, params.a, { stride: 2 });
    return tf.sum(
      tf.square(spaceToDepth(conv2d(upsampleNearest2(conv2d(half, params.b)), params.c), 2)),
    ) as tf.Scalar;
  };
  const gradients = (x: tf.Tensor, params: { a: ConvParams; b: ConvParams; c: ConvParams }) => {
    const leaves = [x, params.a.weight, params.a.bias, params.b.weight, params.c.weight, params.c.bias];
    const { value, grads } = tf.engine().gradients(() => loss(x, params), leaves);
    return [value, ...grads];
  };
  const x = normal(7, [3, 6, 8, 4]);
  const params = {
    a: initConv(new Rng(1), 3, 4, 6),
    b: initConv(new Rng(2), 1, 6, 5),
    c: initConv(new Rng(3), 3, 5, 2),
  };
  const compiled = jit(gradients, { device: "cpu" });
  try {
    const fetched = await read(await compiled(x, params)) as HostTensor[];
    const eager = tf.tidy(() =>
      gradients(tensor(x), { a: tensors(params.a), b: tensors(params.b), c: tensors(params.c) })
        .map((t) => t.dataSync())
    );
    assert.equal(fetched.length, 7);
    fetched.forEach((leaf, i) => assertClose(leaf.data, eager[i]));
  } finally {
    await compiled.dispose();
  }
});
