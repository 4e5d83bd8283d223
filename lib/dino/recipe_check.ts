/**
 * Checks of recipes before a training starts.
 *
 * @module
 */
import { ConfigError } from "novae/tensor/mod.ts";
import type { VitConfig } from "./config.ts";
import type { DinoRecipe } from "./recipe.ts";

const CHOICES: Readonly<Record<string, readonly unknown[]>> = {
  assignment: ["sinkhorn", "centering"],
  clipOver: ["all", "network", "parameter"],
  decayOn: ["maps", "weights"],
  freeze: ["gradient", "rate"],
  scheduleEnds: ["steps", "dino", "dinov3"],
  rateScaling: ["none", "linear256", "sqrt1024"],
  "augmentation.filter": ["bilinear", "bicubic"],
  "augmentation.colors": ["matrix", "torchvision"],
  "augmentation.blurKernel": ["relative", "pillow", "torchvision"],
  "masks.kind": ["scattered", "blocks"],
  "dropPath.blocks": ["rising", "equal"],
  "dropPath.draw": ["images", "share"],
};

const HEAD_CHOICES: Readonly<Record<string, readonly unknown[]>> = {
  activation: ["gelu", "geluErf"],
  lastLayer: ["unit", "gain", "free"],
  init: ["xavier", "truncNormal"],
};

const COUNTS = ["head.hidden", "head.bottleneck", "head.prototypes"];
const POSITIVE = [
  "studentTemperature",
  "clipNorm",
  "layerDecay",
  "patchEmbedRate",
  "learningRate",
  "teacherTemperature.0",
  "teacherTemperature.1",
];
const WEIGHTS = [
  "dinoWeight",
  "koleoWeight",
  "maskWeight",
  "localWeight.0",
  "localWeight.1",
  "weightDecay.0",
  "weightDecay.1",
];
const SHARES = [
  "warmupShare",
  "temperatureShare",
  "freezeShare",
  "rampShare",
  "centerMomentum",
  "momentum.0",
  "momentum.1",
  "augmentation.flip",
  "augmentation.solarize",
  "augmentation.blur.0",
  "augmentation.blur.1",
  "augmentation.blur.2",
  "augmentation.jitter.probability",
  "augmentation.jitter.grayscale",
];

/**
 * Checks that a recipe fits an encoder and a data set.
 *
 * @param images number of images to learn from.
 * @throws ConfigError naming the first setting that does not.
 */
export function checkRecipe(
  recipe: DinoRecipe,
  config: Pick<VitConfig, "patchSize" | "maskToken" | "ropeTheta">,
  images: number,
): void {
  checkValues(recipe);
  const { batchSize, steps, localCrops, beta2, coordinateScale } = recipe;
  expect(Number.isInteger(batchSize) && batchSize >= 2, "batchSize must be at least 2", batchSize);
  expect(batchSize <= images, `batchSize must be at most the ${images} images`, batchSize);
  expect(Number.isInteger(steps) && steps >= 1, "steps must be at least 1", steps);
  expect(Number.isInteger(localCrops) && localCrops >= 0, "localCrops must be at least 0", localCrops);
  expect(beta2 >= 0 && beta2 < 1, "beta2 must be in [0, 1)", beta2);
  for (const key of ["globalSize", "localSize"] as const) expectSide(key, recipe[key], config.patchSize);
  for (const key of ["globalScale", "localScale"] as const) expectRange(key, recipe[key]);
  checkBlur(recipe);
  checkMasks(recipe, config);
  const rate = recipe.dropPath?.rate ?? 0;
  expect(rate >= 0 && rate < 1, "dropPath.rate must be in [0, 1)", rate);
  expect(coordinateScale >= 1, "coordinateScale must be at least 1", coordinateScale);
  const scalable = coordinateScale === 1 || config.ropeTheta !== undefined;
  expect(scalable, "coordinateScale must be 1 without rotary positions", coordinateScale);
  checkGram(recipe, config.patchSize);
}

