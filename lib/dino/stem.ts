/**
 * A convolutional stem: the patch embedding of small encoders as a few convolutions instead of one linear map.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { conv2dCHW, type ConvParams, groupNormSilu, type NormParams } from "novae/nn/mod.ts";

/** Channels of a normalisation group. */
const GROUP_WIDTH = 8;

/** Weights of a stage, which halves height and width. */
export interface StemStageParams<T = tf.Tensor> {
  /** 3×3 with stride 2. */
  conv1: ConvParams<T>;
  /** After the first convolution. */
  norm1: NormParams<T>;
  /** 3×3. */
  conv2: ConvParams<T>;
  /** After the second convolution. */
  norm2: NormParams<T>;
}

/** Whether channels can be those of a stem: multiples of the normalisation's groups, one stage for each halving. */
export function isStem(channels: readonly unknown[], patchSize: number): boolean {
  const whole = channels.every((c) =>
    Number.isInteger(c) && (c as number) > 0 && c as number % GROUP_WIDTH === 0
  );
  return whole && channels.length > 0 && 2 ** channels.length === patchSize;
}

/** What a stem needs, for messages. */
export function stemNeeds(patchSize: number): string {
  return `multiples of ${GROUP_WIDTH}, one for each halving down to patches of ${patchSize}`;
}

/**
 * Builds the weights of a stem.
 *
 * @param leaf makes a weight of its path, e.g. `stem.0.conv1.weight`, and shape.
 */
export function stemTree<T>(
  channels: readonly number[],
  leaf: (path: string, shape: readonly number[]) => T,
): StemStageParams<T>[] {
  return channels.map((to, i) => {
    const from = i === 0 ? 3 : channels[i - 1];
    const affine = (name: string, shape: readonly number[]) => ({
      weight: leaf(`stem.${i}.${name}.weight`, shape),
      bias: leaf(`stem.${i}.${name}.bias`, [to]),
    });
    return {
      conv1: affine("conv1", [3, 3, from, to]),
      norm1: affine("norm1", [to]),
      conv2: affine("conv2", [3, 3, to, to]),
      norm2: affine("norm2", [to]),
    };
  });
}

/** Number of weights of a stem. */
export function countStemParams(channels: readonly number[]): number {
  return channels.reduce(
    (sum, to, i) => sum + 9 * (i === 0 ? 3 : channels[i - 1]) * to + 9 * to * to + 6 * to,
    0,
  );
}

/**
 * Maps images to one vector a patch: each stage halves height and width by a 3×3 convolution and has a second one,
 * both followed by group normalisation and SiLU.
 *
 * A linear map of whole patches has to learn from data alone what convolutions have built in, which takes images in
 * numbers that small trainings do not see.
 *
 * *Source*: Xiao et al., "Early convolutions help transformers see better" (arXiv 2106.14881). *Differs*: two
 * convolutions a stage; group instead of batch normalisation, so that an image's features do not depend on its batch;
 * SiLU instead of ReLU.
 *
 * @param imageBHWC [B, H, W, 3].
 * @returns [B, N, C], row by row, C the channels of the last stage.
 */
export function stem(imageBHWC: tf.Tensor, stages: readonly StemStageParams[]): tf.Tensor {
  let x: tf.Tensor = tf.transpose(imageBHWC, [0, 3, 1, 2]);
  for (const { conv1, norm1, conv2, norm2 } of stages) {
    x = normSilu(conv2dCHW(x, conv1, { stride: 2 }), norm1);
    x = normSilu(conv2dCHW(x, conv2), norm2);
  }
  const [batch, channels, rows, cols] = x.shape;
  return tf.reshape(tf.transpose(x, [0, 2, 3, 1]), [batch, rows! * cols!, channels!]);
}

function normSilu(xBCHW: tf.Tensor, { weight, bias }: NormParams): tf.Tensor {
  return groupNormSilu(xBCHW, weight.size / GROUP_WIDTH, weight, bias);
}
