/**
 * Which parameters of a self-distilled network decay, how fast each learns, and how gradients are clipped.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { mapTree } from "novae/tensor/mod.ts";
import { clipByGlobalNorm, clipEachByNorm, isTensor } from "novae/nn/mod.ts";
import type { DinoNetwork, DinoObjective } from "./distillation_state.ts";

/**
 * Whether a parameter decays.
 *
 * *Source*: for `weights` `get_params_groups` of facebookresearch/dino and `get_params_groups_with_decay` of
 * facebookresearch/dinov2, which leave out biases, normalisations and LayerScale alone.
 *
 * @param path e.g. `vit.blocks.0.mlp.fc1.weight`.
 */
export function decaysInDino(path: string, param: tf.Tensor, on: DinoObjective["decayOn"]): boolean {
  if (on === "weights") return !/[bB]ias$|norm\d?\.weight$|Norm\.weight$|layerScale\d$/.test(path);
  return param.rank >= 2 && !/Token$|registers$|positions$|prototypes$/.test(path);
}

/**
 * Factor of a parameter's learning rate: `decay^(depth + 1 − layer)` in the encoder, with layer 0 for stem, patch embedding,
 * tokens and positions, i + 1 for block i and depth + 1 for the rest, times the factor of the patch embedding.
 *
 * *Source*: `get_vit_lr_decay_rate` of facebookresearch/dinov2.
 *
 * @param path e.g. `vit.blocks.0.mlp.fc1.weight`.
 * @param depth number of blocks.
 */
export function learningRateFactor(
  path: string,
  depth: number,
  { layerDecay, patchEmbedRate }: Pick<DinoObjective, "layerDecay" | "patchEmbedRate">,
): number {
  const block = /^vit\.blocks\.(\d+)\./.exec(path);
  const below = block ? depth - Number(block[1]) : inputs.test(path) ? depth + 1 : 0;
  return layerDecay ** below * (path.startsWith("vit.patchEmbed.") ? patchEmbedRate : 1);
}

const inputs = /^vit\.(stem\.|patchEmbed\.|clsToken$|maskToken$|registers$|positions$)/;

/** Whether a parameter is of the last layer of a head, which is frozen in the beginning. */
export function isPrototype(path: string): boolean {
  return /\b(head|patchHead)\.(prototypes|gains)$/.test(path);
}

/**
 * Clips gradients as the objective says.
 *
 * *Source*: `clip_gradients` of facebookresearch/dino (each parameter), `do_train` of facebookresearch/dinov2
 * (encoder and heads). *Differs*: they add 1e-6 to the norm.
 *
 * @returns clipped gradients and the norm of all of them before.
 */
export function clipDinoGradients(
  grads: DinoNetwork,
  { clipNorm, clipOver }: Pick<DinoObjective, "clipNorm" | "clipOver">,
): { grads: DinoNetwork; norm: tf.Scalar } {
  const all = clipByGlobalNorm(grads, clipNorm);
  if (clipOver === "all") return all;
  if (clipOver === "parameter") return { grads: clipEachByNorm(grads, clipNorm), norm: all.norm };
  const { head, patchHead, ...encoder } = grads;
  const clipped = <P>(part: P) => clipByGlobalNorm(part, clipNorm).grads;
  return {
    grads: { ...clipped(encoder), head: clipped(head), ...(patchHead && { patchHead: clipped(patchHead) }) },
    norm: all.norm,
  };
}

/** Gradients with those of the prototypes times a factor. */
export function scalePrototypeGradients(grads: DinoNetwork, factor: tf.Tensor): DinoNetwork {
  return mapTree<DinoNetwork>(grads, isTensor, (leaf, path) => {
    const grad = leaf as tf.Tensor;
    return isPrototype(path) ? tf.mul(grad, factor) : grad;
  });
}
