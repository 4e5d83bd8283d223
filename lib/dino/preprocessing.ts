/**
 * What happens to pixels before a DINO encoder sees them.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

/** Mean of red, green and blue over ImageNet, of pixels in [0, 1]. */
export const IMAGENET_MEAN: readonly number[] = [0.485, 0.456, 0.406];

/** Standard deviation of red, green and blue over ImageNet, of pixels in [0, 1]. */
export const IMAGENET_STD: readonly number[] = [0.229, 0.224, 0.225];

/**
 * ImageNet normalisation, `(x − mean) / std` for each channel.
 *
 * @param imageUnit pixels in [0, 1], [..., 3].
 * @returns the same shape.
 */
export function imageDinoFromUnit(imageUnit: tf.Tensor): tf.Tensor {
  const mean = tf.tensor1d([...IMAGENET_MEAN]), std = tf.tensor1d([...IMAGENET_STD]);
  return tf.div(tf.sub(imageUnit, mean), std);
}
