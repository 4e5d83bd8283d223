/**
 * How published weight files name the weights of the convolutional encoder and decoder.
 *
 * *Source*: the modules of CompVis/latent-diffusion (`ldm`), which taming-transformers, SVG and LightningDiT have too,
 * and `AutoencoderKL` of Hugging Face's diffusers.
 *
 * @module
 */
import { WeightsError } from "novae/tensor/mod.ts";

/** Whose names a file uses. */
export type VaeNaming = "ldm" | "diffusers";

/** Replacements of a naming, applied in turn to a path of ours. */
type Renames = readonly (readonly [RegExp, string])[];

/** What both namings have in common. */
const SHARED: Renames = [
  [/^encoder\.quantConv/, "quant_conv"],
  [/^decoder\.postQuantConv/, "post_quant_conv"],
  [/\.convIn\./, ".conv_in."],
  [/\.convOut\./, ".conv_out."],
];

const RENAMES: Readonly<Record<VaeNaming, Renames>> = {
  ldm: [
    ...SHARED,
    [/^projection$/, "linear_proj.weight"],
    [/\.normOut\./, ".norm_out."],
    [/\.mid\.block(\d)/, ".mid.block_$1"],
    [/\.mid\.attention\./, ".mid.attn_1."],
    [/^encoder\.levels\./, "encoder.down."],
    [/^decoder\.levels\./, "decoder.up."],
    [/\.blocks\./, ".block."],
    [/\.attentions\./, ".attn."],
    [/(\.attn(?:_|\.)\d+)\.query\./, "$1.q."],
    [/(\.attn(?:_|\.)\d+)\.key\./, "$1.k."],
    [/(\.attn(?:_|\.)\d+)\.value\./, "$1.v."],
    [/(\.attn(?:_|\.)\d+)\.proj\./, "$1.proj_out."],
    [/\.shortcut\./, ".nin_shortcut."],
    [/\.(down|up)sample\./, ".$1sample.conv."],
  ],
  diffusers: [
    ...SHARED,
    [/\.normOut\./, ".conv_norm_out."],
    [/\.mid\.block1\./, ".mid_block.resnets.0."],
    [/\.mid\.block2\./, ".mid_block.resnets.1."],
    [/\.mid\.attention\./, ".mid_block.attentions.0."],
    [/^encoder\.levels\./, "encoder.down_blocks."],
    [/^decoder\.levels\./, "decoder.up_blocks."],
    [/\.blocks\./, ".resnets."],
    [/(\.attentions\.\d+)\.norm\./, "$1.group_norm."],
    [/(\.attentions\.\d+)\.query\./, "$1.to_q."],
    [/(\.attentions\.\d+)\.key\./, "$1.to_k."],
    [/(\.attentions\.\d+)\.value\./, "$1.to_v."],
    [/(\.attentions\.\d+)\.proj\./, "$1.to_out.0."],
    [/\.shortcut\./, ".conv_shortcut."],
    [/\.(down|up)sample\./, ".$1samplers.0.conv."],
  ],
};

/**
 * The name in a file of a weight of ours.
 *
 * @param path ours, e.g. `decoder.levels.0.blocks.1.conv1.weight`.
 * @param levels number of levels of encoder and decoder: latent diffusion counts the decoder's from the image.
 */
export function foreignName(naming: VaeNaming, path: string, levels: number): string {
  const counted = naming === "ldm"
    ? path.replace(/^(decoder\.levels\.)(\d+)/, (_, start, level) => `${start}${levels - 1 - Number(level)}`)
    : path;
  return RENAMES[naming].reduce(
    (name, [pattern, replacement]) => name.replace(pattern, replacement),
    counted,
  );
}

/** Names of the attention's maps before diffusers 0.17, by the newer ones. */
const OLD_ATTENTION: Renames = [
  [/(\.attentions\.\d+)\.query\./, "$1.to_q."],
  [/(\.attentions\.\d+)\.key\./, "$1.to_k."],
  [/(\.attentions\.\d+)\.value\./, "$1.to_v."],
  [/(\.attentions\.\d+)\.proj_attn\./, "$1.to_out.0."],
];

/** Containers around the names of an autoencoder, and what it is called as a part of a larger model. */
const WRAPPERS = "(?:(?:state_dict|model|module|_orig_mod|first_stage_model|vae)\\.)";
const WRAPPED = new RegExp(`^${WRAPPERS}+(?=encoder\\.|decoder\\.|(?:post_)?quant_conv\\.|linear_proj\\.)`);

/** Other networks in files of autoencoders: of training, averages, and what else a larger model and its file have. */
const OTHER_MODULES = new RegExp(
  `^${WRAPPERS}*(?:(?:loss|foundation_model|model_ema|diffusion_model|cond_stage_model|conditioner|` +
    "optimizer_states|callbacks)\\.|\\w+$)",
);

/** Names of a file, brought to those of one naming. */
export interface VaeNames {
  /** Whose names they are. */
  readonly naming: VaeNaming;
  /** Name in the file by bare name. */
  readonly bare: ReadonlyMap<string, string>;
  /** Names of other networks in the file. */
  readonly others: readonly string[];
}

/**
 * Strips containers from the names of a file and tells whose they are.
 *
 * @throws WeightsError if they are of no such autoencoder, or two tensors get the same name.
 */
export function vaeNames(what: string, names: Iterable<string>): VaeNames {
  const bare = new Map<string, string>(), others: string[] = [];
  for (const name of names) {
    if (OTHER_MODULES.test(name)) {
      others.push(name);
      continue;
    }
    const short = OLD_ATTENTION.reduce(
      (text, [pattern, replacement]) => text.replace(pattern, replacement),
      name.replace(WRAPPED, ""),
    );
    const other = bare.get(short);
    if (other !== undefined) {
      throw new WeightsError(`${what}: ${short} must be there once, got ${other} and ${name}`);
    }
    bare.set(short, name);
  }
  if (bare.has("encoder.down.0.block.0.norm1.weight")) return { naming: "ldm", bare, others };
  if (bare.has("encoder.down_blocks.0.resnets.0.norm1.weight")) return { naming: "diffusers", bare, others };
  throw new WeightsError(
    `${what}: it must have encoder.down.0.block.0 (latent diffusion's names) or encoder.down_blocks.0.resnets.0 ` +
      "(diffusers'), got neither",
  );
}
