/**
 * The two halves of the loss of self-distillation: what the teacher asks for and what the student makes of it.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { norm } from "novae/nn/mod.ts";
import type { VitConfig } from "./config.ts";
import type { DinoBatch, DinoMetrics, DinoNetwork, DinoObjective, DinoState } from "./distillation_state.ts";
import { gramLoss, resizeFeatures } from "./gram.ts";
import { dinoEmbedding, dinoHead, prototypeLogits } from "./head.ts";
import {
  centeredSoftmax,
  contrastLoss,
  dinoLoss,
  koleoLoss,
  marginalEntropy,
  patchLoss,
  sinkhornKnopp,
} from "./losses.ts";
import { imageDinoFromUnit } from "./preprocessing.ts";
import { vit } from "./vit.ts";

/** Crops of a batch as networks see them, ImageNet-normalised. */
export interface DinoImages {
  /** [2·B, H, W, 3]. */
  readonly globals: tf.Tensor;
  /** [C·B, h, w, 3]. */
  readonly locals?: tf.Tensor;
  /** What the Gram anchor sees. */
  readonly gramCrops: tf.Tensor;
}

/** Normalises the crops of a batch. */
export function dinoImages(batch: DinoBatch): DinoImages {
  const globals = imageDinoFromUnit(batch.globals);
  return {
    globals,
    ...(batch.locals && { locals: imageDinoFromUnit(batch.locals) }),
    gramCrops: batch.gramCrops ? imageDinoFromUnit(batch.gramCrops) : globals,
  };
}

/** What a student is taught of a batch, and what the teacher's running means are made of. */
export interface Teaching {
  /** Class tokens of the global crops [2·B, D]. */
  clsTokens: tf.Tensor;
  /** Their mean logits [P]. */
  clsCenterP: tf.Tensor;
  /** Their assignments [2·B, P]. */
  clsTargets: tf.Tensor;
  /** Mean logits of the masked patches [P]. */
  patchCenterP?: tf.Tensor;
  /** Assignments of the masked patches [M, P]. */
  patchTargets?: tf.Tensor;
  /** Patch features of the Gram anchor on the student's grid [2·B, N, D]. */
  anchors?: tf.Tensor;
}

/** What the teacher makes of the global crops. */
export function teach(
  state: DinoState,
  images: DinoImages,
  batch: DinoBatch,
  config: VitConfig,
  objective: DinoObjective,
): Teaching {
  const temperature = batch.teacherTemperature as tf.Scalar, sinkhorn = objective.assignment === "sinkhorn";
  const { clsBD, patchesBND } = vit(images.globals, state.teacher.vit, config);
  const clsLogits = dinoHead(clsBD, state.teacher.head, objective.head);
  const teaching: Teaching = {
    clsTokens: clsBD,
    clsCenterP: tf.mean(clsLogits, 0),
    clsTargets: sinkhorn
      ? sinkhornKnopp(clsLogits, temperature)
      : centeredSoftmax(clsLogits, state.centerP, temperature),
  };
  if (batch.maskedRows && batch.maskedWeights) {
    const presentM = tf.cast(tf.greater(batch.maskedWeights, 0), "float32");
    const logits = patchLogits(chosen(patchesBND, batch.maskedRows), state.teacher, objective);
    const count = tf.maximum(tf.sum(presentM), 1);
    teaching.patchCenterP = tf.div(tf.sum(tf.mul(logits, tf.expandDims(presentM, 1)), 0), count);
    teaching.patchTargets = sinkhorn
      ? sinkhornKnopp(logits, temperature, { presentM })
      : centeredSoftmax(logits, state.patchCenterP, temperature);
  }
  if (objective.gram && state.gram) {
    const { patchesBND: anchors } = vit(images.gramCrops, state.gram, config);
    const grid = images.globals.shape[1]! / config.patchSize;
    teaching.anchors = resizeFeatures(anchors, grid, objective.gram.antialias);
  }
  return teaching;
}

type LossMetrics =
  & Record<string, tf.Tensor>
  & Pick<DinoMetrics, "dinoLoss" | "koleo" | "maskLoss" | "usageEntropy">;

