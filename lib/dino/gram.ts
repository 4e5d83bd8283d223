/**
 * Gram anchoring: the similarities of the patches to each other are held to those of an earlier network.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { l2Normalize } from "./head.ts";
import { bicubicMatrix } from "./positions.ts";

/** Settings of Gram anchoring that do not change from step to step. */
export interface GramObjective {
  /** Whether similarities are taken within each image; else among all patches of the batch. */
  readonly perImage: boolean;
  /** Whether the anchor's larger feature maps are filtered while they are shrunk. */
  readonly antialias: boolean;
}

/**
 * The Gram loss: `mean (X Xᵀ − Y Yᵀ)²` for patch features X of the student and Y of the anchor, each scaled to
 * length 1.
 *
 * *Source*: DINOv3 (arXiv 2508.10104), equation 2; `GramLoss` of facebookresearch/dinov3 with `normalized` and
 * negative similarities kept, as in its training.
 *
 * @param studentBND patch features of the student [B, N, D].
 * @param anchorBND those of the anchor, the same patches of the same crops [B, N, D]; no gradient is meant to flow.
 * @returns a scalar.
 */
export function gramLoss(studentBND: tf.Tensor, anchorBND: tf.Tensor, perImage = true): tf.Scalar {
  const [batch, tokens, dim] = studentBND.shape;
  const gram = (features: tf.Tensor) => {
    const unit = l2Normalize(features, -1), flat = tf.reshape(unit, [batch * tokens!, dim!]);
    return perImage ? tf.matMul(unit, unit, false, true) : tf.matMul(flat, flat, false, true);
  };
  return tf.mean(tf.square(tf.sub(gram(studentBND), gram(anchorBND))));
}

/**
 * Feature maps on a square grid with another number of patches, bicubic.
 *
 * *Source*: `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`.
 *
 * @param featuresBND patch features, row by row [B, G·G, D].
 * @param grid wanted rows and columns.
 * @returns [B, grid·grid, D].
 */
export function resizeFeatures(featuresBND: tf.Tensor, grid: number, antialias = false): tf.Tensor {
  const [batch, tokens, dim] = featuresBND.shape, from = Math.sqrt(tokens!);
  if (from === grid) return featuresBND;
  const { data, shape } = bicubicMatrix(from, grid, antialias ? "antialias" : "size");
  const matrix = tf.tile(tf.tensor(data, [1, ...shape]), [batch, 1, 1]);
  const alongRows = tf.matMul(matrix, tf.reshape(featuresBND, [batch, from, from * dim!]));
  const turned = tf.transpose(tf.reshape(alongRows, [batch, grid, from, dim!]), [0, 2, 1, 3]);
  const alongCols = tf.matMul(matrix, tf.reshape(turned, [batch, from, grid * dim!]));
  const back = tf.transpose(tf.reshape(alongCols, [batch, grid, grid, dim!]), [0, 2, 1, 3]);
  return tf.reshape(back, [batch, grid * grid, dim!]);
}
