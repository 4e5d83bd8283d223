/**
 * Patches of images and of latents: squares of places as one token, and back.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

/**
 * Cuts images into patches, row by row, each flattened in the order row, column, channel.
 *
 * @param imageBHWC [B, H, W, C], H and W multiples of the patch.
 * @param patchSize side p of a patch.
 * @returns [B, I·J, p·p·C] for I = H / p and J = W / p.
 */
export function patchify(imageBHWC: tf.Tensor, patchSize: number): tf.Tensor {
  const [batch, height, width, channels] = imageBHWC.shape;
  const rows = height / patchSize, cols = width / patchSize;
  const cut = tf.reshape(imageBHWC, [batch, rows, patchSize, cols, patchSize * channels]);
  return tf.reshape(tf.transpose(cut, [0, 1, 3, 2, 4]), [
    batch,
    rows * cols,
    patchSize * patchSize * channels,
  ]);
}

/**
 * Puts patches back to where {@linkcode patchify} took them from.
 *
 * @param patchesBNP [B, I·J, p·p·C].
 * @param rows I, number of rows of patches.
 * @param cols J, number of columns of patches.
 * @param patchSize side p of a patch.
 * @returns [B, I·p, J·p, C].
 */
export function unpatchify(
  patchesBNP: tf.Tensor,
  rows: number,
  cols: number,
  patchSize: number,
): tf.Tensor {
  const [batch, , values] = patchesBNP.shape, channels = values / (patchSize * patchSize);
  const cut = tf.reshape(patchesBNP, [batch, rows, cols, patchSize, patchSize * channels]);
  return tf.reshape(tf.transpose(cut, [0, 1, 3, 2, 4]), [
    batch,
    rows * patchSize,
    cols * patchSize,
    channels,
  ]);
}
