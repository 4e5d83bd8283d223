/**
 * One update of self-distillation as a pure function: a student learns to assign crops to prototypes as its teacher
 * does, and the teacher is the moving average of the student.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type HostTensor, type Rng, scalar, zeros } from "novae/tensor/mod.ts";
import { type AdamState, adamW, clipByGlobalNorm, emaUpdate, initAdam, valueAndGrads } from "novae/nn/mod.ts";
import type { VitConfig } from "./config.ts";
import { dinoHead, type DinoHeadConfig, type DinoHeadParams, initDinoHead } from "./head.ts";
import {
  centeredSoftmax,
  dinoLoss,
  featureSpread,
  koleoLoss,
  marginalEntropy,
  meanEntropy,
  sinkhornKnopp,
} from "./losses.ts";
import { softmaxCrossEntropy } from "novae/engine/mod.ts";
import { imageDinoFromUnit } from "./preprocessing.ts";
import { vit } from "./vit.ts";
import { initVit, type VitParams } from "./vit_params.ts";

/** An encoder and its projection head. */
export interface DinoNetwork<T = tf.Tensor> {
  /** The encoder. */
  vit: VitParams<T>;
  /** Its projection head, used in training only. */
  head: DinoHeadParams<T>;
}

/** Everything that an update changes. */
export interface DinoState<T = tf.Tensor> {
  /** Updates done, float32 scalar. */
  step: T;
  /** Learns by gradients. */
  student: DinoNetwork<T>;
  /** Moving average of the student; its encoder is what a training is for. */
  teacher: DinoNetwork<T>;
  /** Moments of the optimiser. */
  adam: AdamState<DinoNetwork<T>>;
  /** Running mean of the teacher's logits [P], used by `centering`. */
  centerP: T;
}

/** Inputs of an update: crops of B images, and the values of the schedules. */
export interface DinoBatch<T = tf.Tensor> {
  /** Two global crops of each image, crop after crop, pixels in [0, 1]: [2·B, H, W, 3]. */
  globals: T;
  /** Local crops, crop after crop [C·B, h, w, 3]; absent for none. */
  locals?: T;
  /** One-hot rows that choose the patches masked in each first global crop [B, M, N]; absent for none. */
  masked?: T;
  /** Step size of the optimiser. */
  learningRate: T;
  /** Decoupled weight decay. */
  weightDecay: T;
  /** Decay of the teacher's average. */
  momentum: T;
  /** Temperature of the teacher's assignments. */
  teacherTemperature: T;
  /** 0 while the prototypes are frozen, else 1. */
  prototypeRate: T;
}

/** Fixed settings of an update. */
export interface DinoObjective {
  /** How the teacher's logits become assignments. */
  readonly assignment: "sinkhorn" | "centering";
  /** Temperature of the student's softmax. */
  readonly studentTemperature: number;
  /** Weight of the KoLeo regulariser on each global crop. */
  readonly koleoWeight: number;
  /** Weight of the masked-patch loss (iBOT). */
  readonly maskWeight: number;
  /** Largest joint norm of the gradients. */
  readonly clipNorm: number;
  /** Widths and kind of the projection head. */
  readonly head: DinoHeadConfig;
  /** Decay of `centerP`. */
  readonly centerMomentum: number;
}

/** Scalars that an update reports. */
export interface DinoMetrics<T = tf.Tensor> extends Record<string, T> {
  /** What is minimised. */
  loss: T;
  /** Cross-entropy between crops. */
  dinoLoss: T;
  /** Sum of the KoLeo terms, before its weight. */
  koleo: T;
  /** Cross-entropy of masked patches, before its weight. */
  maskLoss: T;
  /** Joint norm of the gradients before clipping. */
  gradNorm: T;
  /** Mean entropy of the teacher's assignments of one crop, nats. */
  teacherEntropy: T;
  /** Entropy of the student's mean assignment, nats: 0 when all crops go to one prototype. */
  usageEntropy: T;
  /** Spread of the teacher's class tokens over the batch: 0 when all are alike. */
  featureSpread: T;
}

/** The state before the first update; the teacher starts as a copy of the student. */
export function initDinoState(
  rng: Rng,
  config: VitConfig,
  head: DinoHeadConfig,
): DinoState<HostTensor> {
  const network = (): DinoNetwork<HostTensor> => ({
    vit: initVit(rng.split("vit"), config),
    head: initDinoHead(rng.split("head"), config.width, head),
  });
  const student = network();
  return {
    step: scalar(0),
    student,
    teacher: network(),
    adam: initAdam(student),
    centerP: zeros([head.prototypes]),
  };
}

/**
 * One update.
 *
 * `loss = DINO + koleoWeight · Σ KoLeo(global crop) + maskWeight · iBOT`, then AdamW on the student with clipped
 * gradients, then `teacher ← m·teacher + (1 − m)·student`.
 *
 * *Source*: DINO (arXiv 2104.14294), DINOv2 (arXiv 2304.07193). *Differs*: only the first global crop of an image
 * is masked, a fixed number of patches of it, and one head serves class and patch tokens; tokens, learned positions,
 * gains, biases and prototypes do not decay.
 *
 * @returns the new state and metrics; the arguments are left as they are.
 */
