/**
 * What self-distillation changes, is fed and reports: the trees of its state, batch and metrics.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { type HostTensor, type Rng, scalar, zeros } from "novae/tensor/mod.ts";
import { type AdamState, initAdam, initNorm, type NormParams } from "novae/nn/mod.ts";
import type { VitConfig } from "./config.ts";
import type { GramObjective } from "./gram.ts";
import { type DinoHeadConfig, type DinoHeadParams, initDinoHead } from "./head.ts";
import { initVit, type VitParams } from "./vit_params.ts";

/** An encoder and its projection heads. */
export interface DinoNetwork<T = tf.Tensor> {
  /** The encoder. */
  vit: VitParams<T>;
  /** Its projection head, used in training only. */
  head: DinoHeadParams<T>;
  /** Projection head of masked patches; absent where they share `head`. */
  patchHead?: DinoHeadParams<T>;
  /** Final normalisation of the student's local crops, where it is not that of the encoder. */
  localNorm?: NormParams<T>;
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
  /** Running mean of the teacher's logits of class tokens [P], used by `centering`. */
  centerP: T;
  /** The same of masked patches [P of their head]. */
  patchCenterP: T;
  /** The encoder of Gram anchoring: an earlier teacher. */
  gram?: VitParams<T>;
}

/** Inputs of an update: crops of B images, what was drawn for them, and the values of the schedules. */
export interface DinoBatch<T = tf.Tensor> {
  /** Two global crops of each image, crop after crop, pixels in [0, 1]: [2·B, H, W, 3]. */
  globals: T;
  /** Local crops, crop after crop [C·B, h, w, 3]; absent for none. */
  locals?: T;
  /** Undistorted global crops for Gram anchoring [2·B, G, G, 3]; absent where it sees `globals`. */
  gramCrops?: T;
  /** Patches of the global crops that the student does not see: 0 and 1 [2·B, N]; absent for none. */
  maskBN?: T;
  /** Where the M masked patches are among the 2·B·N, int32 [M]; those that only fill the shape are 0. */
  maskedRows?: T;
  /** Weight of each masked patch in the loss [M]; 0 for those that only fill the shape. */
  maskedWeights?: T;
  /** Factors of what the student's blocks add to each global crop [depth, 2, 2·B]; absent where no path is dropped. */
  globalPaths?: T;
  /** The same for local crops [depth, 2, C·B]. */
  localPaths?: T;
  /** Factors of the student's coordinates in each block for global crops [depth]; absent for none. */
  globalScales?: T;
  /** The same for local crops [depth]. */
  localScales?: T;
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
  /** Factor of the pairs with local crops; absent for 1. */
  localWeight?: T;
  /** Weight of the Gram loss; absent without it. */
  gramWeight?: T;
  /** 1 if the teacher becomes the Gram anchor after this update, else 0; absent without it. */
  gramRefresh?: T;
}

/** How images are told apart by the embeddings of their crops, see {@linkcode contrastLoss}. */
export interface ContrastObjective {
  /** Weight in the loss. */
  readonly weight: number;
  /** Temperature of the softmax over the images of the batch. */
  readonly temperature: number;
}

/** Fixed settings of an update. */
export interface DinoObjective {
  /** Weight of the cross-entropy between crops. */
  readonly dinoWeight: number;
  /** How the teacher's logits become assignments. */
  readonly assignment: "sinkhorn" | "centering";
  /** Temperature of the student's softmax. */
  readonly studentTemperature: number;
  /** Decay of the centers. */
  readonly centerMomentum: number;
  /** Weight of the KoLeo regulariser on each global crop. */
  readonly koleoWeight: number;
  /**
   * Contrast between the images of a batch, beside the assignments to prototypes; null for none, as published. It tells
   * a young network what views have in common where that is no matter of colours and textures.
   */
  readonly contrast: ContrastObjective | null;
  /** Weight of the masked-patch loss (iBOT). */
  readonly maskWeight: number;
  /** Widths and kind of the projection head. */
  readonly head: DinoHeadConfig;
  /** A head of its own for masked patches; null where they share `head`. */
  readonly patchHead: DinoHeadConfig | null;
  /** Whether the class tokens of the student's local crops have a final normalisation of their own (DINOv3). */
  readonly localNorm: boolean;
  /** Gram anchoring; null for none. */
  readonly gram: GramObjective | null;
  /** Largest norm of the gradients. */
  readonly clipNorm: number;
  /**
   * Whose norm is clipped: that of all gradients together (`all`), of encoder and each head by themselves
   * (`network`, DINOv2 and DINOv3) or of each parameter by itself (`parameter`, DINO).
   */
  readonly clipOver: "all" | "network" | "parameter";
  /**
   * What weight decay is on: maps alone, neither tokens, positions nor prototypes (`maps`), or all that is no bias,
   * normalisation or LayerScale, as published (`weights`).
   */
  readonly decayOn: "maps" | "weights";
  /** Factor of the learning rate from each block to the one before it; 1 for none. */
  readonly layerDecay: number;
  /** Factor of the learning rate of the patch embedding; 1 for none. */
  readonly patchEmbedRate: number;
  /**
   * What frozen prototypes lack: gradients (`gradient`), or the step that is made of them (`rate`, DINOv2 and DINOv3),
   * while their moments go on.
   */
  readonly freeze: "gradient" | "rate";
  /** Decay of the optimiser's mean squared gradient. */
  readonly beta2: number;
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

/** The state before the first update; the teacher starts as a copy of the student, the Gram anchor too. */
export function initDinoState(rng: Rng, config: VitConfig, objective: DinoObjective): DinoState<HostTensor> {
  const { head, patchHead, localNorm, gram } = objective;
  const network = (): DinoNetwork<HostTensor> => ({
    vit: initVit(rng.split("vit"), config),
    head: initDinoHead(rng.split("head"), config.width, head),
    ...(patchHead && { patchHead: initDinoHead(rng.split("patchHead"), config.width, patchHead) }),
    ...(localNorm && { localNorm: initNorm(config.width) }),
  });
  const student = network(), teacher = network();
  return {
    step: scalar(0),
    student,
    teacher,
    adam: initAdam(student),
    centerP: zeros([head.prototypes]),
    patchCenterP: zeros([(patchHead ?? head).prototypes]),
    ...(gram && { gram: initVit(rng.split("vit"), config) }),
  };
}
