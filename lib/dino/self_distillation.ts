/**
 * One update of self-distillation as a pure function: a student learns to assign crops to prototypes as its teacher
 * does, and the teacher is the moving average of the student.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { mapTree } from "novae/tensor/mod.ts";
import { adamW, emaUpdate, isTensor, valueAndGrads } from "novae/nn/mod.ts";
import type { VitConfig } from "./config.ts";
import { dinoImages, studentLoss, teach } from "./distillation_loss.ts";
import type { DinoBatch, DinoMetrics, DinoNetwork, DinoObjective, DinoState } from "./distillation_state.ts";
import { featureSpread, meanEntropy } from "./losses.ts";
import {
  clipDinoGradients,
  decaysInDino,
  isPrototype,
  learningRateFactor,
  scalePrototypeGradients,
} from "./parameter_groups.ts";
import type { VitParams } from "./vit_params.ts";

/**
 * One update: the teacher sees the global crops, the student all crops, some patches of its global ones masked.
 *
 * `loss = dinoLoss + koleoWeight · Σ KoLeo + maskWeight · patchLoss + gramWeight · gramLoss`; AdamW on clipped
 * gradients; `teacher ← m·teacher + (1 − m)·student`.
 *
 * *Source*: DINO (arXiv 2104.14294), iBOT (arXiv 2111.07832), DINOv2 (arXiv 2304.07193), DINOv3 (arXiv 2508.10104)
 * and their published code. *Differs*: what DINO's optimiser remembers of the prototypes begins while they are frozen,
 * as in DINOv2.
 *
 * @param config settings of the encoder.
 * @param objective settings of the update.
 * @returns new state and metrics; the arguments are left as they are.
 */
export function dinoStep(
  state: DinoState,
  batch: DinoBatch,
  config: VitConfig,
  objective: DinoObjective,
): [DinoState, DinoMetrics] {
  const images = dinoImages(batch), teaching = teach(state, images, batch, config, objective);
  const { loss, aux, grads } = valueAndGrads(
    (student: DinoNetwork) => studentLoss(student, teaching, images, batch, config, objective),
    state.student,
  );
  const clipped = clipDinoGradients(grads, objective), step = tf.add(state.step, 1);
  const updated = optimize(state, clipped.grads, step as tf.Scalar, batch, config, objective);
  const teacher = emaUpdate(state.teacher, updated.params, batch.momentum as tf.Scalar);
  const metrics: DinoMetrics = {
    loss,
    ...aux,
    gradNorm: clipped.norm,
    teacherEntropy: meanEntropy(teaching.clsTargets),
    featureSpread: featureSpread(teaching.clsTokens),
  };
  const centred = (center: tf.Tensor, mean: tf.Tensor | undefined) =>
    mean ? average(center, mean, objective.centerMomentum) : tf.clone(center);
  const next: DinoState = {
    step,
    student: updated.params,
    teacher,
    adam: updated.state,
    centerP: centred(state.centerP, teaching.clsCenterP),
    patchCenterP: centred(state.patchCenterP, teaching.patchCenterP),
    ...(state.gram && { gram: refreshed(state.gram, teacher.vit, batch.gramRefresh) }),
  };
  return [next, metrics];
}

function optimize(
  state: DinoState,
  grads: DinoNetwork,
  step: tf.Scalar,
  batch: DinoBatch,
  config: VitConfig,
  objective: DinoObjective,
): ReturnType<typeof adamW<DinoNetwork>> {
  const byRate = objective.freeze === "rate", prototypeRate = batch.prototypeRate as tf.Scalar;
  const used = byRate ? grads : scalePrototypeGradients(grads, prototypeRate);
  return adamW(state.student, used, state.adam, step, {
    learningRate: batch.learningRate as tf.Scalar,
    weightDecay: batch.weightDecay as tf.Scalar,
    beta2: objective.beta2,
    decays: (path, param) => decaysInDino(path, param, objective.decayOn),
    rateFactor: (path) =>
      byRate && isPrototype(path) ? prototypeRate : learningRateFactor(path, config.depth, objective),
  });
}

function average(old: tf.Tensor, value: tf.Tensor, keep: number): tf.Tensor {
  return tf.add(tf.mul(old, keep), tf.mul(value, 1 - keep));
}

/** The anchor, or the teacher where `refresh` is 1. */
function refreshed(anchor: VitParams, teacher: VitParams, refresh: tf.Tensor | undefined): VitParams {
  if (!refresh) return mapTree<VitParams>(anchor, isTensor, (leaf) => tf.clone(leaf as tf.Tensor));
  const fresh = new Map<string, tf.Tensor>();
  mapTree(teacher, isTensor, (leaf, path) => fresh.set(path, leaf as tf.Tensor));
  const stays = tf.sub(1, refresh);
  return mapTree<VitParams>(
    anchor,
    isTensor,
    (leaf, path) => tf.add(tf.mul(leaf as tf.Tensor, stays), tf.mul(fresh.get(path)!, refresh)),
  );
}
