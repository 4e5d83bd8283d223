/**
 * The recipes of the published trainings, setting by setting.
 *
 * @module
 */
import type { DinoHeadConfig } from "./head.ts";
import type { DinoAugmentation, DinoRecipe } from "./recipe.ts";

/** A recipe without anything that came after DINO. */
export const PLAIN: Pick<
  DinoRecipe,
  | "patchHead"
  | "localNorm"
  | "gram"
  | "dropPath"
  | "coordinateScale"
  | "localWeight"
  | "rampShare"
  | "layerDecay"
  | "dinoWeight"
  | "contrast"
  | "patchEmbedRate"
  | "beta2"
> = {
  patchHead: null,
  localNorm: false,
  gram: null,
  dropPath: null,
  coordinateScale: 1,
  localWeight: [1, 1],
  rampShare: 0,
  layerDecay: 1,
  dinoWeight: 1,
  contrast: null,
  patchEmbedRate: 1,
  beta2: 0.999,
};

const HEAD: DinoHeadConfig = {
  hidden: 2048,
  bottleneck: 256,
  prototypes: 65536,
  activation: "geluErf",
  lastLayer: "gain",
  init: "truncNormal",
  batchNorm: false,
};

const AUGMENTATION: DinoAugmentation = {
  filter: "bicubic",
  flip: 0.5,
  colors: "torchvision",
  jitter: { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1, grayscale: 0.2 },
  blur: [1, 0.1, 0.5],
  blurKernel: "pillow",
  blurSigma: [0.1, 2],
  solarize: 0.2,
};

/** DINOv2 hands torchvision the probability of not blurring as that of blurring. */
const AUGMENTATION_V2: DinoAugmentation = { ...AUGMENTATION, blur: [0, 0.9, 0.5], blurKernel: "torchvision" };

/**
 * DINO's ViT-S/16 on ImageNet: the defaults of its code at the batch of its paper, 100 epochs.
 *
 * *Source*: `main_dino.py` of facebookresearch/dino at 7c446df.
 */
export const DINO_RECIPE: DinoRecipe = {
  ...PLAIN,
  batchSize: 1024,
  steps: 125_100,
  globalSize: 224,
  globalScale: [0.4, 1],
  localCrops: 8,
  localSize: 96,
  localScale: [0.05, 0.4],
  augmentation: AUGMENTATION,
  masks: null,
  dropPath: { rate: 0.1, blocks: "rising", draw: "images" },
  head: { ...HEAD, lastLayer: "unit" },
  assignment: "centering",
  studentTemperature: 0.1,
  centerMomentum: 0.9,
  koleoWeight: 0,
  maskWeight: 0,
  clipNorm: 3,
  clipOver: "parameter",
  decayOn: "weights",
  freeze: "rate",
  scheduleEnds: "dino",
  learningRate: 5e-4,
  rateScaling: "linear256",
  finalLearningRate: 1e-6,
  warmupShare: 0.1,
  weightDecay: [0.04, 0.4],
  momentum: [0.996, 1],
  teacherTemperature: [0.04, 0.04],
  temperatureShare: 0,
  freezeShare: 0.01,
};

/**
 * DINOv2's ViT-L/16 on ImageNet-1k: the defaults of its code.
 *
 * *Source*: `ssl_default_config.yaml` and `vitl16_short.yaml` of facebookresearch/dinov2 at b8931f7, whose README
 * trains it on 4 nodes. Its code hands torchvision the probability of *not* blurring, so that first global crops are
 * never blurred and second ones nine times in ten; this is what its networks were trained with.
 */
export const DINOV2_SHORT_RECIPE: DinoRecipe = {
  ...DINO_RECIPE,
  batchSize: 2048,
  steps: 125_000,
  globalScale: [0.32, 1],
  localScale: [0.05, 0.32],
  augmentation: AUGMENTATION_V2,
  masks: { kind: "blocks", probability: 0.5, ratio: [0.1, 0.5], drawn: true },
  dropPath: { rate: 0.3, blocks: "equal", draw: "share" },
  head: HEAD,
  koleoWeight: 0.1,
  maskWeight: 1,
  clipOver: "network",
  layerDecay: 0.9,
  patchEmbedRate: 0.2,
  learningRate: 4e-3,
  rateScaling: "sqrt1024",
  momentum: [0.992, 1],
  teacherTemperature: [0.04, 0.07],
  temperatureShare: 0.3,
};

