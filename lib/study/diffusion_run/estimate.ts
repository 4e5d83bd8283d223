/**
 * What a diffusion training will take, known before it starts.
 *
 * @module
 */
import { countParameters, type DitConfig, tokenGrid } from "novae/diffusion/mod.ts";
import type { DiffusionRunConfig } from "./config.ts";

/** What the runtime and the compiled graphs take. */
const BASE_BYTES = 0.5e9;
/** Copies of the parameters: weights, their average and two means of the optimiser, each before and after an update, and the gradient. */
const COPIES = 9;
/** Values that a block keeps of each token for the gradient, as multiples of its width, beside its attention. */
const KEPT_WIDTHS = 30;

/**
 * Memory of a training in bytes, roughly: parameters with their copies, and what the gradient needs of a batch.
 *
 * @param batchSize images whose gradients are taken at once.
 */
export function trainingBytes(model: DitConfig, batchSize: number): number {
  const { learned } = countParameters(model), tokens = tokenGrid(model) ** 2;
  const blocks = [model, ...(model.head ? [model.head] : [])];
  const kept = blocks.reduce(
    (sum, { width, depth, heads }) => sum + depth * tokens * (KEPT_WIDTHS * width + 3 * heads * tokens),
    0,
  );
  return BASE_BYTES + 4 * (COPIES * learned + batchSize * kept);
}

/** The resolved configuration, the parameter count and a memory estimate, for `--dry-run`. */
export function describeRun(config: DiffusionRunConfig): string {
  const { model, training } = config, { learned, total } = countParameters(model);
  const gigabytes = trainingBytes(model, training.batchSize / training.accumulation) / 1e9;
  return [
    JSON.stringify(config, null, 2),
    `${learned.toLocaleString("en")} learned parameters (${total.toLocaleString("en")} with fixed tables), ` +
    `${Math.ceil(training.images / training.batchSize).toLocaleString("en")} updates`,
    `about ${gigabytes.toFixed(1)} GB of memory to train with`,
  ].join("\n");
}
