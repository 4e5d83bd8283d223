/**
 * Convolutions over images with channels last.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { expectShape, float32, type HostTensor, type Rng, zeros } from "novae/tensor/mod.ts";

/** A convolution: kernel `[height, width, in, out]` and bias `[out]`. */
export interface ConvParams<T = tf.Tensor> {
  /** Kernel. */
  weight: T;
  /** Added to each output channel. */
  bias: T;
}

/** How a new convolution is filled. */
export interface InitConvOptions {
  /**
   * `fanIn`: uniform in ±1/√(kernel²·in) for kernel and bias, PyTorch's default; `zeros`: all zeros, so that a
   * residual branch starts as the identity. Default `fanIn`.
   */
  readonly init?: "fanIn" | "zeros";
}

/** How a convolution walks over its input. */
export interface ConvOptions {
  /** Step in both directions. Default 1. */
  readonly stride?: number;
  /**
   * `same` pads with zeros so that the output has `ceil(input / stride)` rows and columns; a number pads with as many
   * on each side, as PyTorch does. Default `same`.
   */
  readonly padding?: "same" | "valid" | number;
}

/**
 * A new convolution with a square kernel.
 *
 * @param kernel rows and columns of the kernel.
 */
export function initConv(
  rng: Rng,
  kernel: number,
  inChannels: number,
  outChannels: number,
  options: InitConvOptions = {},
): ConvParams<HostTensor> {
  const shape = [kernel, kernel, inChannels, outChannels];
  if (options.init === "zeros") return { weight: zeros(shape), bias: zeros([outChannels]) };
  const fanIn = kernel * kernel * inChannels, bound = 1 / Math.sqrt(fanIn);
  const uniform = (count: number, label: string) =>
    rng.split(label).uniform(count).map((u) => bound * (2 * u - 1));
  return {
    weight: float32(uniform(fanIn * outChannels, "weight"), shape),
    bias: float32(uniform(outChannels, "bias"), [outChannels]),
  };
}

/**
 * Two-dimensional convolution (cross-correlation, as in deep-learning libraries) plus bias.
 *
 * With an even input, `same` padding and stride 2 a 3×3 kernel is padded below and to the right only, which is the
 * down-sampling of the latent-diffusion encoder.
 *
 * @param xBHWC images or feature maps.
 * @returns `[B, H', W', out]`.
 * @throws TypeError if the input is not of rank 4 or its channels do not fit the kernel.
 */
export function conv2d(xBHWC: tf.Tensor, params: ConvParams, options: ConvOptions = {}): tf.Tensor4D {
  return tf.add(convolve(xBHWC, params.weight, options), params.bias) as tf.Tensor4D;
}

function convolve(xBHWC: tf.Tensor, weight: tf.Tensor, options: ConvOptions): tf.Tensor4D {
  const { stride = 1, padding = "same" } = options;
  const [kernel, , inChannels, outChannels] = weight.shape;
  if (xBHWC.rank !== 4 || xBHWC.shape[3] !== inChannels) {
    throw new TypeError(
      `Cannot convolve: shape must be [any, any, any, ${inChannels}], got [${xBHWC.shape.join(", ")}]`,
    );
  }
  if (kernel > 1 || stride > 1 || (typeof padding === "number" && padding > 0)) {
    return tf.conv2d(xBHWC as tf.Tensor4D, weight as tf.Tensor4D, stride, padding);
  }
  // A matrix product needs no window and has the cheaper gradient.
  const [batch, height, width] = xBHWC.shape;
  const flat = tf.matMul(
    tf.reshape(xBHWC, [batch * height * width, inChannels]),
    tf.reshape(weight, [inChannels, outChannels]),
  );
  return tf.reshape(flat, [batch, height, width, outChannels]) as tf.Tensor4D;
}

/**
 * Doubles height and width by repeating each value (nearest neighbour): `y[2i+a, 2j+b] = x[i, j]`.
 *
 * @param xBHWC images or feature maps.
 * @returns `[B, 2H, 2W, C]`.
 */
export function upsampleNearest2(xBHWC: tf.Tensor): tf.Tensor4D {
  const [batch, height, width, channels] = xBHWC.shape;
  const repeat = tf.customGrad((...args: (tf.Tensor | tf.GradSaveFunc)[]) => {
    const x = args[0] as tf.Tensor;
    const columns = tf.reshape(tf.stack([x, x], 3), [batch, height, 2 * width, channels]);
    const value = tf.reshape(tf.stack([columns, columns], 2), [batch, 2 * height, 2 * width, channels]);
    // Each input was copied to four places: its gradient is their sum.
    const gradFunc = (dy: tf.Tensor) => {
      const summed = tf.sum(tf.reshape(dy, [batch, height, 2, width, 2 * channels]), 2);
      return tf.sum(tf.reshape(summed, [batch, height, width, 2, channels]), 3);
    };
    return { value, gradFunc };
  });
  return repeat(xBHWC) as tf.Tensor4D;
}

/**
 * {@linkcode conv2d} on channels-first maps. In a compiled graph, where convolutions are channels-first, the transposes
 * around a chain of these cancel.
 *
 * @param xBCHW `[B, in, H, W]`.
 * @returns `[B, out, H', W']`.
 */
export function conv2dCHW(xBCHW: tf.Tensor, params: ConvParams, options: ConvOptions = {}): tf.Tensor4D {
  const mapped = convolveCHW(xBCHW, params.weight, options);
  const bias = tf.reshape(params.bias, [params.bias.size, 1, 1]);
  return tf.add(mapped, bias) as tf.Tensor4D;
}

