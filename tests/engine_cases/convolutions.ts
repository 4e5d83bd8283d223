/** Convolutions of every form with both gradients, and what pools. */
import * as tf from "@tensorflow/tfjs";
import { type Case, normal } from "../engine_harness.ts";
import { show } from "./sizes.ts";

type Image = [number, number, number, number];
type Pair = [number, number];
type Pad = "same" | "valid" | number | [Pair, Pair, Pair, Pair];

/** How a kernel is moved over an image. */
interface Form {
  readonly size: Pair;
  readonly stride: Pair;
  readonly pad: Pad;
  readonly dilation: number;
}

const form = (size: number | Pair, stride: number | Pair, pad: Pad, dilation = 1): Form => ({
  size: typeof size === "number" ? [size, size] : size,
  stride: typeof stride === "number" ? [stride, stride] : stride,
  pad,
  dilation,
});

/** Square and oblong kernels; strides below, at and above the kernel's size; paddings; dilations. */
const FORMS: readonly Form[] = [
  form(3, 1, "same"),
  form(3, 1, "valid"),
  form(3, 2, "same"),
  form(3, 2, "valid"),
  form(2, 2, "valid"),
  form(2, 2, "same"),
  form(2, 3, "valid"),
  form(2, 3, "same"),
  form(1, 1, "valid"),
  form(1, 2, "same"),
  form(1, 3, "valid"),
  form(4, 2, 1),
  form(5, 1, "valid"),
  form([3, 2], [1, 2], "same"),
  form([1, 3], [2, 1], "valid"),
  form(3, 1, 2),
  form(3, 2, [[0, 0], [1, 0], [0, 2], [0, 0]]),
  form(3, 1, "same", 2),
  form(2, 1, "valid", 3),
  form(3, 1, 1, 2),
  form(1, 1, "same", 2),
];

/** Even and odd sides, one and several images and channels. */
const IMAGES: readonly { image: Image; out: number }[] = [
  { image: [1, 6, 6, 1], out: 1 },
  { image: [2, 7, 8, 3], out: 5 },
];

const label = ({ size, stride, pad, dilation }: Form, image: Image) =>
  `${size.join("×")} stride ${stride} pad ${JSON.stringify(pad)} dilation ${dilation} on ${show(image)}`;

const fits = ({ size, dilation }: Form, [, height, width]: Image) =>
  (size[0] - 1) * dilation < height && (size[1] - 1) * dilation < width;

type Convolve = (x: tf.Tensor4D, w: tf.Tensor4D) => tf.Tensor4D;

/** The convolution and its gradients for x and w along dy; `sparse` is the same with zeros in the kernel instead. */
function withGradients(
  name: string,
  image: Image,
  kernel: Image,
  convolve: Convolve,
  sparse: Convolve,
): Case[] {
  const x = normal(...image), w = normal(...kernel);
  const dy = normal(...tf.tidy(() => convolve(tf.zeros(image), tf.zeros(kernel)).shape));
  const gradients = (f: Convolve) => (a: tf.Tensor, b: tf.Tensor, g: tf.Tensor) =>
    tf.grads(f as never)([a, b], g);
  return [
    { name, inputs: [x, w], fn: convolve },
    {
      name: `gradients of ${name}`,
      inputs: [x, w, dy],
      fn: gradients(convolve),
      reference: gradients(sparse),
    },
  ];
}

/** The kernel with zeros between its elements: tfjs differentiates no dilated convolutions. */
function spread(w: tf.Tensor4D, dilation: number): tf.Tensor4D {
  if (dilation === 1) return w;
  const [height, width, inputs, outputs] = w.shape;
  const apart = tf.pad(tf.reshape(w, [height, 1, width, 1, inputs, outputs]), [
    ...[[0, 0], [0, dilation - 1], [0, 0], [0, dilation - 1]] as Pair[],
    ...[[0, 0], [0, 0]] as Pair[],
  ]);
  const grown = tf.reshape(apart, [height * dilation, width * dilation, inputs, outputs]) as tf.Tensor4D;
  return tf.slice(grown, [0, 0, 0, 0], [
    (height - 1) * dilation + 1,
    (width - 1) * dilation + 1,
    inputs,
    outputs,
  ]);
}

export const convolutions: Case[] = IMAGES.flatMap(({ image, out }) =>
  FORMS.filter((f) => fits(f, image)).flatMap((f): Case[] => {
    const { stride, pad, dilation } = f;
    return withGradients(
      `conv2d ${label(f, image)}`,
      image,
      [...f.size, image[3], out],
      (x, w) => tf.conv2d(x, w, stride, pad as "same", "NHWC", dilation),
      (x, w) => tf.conv2d(x, spread(w, dilation), stride, pad as "same"),
    );
  })
);

export const depthwise: Case[] = IMAGES.flatMap(({ image }) =>
  [1, 2].flatMap((multiplier) =>
    FORMS.filter((f) => fits(f, image)).flatMap((f): Case[] => {
      const { stride, pad, dilation } = f;
      return withGradients(
        `depthwiseConv2d of ${multiplier} kernels a channel ${label(f, image)}`,
        image,
        [...f.size, image[3], multiplier],
        (x, w) => tf.depthwiseConv2d(x, w, stride, pad as "same", "NHWC", dilation),
        (x, w) => tf.depthwiseConv2d(x, spread(w, dilation), stride, pad as "same"),
      );
    })
  )
);