const HEAD_V2: DinoHeadConfig = { ...HEAD, prototypes: 131_072, bottleneck: 384 };

/**
 * DINOv2's ViT-L/14 on ImageNet-22k, 500 epochs of 1,250 steps.
 *
 * *Source*: `vitl14.yaml` of facebookresearch/dinov2 at b8931f7, whose README trains it on 12 nodes. Its local crops
 * of 98 pixels are those of a patch of 14. *Differs*: its perceptrons are gated, those of the ViT-L/14 that was
 * published, and of the named size, are not.
 */
export const DINOV2_RECIPE: DinoRecipe = {
  ...DINOV2_SHORT_RECIPE,
  batchSize: 3072,
  steps: 625_000,
  localSize: 98,
  head: HEAD_V2,
  patchHead: { ...HEAD, prototypes: 131_072 },
  assignment: "sinkhorn",
  dropPath: { rate: 0.4, blocks: "equal", draw: "share" },
  layerDecay: 1,
  learningRate: 2e-4,
  warmupShare: 0.16,
  weightDecay: [0.04, 0.2],
  momentum: [0.994, 1],
  temperatureShare: 0.06,
  freezeShare: 0.002,
};

/**
 * DINOv3's ViT-L/16 on ImageNet-1k, 100 epochs of 1,250 steps.
 *
 * *Source*: `vitl_im1k_lin834.yaml` of facebookresearch/dinov3 at 6876159, whose rule √(B / 1024) has a factor of 4,
 * which is part of `learningRate` here.
 */
export const DINOV3_IMAGENET_RECIPE: DinoRecipe = {
  ...DINOV2_SHORT_RECIPE,
  masks: { kind: "blocks", probability: 0.5, ratio: [0.1, 0.5], drawn: false },
  head: { ...HEAD, lastLayer: "free" },
  patchHead: { ...HEAD, lastLayer: "free" },
  assignment: "sinkhorn",
  learningRate: 4 * 1e-3,
};

/**
 * DINOv3's 7B pretraining: constant schedules after their warm-ups, 1,000 epochs of 1,000 steps.
 *
 * *Source*: `dinov3_vit7b16_pretrain.yaml` of facebookresearch/dinov3 at 6876159, on 256 devices as its README says;
 * the factor of 4 as in {@linkcode DINOV3_IMAGENET_RECIPE}.
 */
export const DINOV3_RECIPE: DinoRecipe = {
  ...DINOV3_IMAGENET_RECIPE,
  batchSize: 4096,
  steps: 1_000_000,
  globalSize: 256,
  localSize: 112,
  augmentation: { ...AUGMENTATION_V2, flip: 0 },
  dropPath: { rate: 0.4, blocks: "equal", draw: "share" },
  coordinateScale: 2,
  head: { ...HEAD, hidden: 8192, bottleneck: 512, prototypes: 262_144, lastLayer: "free" },
  patchHead: { ...HEAD, hidden: 4096, bottleneck: 384, prototypes: 98_304, lastLayer: "free" },
  localNorm: true,
  clipNorm: 30,
  layerDecay: 0.98,
  beta2: 0.99,
  scheduleEnds: "dinov3",
  learningRate: 4 * 5e-5,
  finalLearningRate: null,
  warmupShare: 0.1,
  weightDecay: [0.04, 0.04],
  momentum: [0.994, 0.994],
  temperatureShare: 0.1,
  freezeShare: 0.005,
};

/**
 * DINOv3's Gram stage, which goes on from the pretraining: 200 epochs of 1,000 steps.
 *
 * *Source*: `dinov3_vit7b16_gram_anchor.yaml` of facebookresearch/dinov3 at 6876159, steps counted from the end of the
 * pretraining, where all warm-ups are over.
 */
export const DINOV3_GRAM_RECIPE: DinoRecipe = {
  ...DINOV3_RECIPE,
  steps: 200_000,
  gram: {
    cropSize: 512,
    antialias: false,
    perImage: true,
    weight: [0, 2],
    refreshSteps: [10_000, 10_000],
    refreshes: 3,
  },
  localWeight: [1, 0.5],
  rampShare: 0.005,
  learningRate: 4 * 3e-5,
  warmupShare: 0,
  momentum: [0.999, 0.999],
  teacherTemperature: [0.07, 0.07],
  temperatureShare: 0,
  freezeShare: 0,
};