/**
 * {@linkcode conv2dCHW} without a bias.
 *
 * @param xBCHW `[B, in, H, W]`.
 * @param weight kernel `[height, width, in, out]`.
 * @returns `[B, out, H', W']`.
 */
export function convolveCHW(xBCHW: tf.Tensor, weight: tf.Tensor, options: ConvOptions = {}): tf.Tensor4D {
  const mapped = convolve(tf.transpose(xBCHW, [0, 2, 3, 1]), weight, options);
  return tf.transpose(mapped, [0, 3, 1, 2]) as tf.Tensor4D;
}

/**
 * A kernel of PyTorch, `[out, in, height, width]`, in the layout of these convolutions, `[height, width, in, out]`.
 *
 * @throws TypeError if it is not of rank 4.
 */
export function kernelFromOIHW(kernel: HostTensor): HostTensor {
  expectShape("Cannot reorder a kernel", kernel.shape, [null, null, null, null]);
  const [outChannels, inChannels, height, width] = kernel.shape;
  const data = new Float32Array(kernel.data.length);
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let i = 0; i < inChannels; i++) {
        for (let o = 0; o < outChannels; o++) {
          data[at++] = kernel.data[((o * inChannels + i) * height + y) * width + x];
        }
      }
    }
  }
  return float32(data, [height, width, inChannels, outChannels]);
}

/**
 * Nearest-neighbour up-sampling by two and a 3×3 convolution after it, on channels-first maps, without making the
 * up-sampled map.
 *
 * An output place sees only 2×2 different inputs: each of the four places (a, b) of a 2×2 block has a 2×2 kernel of its
 * own, whose values are sums of the 3×3 kernel's. Their four convolutions are done as one, with 4/9 of the products.
 *
 * @param xBCHW `[B, in, H, W]`.
 * @param params a 3×3 convolution.
 * @returns `[B, out, 2H, 2W]`, equal to `conv2dCHW` of the up-sampled map up to rounding.
 */
export function upsampleConv2dCHW(xBCHW: tf.Tensor, params: ConvParams): tf.Tensor4D {
  const [batch, , height, width] = xBCHW.shape, outChannels = params.bias.size;
  const xBHWC = tf.pad(tf.transpose(xBCHW, [0, 2, 3, 1]), [[0, 0], [1, 1], [1, 1], [0, 0]]);
  const all = convolve(xBHWC, phaseKernels(params.weight), { padding: "valid" });
  const phases = tf.split(tf.transpose(all, [0, 3, 1, 2]), 4, 1);
  const place = (row: number, column: number) =>
    tf.slice(phases[2 * row + column], [0, 0, row, column], [batch, outChannels, height, width]);
  const rows = [0, 1].map((row) => tf.stack([place(row, 0), place(row, 1)], 4));
  const joined = tf.reshape(tf.stack(rows, 3), [batch, outChannels, 2 * height, 2 * width]);
  return tf.add(joined, tf.reshape(params.bias, [outChannels, 1, 1])) as tf.Tensor4D;
}

/**
 * `[3, 3, in, out] → [2, 2, in, 4·out]`: along each axis the first place of a block sees the kernel's rows (0, 1 + 2),
 * the second (0 + 1, 2).
 */
function phaseKernels(weight: tf.Tensor): tf.Tensor {
  const fold = (kernel: tf.Tensor, axis: number): tf.Tensor[] => {
    const [first, middle, last] = tf.split(kernel, 3, axis);
    return [
      tf.concat([first, tf.add(middle, last)], axis),
      tf.concat([tf.add(first, middle), last], axis),
    ];
  };
  return tf.concat(fold(weight, 0).flatMap((half) => fold(half, 1)), 3);
}

/**
 * Moves blocks of pixels into channels: `[B, H, W, C] → [B, H/s, W/s, s·s·C]`, channel order (row, column, C).
 *
 * @throws RangeError if height or width is no multiple of the block size.
 */
export function spaceToDepth(xBHWC: tf.Tensor, block: number): tf.Tensor4D {
  const [batch, height, width, channels] = xBHWC.shape;
  if (height % block !== 0 || width % block !== 0) {
    throw new RangeError(
      `Cannot gather blocks: height and width must be multiples of ${block}, got ${height} × ${width}`,
    );
  }
  const [rows, columns] = [height / block, width / block];
  const split = tf.reshape(xBHWC, [batch, rows, block, columns, block * channels]);
  return tf.reshape(tf.transpose(split, [0, 1, 3, 2, 4]), [
    batch,
    rows,
    columns,
    block * block * channels,
  ]) as tf.Tensor4D;
}

/**
 * Spreads channels over blocks of pixels, the inverse of {@linkcode spaceToDepth}.
 *
 * @throws RangeError if the channels are no multiple of the block's area.
 */
export function depthToSpace(xBHWC: tf.Tensor, block: number): tf.Tensor4D {
  const [batch, rows, columns, depth] = xBHWC.shape;
  if (depth % (block * block) !== 0) {
    throw new RangeError(`Cannot spread channels: a multiple of ${block * block} is needed, got ${depth}`);
  }
  const channels = depth / (block * block);
  const split = tf.reshape(xBHWC, [batch, rows, columns, block, block * channels]);
  return tf.reshape(tf.transpose(split, [0, 1, 3, 2, 4]), [
    batch,
    rows * block,
    columns * block,
    channels,
  ]) as tf.Tensor4D;
}