/** A transposed convolution takes what `conv2d` of the same form gives; its gradients are products of the same kind. */
export const transposed: Case[] = IMAGES.flatMap(({ image, out }) =>
  FORMS.filter((f) => f.dilation === 1 && fits(f, image) && !Array.isArray(f.pad)).flatMap((f): Case[] => {
    const kernel: Image = [...f.size, image[3], out];
    const pad = f.pad as "same";
    const small = tf.tidy(() =>
      tf.conv2d(tf.zeros(image) as tf.Tensor4D, tf.zeros(kernel), f.stride, pad).shape
    );
    const convolve: Convolve = (x, w) => tf.conv2dTranspose(x, w, image, f.stride, pad);
    return withGradients(`conv2dTranspose ${label(f, image)}`, small, kernel, convolve, convolve);
  })
);

/** From 512 places on the gradient of the kernel is computed channels-first; both operands can be the shifted one. */
export const large: Case[] = [[2, 17], [17, 2], [16, 17], [17, 16]].flatMap(([channels, out]) =>
  ([[1, "same"], [1, "valid"], [2, "same"]] as const).map(([stride, pad]): Case => {
    const side = stride === 2 ? 46 : 25, image: Image = [1, side, side, channels];
    const convolve: Convolve = (x, w) => tf.conv2d(x, w, stride, pad);
    const [, gradients] = withGradients(
      `conv2d to ${out} ${label(form(3, stride, pad), image)}`,
      image,
      [3, 3, channels, out],
      convolve,
      convolve,
    );
    return { ...gradients, tolerance: 1e-3 };
  })
);

/** Given, since tfjs's cpu kernels of convolutions have no default. */
const leakyreluAlpha = 0.1;
const ACTIVATIONS = ["linear", "relu", "relu6", "elu", "sigmoid", "leakyrelu"] as const;

export const fusedConvolutions: Case[] = [
  {
    name: "fused.conv2d",
    inputs: [normal(2, 5, 5, 3), normal(3, 3, 3, 2), normal(2)],
    fn: (x, filter, bias) =>
      ACTIVATIONS.map((activation) =>
        tf.fused.conv2d({ x, filter, bias, strides: 1, pad: "same", activation, leakyreluAlpha })
      ),
  },
  {
    name: "fused.conv2d with prelu",
    inputs: [normal(2, 5, 5, 3), normal(3, 3, 3, 2), normal(2)],
    fn: (x, filter, alpha) =>
      tf.fused.conv2d({
        x,
        filter,
        strides: 2,
        pad: "valid",
        activation: "prelu",
        preluActivationWeights: alpha,
      }),
  },
  {
    name: "fused.depthwiseConv2d",
    inputs: [normal(2, 5, 5, 3), normal(3, 3, 3, 2), normal(6)],
    fn: (x, filter, bias) =>
      ACTIVATIONS.map((activation) =>
        tf.fused.depthwiseConv2d({ x, filter, bias, strides: 1, pad: "same", activation, leakyreluAlpha })
      ),
  },
  {
    name: "separableConv2d",
    inputs: [normal(1, 5, 5, 3), normal(3, 3, 3, 2), normal(1, 1, 6, 4)],
    fn: (x, depth, point) => tf.separableConv2d(x, depth, point, 1, "same"),
  },
];

/** Apart, at their size, overlapping, with padding on one or both sides, oblong, the whole image, with gaps. */
const POOLS: readonly Form[] = [
  form(2, 2, "valid"),
  form(3, 2, "same"),
  form(3, 1, "same"),
  form(2, 1, "valid"),
  form(2, 1, "same"),
  form(3, 3, "valid"),
  form(2, 2, "same"),
  form(1, 2, "valid"),
  form(2, 3, "valid"),
  form([3, 2], [2, 1], "valid"),
  form([1, 3], [1, 2], "same"),
  form(6, 1, "valid"),
  form(3, 2, 1),
];

const POOLED: readonly Image[] = [[1, 6, 6, 1], [2, 7, 6, 3]];

/**
 * tfjs's gradient of an average divides by the whole window also where a part of it is padding, which the average
 * itself leaves out; so the average is written as a quotient of two sums, whose gradient is right.
 */
function average(x: tf.Tensor4D, { size, stride, pad }: Form): tf.Tensor {
  const [, , , channels] = x.shape;
  const ones = tf.ones([...size, channels, 1]) as tf.Tensor4D;
  const sum = (t: tf.Tensor4D) => tf.depthwiseConv2d(t, ones, stride, pad as "same");
  return tf.div(sum(x), sum(tf.onesLike(x)));
}

export const pooling: Case[] = POOLED.flatMap((image) =>
  POOLS.flatMap((f): Case[] => {
    const { size, stride } = f, pad = f.pad as "same";
    const max = (x: tf.Tensor4D) => tf.maxPool(x, size, stride, pad);
    const avg = (x: tf.Tensor4D) => tf.avgPool(x, size, stride, pad);
    const x = normal(...image), dy = normal(...tf.tidy(() => max(tf.zeros(image)).shape));
    const gradient = (pool: (t: tf.Tensor4D) => tf.Tensor) => (t: tf.Tensor, g: tf.Tensor) =>
      tf.grad(pool as never)(t, g);
    const name = label(f, image);
    return [
      { name: `maxPool ${name}`, inputs: [x], fn: max },
      { name: `avgPool ${name}`, inputs: [x], fn: avg, reference: (t) => average(t as tf.Tensor4D, f) },
      { name: `gradient of maxPool ${name}`, inputs: [x, dy], fn: gradient(max) },
      {
        name: `gradient of avgPool ${name}`,
        inputs: [x, dy],
        fn: gradient(avg),
        reference: gradient((t) => average(t, f)),
      },
    ];
  })
);