export function dinoStep(
  state: DinoState,
  batch: DinoBatch,
  config: VitConfig,
  objective: DinoObjective,
): [DinoState, DinoMetrics] {
  const globals = imageDinoFromUnit(batch.globals);
  const locals = batch.locals === undefined ? undefined : imageDinoFromUnit(batch.locals);
  const teacher = teach(state, globals, batch, config, objective);
  const { loss, aux, grads } = valueAndGrads(
    (student: DinoNetwork) => studentLoss(student, teacher, globals, locals, batch.masked, config, objective),
    state.student,
  );
  const { grads: clipped, norm } = clipByGlobalNorm(grads, objective.clipNorm);
  const frozen: DinoNetwork = {
    vit: clipped.vit,
    head: { ...clipped.head, prototypes: tf.mul(clipped.head.prototypes, batch.prototypeRate) },
  };
  const step = tf.add(state.step, 1);
  const updated = adamW(state.student, frozen, state.adam, step as tf.Scalar, {
    learningRate: batch.learningRate as tf.Scalar,
    weightDecay: batch.weightDecay as tf.Scalar,
    decays: decaysInDino,
  });
  const keep = objective.centerMomentum;
  const centerP = tf.add(tf.mul(state.centerP, keep), tf.mul(tf.mean(teacher.clsLogits, 0), 1 - keep));
  const newTeacher = emaUpdate(state.teacher, updated.params, batch.momentum as tf.Scalar);
  const metrics: DinoMetrics = {
    loss,
    ...aux,
    gradNorm: norm,
    teacherEntropy: meanEntropy(teacher.clsTargets),
    featureSpread: featureSpread(teacher.clsTokens),
  };
  return [{ step, student: updated.params, teacher: newTeacher, adam: updated.state, centerP }, metrics];
}

/** Whether a parameter decays: matrices of the networks, but neither tokens, learned positions nor prototypes. */
export function decaysInDino(path: string, param: tf.Tensor): boolean {
  return param.rank >= 2 && !/Token$|registers$|positions$|prototypes$/.test(path);
}

interface Teaching {
  clsTokens: tf.Tensor;
  clsLogits: tf.Tensor;
  clsTargets: tf.Tensor;
  patchTargets?: tf.Tensor;
}

function teach(
  state: DinoState,
  globals: tf.Tensor,
  batch: DinoBatch,
  config: VitConfig,
  objective: DinoObjective,
): Teaching {
  const temperature = batch.teacherTemperature as tf.Scalar;
  const assign = (logits: tf.Tensor) =>
    objective.assignment === "sinkhorn"
      ? sinkhornKnopp(logits, temperature)
      : centeredSoftmax(logits, state.centerP, temperature);
  const { clsBD, patchesBND } = vit(globals, state.teacher.vit, config);
  const clsLogits = dinoHead(clsBD, state.teacher.head, objective.head);
  const teaching: Teaching = { clsTokens: clsBD, clsLogits, clsTargets: assign(clsLogits) };
  if (batch.masked) {
    teaching.patchTargets = assign(
      dinoHead(choose(patchesBND, batch.masked), state.teacher.head, objective.head),
    );
  }
  return teaching;
}

function studentLoss(
  student: DinoNetwork,
  teacher: Teaching,
  globals: tf.Tensor,
  locals: tf.Tensor | undefined,
  masked: tf.Tensor | undefined,
  config: VitConfig,
  objective: DinoObjective,
): { loss: tf.Scalar; aux: Pick<DinoMetrics, "dinoLoss" | "koleo" | "maskLoss" | "usageEntropy"> } {
  const { studentTemperature, koleoWeight, maskWeight } = objective;
  const firstMask = masked && tf.sum(masked, 1);
  const maskBN = firstMask && tf.concat([firstMask, tf.zerosLike(firstMask)], 0);
  const { clsBD, patchesBND } = vit(globals, student.vit, config, { maskBN });
  const globalLogits = dinoHead(clsBD, student.head, objective.head);
  const localLogits = locals
    ? dinoHead(vit(locals, student.vit, config).clsBD, student.head, objective.head)
    : null;
  const ownLoss = dinoLoss(teacher.clsTargets, globalLogits, localLogits, studentTemperature);
  const [first, second] = tf.split(clsBD, 2, 0);
  const koleo = tf.add(koleoLoss(first), koleoLoss(second));
  let loss = tf.add(ownLoss, tf.mul(koleo, koleoWeight)) as tf.Scalar;
  let maskLoss: tf.Tensor = tf.scalar(0);
  if (masked && teacher.patchTargets) {
    const logits = tf.div(
      dinoHead(choose(patchesBND, masked), student.head, objective.head),
      studentTemperature,
    );
    maskLoss = tf.mean(softmaxCrossEntropy(logits, teacher.patchTargets));
    loss = tf.add(loss, tf.mul(maskLoss, maskWeight));
  }
  const usageEntropy = marginalEntropy(tf.softmax(tf.div(globalLogits, studentTemperature)));
  return { loss, aux: { dinoLoss: ownLoss, koleo, maskLoss, usageEntropy } };
}

/** Tokens of the first B images at the places of the one-hot rows [B, M, N], as [B·M, D]. */
function choose(patchesBND: tf.Tensor, masked: tf.Tensor): tf.Tensor {
  const [batch, count, tokens] = masked.shape;
  const dim = patchesBND.shape[2]!;
  const first = tf.slice(patchesBND, [0, 0, 0], [batch, tokens!, dim]);
  return tf.reshape(tf.matMul(masked, first), [batch * count!, dim]);
}
