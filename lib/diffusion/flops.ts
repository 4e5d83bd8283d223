/**
 * Work of a diffusion transformer, counted from its configuration.
 *
 * @module
 */
import { flattenTree, sizeOf } from "novae/tensor/mod.ts";
import { type DitConfig, tokenGrid } from "./config.ts";
import { ditShapes, isShape } from "./dit_params.ts";
import type { AlignmentSettings } from "./training_settings.ts";

/**
 * Floating-point operations of one forward pass for one latent: two for each multiplication and addition in a matrix
 * product, of the linear maps and of the attention; elementwise work is not counted, which is a few per cent.
 *
 * *Source*: as in the "flop" counts of PaLM (Chowdhery et al., arXiv 2204.02311, appendix B), exact for the shapes here.
 */
export function forwardFlops(config: DitConfig): number {
  const tokens = tokenGrid(config) ** 2;
  let flops = 0;
  for (const { path, value } of flattenTree<readonly number[]>(ditShapes(config), isShape)) {
    if (value.length !== 2 || path.startsWith("labels")) continue;
    const once = path.startsWith("time") || path.startsWith("modulation");
    flops += 2 * sizeOf(value) * (once ? 1 : tokens);
  }
  for (const { depth, width } of [config, ...(config.head ? [config.head] : [])]) {
    flops += 4 * depth * tokens ** 2 * width;
  }
  return flops;
}

/**
 * Floating-point operations of training on one image: three times those of the forward pass, since the backward pass
 * takes two products for each of the forward's; with the projector where tokens are aligned. Attention or blocks that
 * are computed again in the backward pass do not count, as is usual for the utilisation of a model.
 */
export function trainingFlops(config: DitConfig, repa: AlignmentSettings | null = null): number {
  const tokens = tokenGrid(config) ** 2;
  const projector = repa
    ? 2 * tokens * (config.width * repa.hidden + repa.hidden ** 2 + repa.hidden * repa.features)
    : 0;
  return 3 * (forwardFlops(config) + projector);
}
