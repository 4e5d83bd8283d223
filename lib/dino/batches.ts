/**
 * The batches of a self-distillation as pure functions of the step.
 *
 * @module
 */
import { concatRows, ConfigError, type HostTensor, Rng } from "novae/tensor/mod.ts";
import {
  type CropViews,
  type CropWork,
  type Dataset,
  makeCrops,
  type MultiCropOptions,
} from "novae/data/mod.ts";
import type { VitConfig } from "./config.ts";
import type { DinoBatch } from "./distillation_state.ts";
import { drawPatchMasks } from "./patch_masks.ts";
import { type DinoRecipe, dinoSchedules } from "./recipe.ts";
import { checkRecipe } from "./recipe_check.ts";
import { drawCoordinateScales, drawPaths } from "./stochastic_depth.ts";

/**
 * The batches of a training as a function of the step: images in a new random order each epoch, their crops, masks and
 * dropped paths, and the values of the schedules.
 *
 * @returns the batch of a step counted from 0; a pure function of step and arguments.
 * @throws ConfigError if the recipe does not fit the encoder or the data.
 */
export function dinoBatches(
  dataset: Dataset,
  vit: VitConfig,
  recipe: DinoRecipe,
  seed: number,
  pictures: readonly Dataset[] = [],
): (step: number) => DinoBatch<HostTensor> {
  const complete = dinoBatchMaker(dataset, vit, recipe, seed),
    work = cropWork(dataset, recipe, seed, pictures);
  return (step) => complete(step, makeCrops(work(step)));
}

/**
 * The images of a step and how to crop them, as a function of the step.
 *
 * @param pictures further pictures of what the images show, index by index: each crop of an image is then of another
 * picture, as far as there are enough, in an order drawn anew each time.
 * @throws ConfigError if there are not as many further pictures as images.
 */
export function cropWork(
  dataset: Dataset,
  recipe: DinoRecipe,
  seed: number,
  pictures: readonly Dataset[] = [],
): (step: number) => CropWork {
  const odd = pictures.find(({ size, imageSize }) =>
    size !== dataset.size || imageSize !== dataset.imageSize
  );
  if (odd) {
    throw new ConfigError(
      `Cannot train encoder: further pictures must be ${dataset.size} of ${dataset.imageSize} pixels, got ` +
        `${odd.size} of ${odd.imageSize}`,
    );
  }
  const indices = imageOrder(new Rng(seed).split("order"), dataset.size, recipe.batchSize);
  const { globalSize, globalScale, localSize, localScale, localCrops: locals, augmentation } = recipe;
  const options: MultiCropOptions = {
    globalSize,
    globalScale,
    localSize,
    localScale,
    locals,
    baseSize: recipe.gram?.cropSize ?? undefined,
    ...augmentation,
  };
  const rng = new Rng(seed).split("pictures"), all = [dataset, ...pictures];
  return (step) => {
    const chosen = indices(step);
    const images = all.length === 1
      ? [dataset.images(chosen)]
      : picturesOfCrops(all, chosen, rng.split(step), 2 + locals);
    return { images, seed, labels: ["crops", step], options };
  };
}

/** One tensor a crop: image b of crop v is a picture of `indices[b]`, different ones for as many crops as there are. */
function picturesOfCrops(
  pictures: readonly Dataset[],
  indices: Int32Array,
  rng: Rng,
  crops: number,
): HostTensor[] {
  const orders = Array.from(indices, (_, b) => rng.split(b).permutation(pictures.length));
  return Array.from(
    { length: crops },
    (_, v) =>
      concatRows(Array.from(indices, (index, b) => pictures[orders[b][v % pictures.length]].images([index]))),
  );
}

/**
 * All of a batch but its crops, as a function of the step that takes these.
 *
 * @throws ConfigError if the recipe does not fit the encoder or the data.
 */
export function dinoBatchMaker(
  dataset: Dataset,
  vit: VitConfig,
  recipe: DinoRecipe,
  seed: number,
): (step: number, crops: CropViews) => DinoBatch<HostTensor> {
  checkRecipe(recipe, vit, dataset.size);
  const rng = new Rng(seed), schedules = dinoSchedules(recipe);
  const { batchSize, masks, globalSize, localCrops } = recipe, grid = globalSize / vit.patchSize;
  return (step, { globals, locals, bases }) => ({
    globals,
    ...(locals && { locals }),
    ...(bases && { gramCrops: bases }),
    ...(masks && drawPatchMasks(rng.split("masks", step), masks, batchSize, grid)),
    ...drawForBlocks(rng, step, recipe, vit.depth, 2 * batchSize, localCrops * batchSize),
    ...schedules(step),
  });
}

type BlockDraws = Pick<DinoBatch<HostTensor>, "globalPaths" | "localPaths" | "globalScales" | "localScales">;

/** Dropped paths and scaled coordinates of a step, for global and local crops. */
function drawForBlocks(
  rng: Rng,
  step: number,
  { dropPath, coordinateScale }: DinoRecipe,
  depth: number,
  globals: number,
  locals: number,
): BlockDraws {
  const paths = rng.split("paths", step), scales = rng.split("scales", step);
  const paired = <T>(draw: (kind: string, count: number) => T): [T, T | undefined] => [
    draw("globals", globals),
    locals > 0 ? draw("locals", locals) : undefined,
  ];
  const draws: BlockDraws = {};
  if (dropPath && dropPath.rate > 0) {
    const [ofGlobals, ofLocals] = paired((kind, count) =>
      drawPaths(paths.split(kind), dropPath, depth, count)
    );
    Object.assign(draws, { globalPaths: ofGlobals }, ofLocals && { localPaths: ofLocals });
  }
  if (coordinateScale > 1) {
    const [ofGlobals, ofLocals] = paired((kind) =>
      drawCoordinateScales(scales.split(kind), coordinateScale, depth)
    );
    Object.assign(draws, { globalScales: ofGlobals }, ofLocals && { localScales: ofLocals });
  }
  return draws;
}

/** Indices of the images of a step: each epoch is a permutation; its last, incomplete batch is left out. */
function imageOrder(rng: Rng, size: number, batchSize: number): (step: number) => Int32Array {
  const perEpoch = Math.floor(size / batchSize);
  let cached = -1, order = new Int32Array(0);
  return (step) => {
    const epoch = Math.floor(step / perEpoch), start = (step % perEpoch) * batchSize;
    if (epoch !== cached) {
      order = rng.split(epoch).permutation(size) as Int32Array<ArrayBuffer>;
      cached = epoch;
    }
    return order.slice(start, start + batchSize);
  };
}
