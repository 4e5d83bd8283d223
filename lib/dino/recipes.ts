/**
 * Recipes of self-distillation as data: the published trainings and the project's.
 *
 * @module
 */
import { ConfigError } from "novae/tensor/mod.ts";
import type { DinoHeadConfig } from "./head.ts";
import {
  DINO_RECIPE,
  DINOV2_RECIPE,
  DINOV2_SHORT_RECIPE,
  DINOV3_GRAM_RECIPE,
  DINOV3_IMAGENET_RECIPE,
  DINOV3_RECIPE,
  PLAIN,
} from "./published_recipes.ts";
import type { DinoRecipe } from "./recipe.ts";
import type { VitSize } from "./sizes.ts";

/** Names of {@linkcode DINO_RECIPES}. */
export type DinoRecipeName =
  | "small"
  | "dino"
  | "dinov2"
  | "dinov2-short"
  | "dinov3"
  | "dinov3-imagenet"
  | "dinov3-gram"
  | "dino-mini"
  | "dinov2-mini"
  | "dinov3-mini"
  | "dinov3-gram-mini";

/**
 * The recipe of the project's small encoders, for images of 64 pixels on a CPU: colours are turned all round the
 * circle, so that shapes and not hues tell images apart, and images are told apart by contrast beside the assignments
 * to prototypes, without which so short a training does not find what views from different pictures share.
 *
 * *Source*: DINO and DINOv2; the contrast MoCo v3 and SimCLR. *Differs*: small batches, few crops, few prototypes,
 * colder and shorter schedules and a standardised head, as only some 100,000 images are seen; crops are smaller than
 * the images, so that objects appear at the scale of whole images, and local crops are as large as global ones; colours
 * change by one matrix, crops are bilinear and blur scales with them; no masked patches, no KoLeo.
 */
export const SMALL_RECIPE: DinoRecipe = {
  ...PLAIN,
  batchSize: 48,
  steps: 1600,
  globalSize: 48,
  globalScale: [0.5, 1],
  localCrops: 2,
  localSize: 48,
  localScale: [0.5, 1],
  augmentation: {
    filter: "bilinear",
    flip: 0.5,
    colors: "matrix",
    jitter: { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.5, grayscale: 0.3 },
    blur: [0.2, 0.2, 0.2],
    blurKernel: "relative",
    blurSigma: [0.005, 0.015],
    solarize: 0,
  },
  masks: null,
  dinoWeight: 0.25,
  contrast: { weight: 1, temperature: 0.15 },
  head: {
    hidden: 256,
    bottleneck: 64,
    prototypes: 64,
    activation: "gelu",
    lastLayer: "unit",
    init: "xavier",
    batchNorm: true,
  },
  assignment: "sinkhorn",
  studentTemperature: 0.1,
  koleoWeight: 0,
  maskWeight: 0,
  clipNorm: 3,
  clipOver: "all",
  decayOn: "maps",
  freeze: "gradient",
  centerMomentum: 0.9,
  scheduleEnds: "steps",
  learningRate: 2e-3,
  rateScaling: "none",
  finalLearningRate: 1e-5,
  warmupShare: 0.05,
  weightDecay: [0.04, 0.1],
  momentum: [0.95, 1],
  teacherTemperature: [0.03, 0.05],
  temperatureShare: 0.3,
  freezeShare: 0.2,
};

/** What a published recipe is shrunk to. */
const MINI = {
  batchSize: 32,
  steps: 6000,
  globalSize: 48,
  localCrops: 2,
  localSize: 32,
  learningRate: 1.5e-3,
  momentum: 0.98,
  head: { hidden: 256, bottleneck: 64, prototypes: 512 },
} as const;

/**
 * A published recipe at sizes for a CPU: its losses, optimiser, schedules and distortions, on small batches, crops
 * and heads. What depends on the number of steps is that of a short training: the teacher's
 * average forgets faster, the learning rate is not scaled down with the batch.
 */
function mini(recipe: DinoRecipe): DinoRecipe {
  const { momentum, ...sizes } = MINI, { steps, globalSize } = sizes;
  const shrink = (head: DinoHeadConfig) => ({ ...head, ...MINI.head });
  const { gram } = recipe;
  return {
    ...recipe,
    ...sizes,
    head: shrink(recipe.head),
    patchHead: recipe.patchHead && shrink(recipe.patchHead),
    gram: gram && { ...gram, cropSize: 2 * globalSize, refreshSteps: [steps / 20, steps / 20] },
    dropPath: recipe.dropPath && { ...recipe.dropPath, rate: 0.1 },
    rateScaling: "none",
    momentum: recipe.gram ? [0.99, 0.99] : [momentum, recipe.momentum[1] === 1 ? 1 : momentum],
  };
}

/** A recipe and the encoder it is meant for. */
export interface NamedRecipe {
  /** What it is, in a few words. */
  readonly about: string;
  /** The encoder's named size. */
  readonly size: VitSize;
  /** The settings. */
  readonly recipe: DinoRecipe;
}

/**
 * Recipes by name: `small`, the project's; the published ones, of which `dino-mini` and its like are small versions.
 *
 * *Differs*: initial weights of encoders are always those of `initVit`, and all numbers are float32.
 */
export const DINO_RECIPES: Readonly<Record<DinoRecipeName, NamedRecipe>> = {
  small: { about: "the project's, for 64 pixels on a CPU", size: "solids", recipe: SMALL_RECIPE },
  dino: { about: "DINO on ImageNet", size: "dino-vits16", recipe: DINO_RECIPE },
  dinov2: { about: "DINOv2 on ImageNet-22k", size: "dinov2-vitl14", recipe: DINOV2_RECIPE },
  "dinov2-short": { about: "DINOv2 on ImageNet-1k", size: "vitl16", recipe: DINOV2_SHORT_RECIPE },
  dinov3: { about: "DINOv3's pretraining", size: "dinov3-vit7b16", recipe: DINOV3_RECIPE },
  "dinov3-imagenet": {
    about: "DINOv3 on ImageNet-1k",
    size: "dinov3-vitl16",
    recipe: DINOV3_IMAGENET_RECIPE,
  },
  "dinov3-gram": { about: "DINOv3's Gram stage", size: "dinov3-vit7b16", recipe: DINOV3_GRAM_RECIPE },
  "dino-mini": { about: "DINO's in small", size: "solids", recipe: mini(DINO_RECIPE) },
  "dinov2-mini": { about: "DINOv2's in small", size: "solids", recipe: mini(DINOV2_RECIPE) },
  "dinov3-mini": { about: "DINOv3's in small", size: "solids", recipe: mini(DINOV3_RECIPE) },
  "dinov3-gram-mini": {
    about: "the Gram stage of dinov3-mini",
    size: "solids",
    recipe: mini(DINOV3_GRAM_RECIPE),
  },
};

/**
 * A recipe by name.
 *
 * @throws ConfigError if there is none of that name, listing those that there are.
 */
export function dinoRecipe(name: string): NamedRecipe {
  if (Object.hasOwn(DINO_RECIPES, name)) return DINO_RECIPES[name as DinoRecipeName];
  throw new ConfigError(
    `Cannot find recipe: name must be one of ${Object.keys(DINO_RECIPES).join(", ")}, got ${name}`,
  );
}