/** The loss of a student on a batch and its parts. */
export function studentLoss(
  student: DinoNetwork,
  teaching: Teaching,
  images: DinoImages,
  batch: DinoBatch,
  config: VitConfig,
  objective: DinoObjective,
): { loss: tf.Scalar; aux: LossMetrics } {
  const { studentTemperature, dinoWeight, koleoWeight, maskWeight, contrast } = objective;
  const { maskBN, globalPaths: paths, globalScales: coordinateScales } = batch;
  const { clsBD, patchesBND } = vit(images.globals, student.vit, config, { maskBN, paths, coordinateScales });
  const embed = (tokens: tf.Tensor) => dinoEmbedding(tokens, student.head, objective.head);
  const logitsOf = (embedded: tf.Tensor) => prototypeLogits(embedded, student.head, objective.head);
  const globals = embed(clsBD), globalLogits = logitsOf(globals);
  const locals = images.locals ? embed(localTokens(images.locals, student, batch, config)) : null;
  const localLogits = locals && logitsOf(locals);
  const ownLoss = dinoLoss(
    teaching.clsTargets,
    globalLogits,
    localLogits,
    studentTemperature,
    batch.localWeight,
  );
  const [first, second] = tf.split(clsBD, 2, 0);
  const koleo = tf.add(koleoLoss(first), koleoLoss(second));
  const weighted = dinoWeight === 1 ? ownLoss : tf.mul(ownLoss, dinoWeight);
  let loss = tf.add(weighted, tf.mul(koleo, koleoWeight)) as tf.Scalar;
  let maskLoss: tf.Tensor = tf.scalar(0);
  if (batch.maskedRows && batch.maskedWeights && teaching.patchTargets) {
    const logits = patchLogits(chosen(patchesBND, batch.maskedRows), student, objective);
    maskLoss = patchLoss(teaching.patchTargets, logits, batch.maskedWeights, studentTemperature);
    loss = tf.add(loss, tf.mul(maskLoss, maskWeight));
  }
  const aux: LossMetrics = {
    dinoLoss: ownLoss,
    koleo,
    maskLoss,
    usageEntropy: marginalEntropy(tf.softmax(tf.div(globalLogits, studentTemperature))),
  };
  if (contrast) {
    aux.contrastLoss = contrastLoss(globals, locals, contrast.temperature);
    loss = tf.add(loss, tf.mul(aux.contrastLoss, contrast.weight));
  }
  if (objective.gram && teaching.anchors && batch.gramWeight) {
    aux.gramLoss = gramLoss(patchesBND, teaching.anchors, objective.gram.perImage);
    loss = tf.add(loss, tf.mul(aux.gramLoss, batch.gramWeight));
  }
  return { loss, aux };
}

/** Class tokens of the local crops [C·B, D], behind the final normalisation that is meant for them. */
function localTokens(
  locals: tf.Tensor,
  student: DinoNetwork,
  { localPaths: paths, localScales: coordinateScales }: DinoBatch,
  config: VitConfig,
): tf.Tensor {
  if (!student.localNorm) return vit(locals, student.vit, config, { paths, coordinateScales }).clsBD;
  const options = { paths, coordinateScales, lastBlocks: 1, norm: false };
  return norm(
    vit(locals, student.vit, config, options).lastBlocks[0].clsBD,
    student.localNorm,
    config.normEps,
  );
}

/** Logits of patch tokens, by a head of their own where there is one. */
function patchLogits(tokensMD: tf.Tensor, network: DinoNetwork, objective: DinoObjective): tf.Tensor {
  if (network.patchHead && objective.patchHead) {
    return dinoHead(tokensMD, network.patchHead, objective.patchHead);
  }
  return dinoHead(tokensMD, network.head, objective.head);
}

/** Patch tokens at the given rows of all [B·N], as [M, D]. */
function chosen(patchesBND: tf.Tensor, rows: tf.Tensor): tf.Tensor {
  const [batch, tokens, dim] = patchesBND.shape;
  return tf.gather(tf.reshape(patchesBND, [batch * tokens!, dim!]), rows as tf.Tensor1D);
}