function checkValues(recipe: DinoRecipe): void {
  const at = (path: string): unknown =>
    path.split(".").reduce((value: unknown, key) => (value as Record<string, unknown> | null)?.[key], recipe);
  for (const [path, choices] of Object.entries(CHOICES)) {
    if (at(path.split(".")[0]) === null) continue;
    expect(choices.includes(at(path)), `${path} must be one of ${choices.join(", ")}`, at(path));
  }
  const heads = recipe.patchHead === null ? ["head"] : ["head", "patchHead"];
  for (const head of heads) {
    for (const [key, choices] of Object.entries(HEAD_CHOICES)) {
      const value = at(`${head}.${key}`);
      expect(choices.includes(value), `${head}.${key} must be one of ${choices.join(", ")}`, value);
    }
    for (const path of COUNTS.map((path) => path.replace("head", head))) {
      const value = at(path) as number;
      expect(Number.isInteger(value) && value >= 1, `${path} must be a whole number of at least 1`, value);
    }
  }
  for (const path of POSITIVE) expect((at(path) as number) > 0, `${path} must be above 0`, at(path));
  for (const path of WEIGHTS) expect((at(path) as number) >= 0, `${path} must be at least 0`, at(path));
  const { contrast } = recipe;
  if (contrast) {
    expect(contrast.weight >= 0, "contrast.weight must be at least 0", contrast.weight);
    expect(contrast.temperature > 0, "contrast.temperature must be above 0", contrast.temperature);
  }
  for (const path of SHARES) {
    const value = at(path) as number;
    expect(value >= 0 && value <= 1, `${path} must be in [0, 1]`, value);
  }
}

function checkBlur(
  { augmentation: { blurKernel, blurSigma: [low, high] }, globalSize, localSize }: DinoRecipe,
): void {
  const most = blurKernel === "relative" ? 0.3 : Infinity;
  expect(
    low > 0 && low <= high && high <= most,
    `augmentation.blurSigma must be two rising numbers above 0${most < 1 ? ` and at most ${most}` : ""}`,
    `${low} and ${high}`,
  );
  const side = Math.min(globalSize, localSize);
  expect(
    blurKernel !== "torchvision" || side > 4,
    "crops must have more than 4 pixels a side to be blurred",
    side,
  );
}

function checkMasks(
  { masks, head, patchHead }: DinoRecipe,
  { maskToken }: Pick<VitConfig, "maskToken">,
): void {
  if (masks === null) return;
  expect(maskToken !== false, "masks must be null without a mask token", masks.kind);
  if (masks.kind === "scattered") {
    return expect(masks.ratio > 0 && masks.ratio < 1, "masks.ratio must be in (0, 1)", masks.ratio);
  }
  const { probability } = masks;
  expect(probability > 0 && probability <= 1, "masks.probability must be in (0, 1]", probability);
  expectRange("masks.ratio", masks.ratio);
  const settles = (patchHead ?? head).batchNorm, key = patchHead ? "patchHead" : "head";
  expect(!settles, `${key}.batchNorm must be false with masks of blocks`, settles);
}

function checkGram({ gram }: DinoRecipe, patchSize: number): void {
  if (gram === null) return;
  if (gram.cropSize !== null) expectSide("gram.cropSize", gram.cropSize, patchSize);
  const [first, every] = gram.refreshSteps;
  const whole = [first, every].every((value) => Number.isInteger(value) && value >= 1);
  expect(whole, "gram.refreshSteps must be two whole numbers of at least 1", `${first} and ${every}`);
  const { refreshes } = gram;
  expect(Number.isInteger(refreshes) && refreshes >= 0, "gram.refreshes must be at least 0", refreshes);
  expect(
    gram.weight.every((weight) => weight >= 0),
    "gram.weight must be at least 0",
    gram.weight.join(" and "),
  );
}

function expectSide(key: string, size: number, patchSize: number): void {
  expect(size > 0 && size % patchSize === 0, `${key} must be a multiple of ${patchSize}`, size);
}

function expectRange(key: string, [low, high]: readonly [number, number]): void {
  const rises = low > 0 && low <= high && high <= 1;
  expect(rises, `${key} must be two rising shares of the image in (0, 1]`, `${low} and ${high}`);
}

function expect(holds: boolean, wanted: string, got: unknown): void {
  if (!holds) throw new ConfigError(`Cannot train encoder: ${wanted}, got ${got}`);
}
