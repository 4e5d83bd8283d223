/**
 * How SVG's released checkpoints name and lay out the weights of an autoencoder.
 *
 * *Source*: `DinoDecoder` of shiml20/SVG at fd69855: the residual encoder has the names of torchvision's
 * `VisionTransformer`, the decoder those of latent diffusion.
 *
 * @module
 */
import { float32, type HostTensor } from "novae/tensor/mod.ts";
import { convFromPytorch, linearFromPytorch } from "novae/nn/mod.ts";

/** Prefix of the frozen encoder, which has Meta's names. */
export const ENCODER_PREFIX = "encoder.";
/** Prefix of the residual encoder; its mask token stands beside it. */
export const RESIDUAL_PREFIX = "extra_vit.";

/**
 * What a checkpoint holds beside the autoencoder: the training's perceptual network, discriminator and log-variance,
 * and a normalisation that nothing uses.
 */
export const UNUSED_NAMES: RegExp =
  /^(loss\.(logvar$|perceptual_loss\.|discriminator\.)|norm_vit\.(weight|bias)$)/;

/** Renamings of our paths, from the left; `#` of a pattern stands for a number. */
const RENAMINGS: readonly (readonly [ours: string, theirs: string])[] = [
  ["residual.patch.", "extra_vit.conv_proj."],
  ["residual.classToken", "extra_vit.class_token"],
  ["residual.positions", "extra_vit.encoder.pos_embedding"],
  ["residual.maskToken", "mask_token"],
  ["residual.norm.", "extra_vit.encoder.ln."],
  ["residual.head.fc1.", "extra_vit.heads.0."],
  ["residual.head.fc2.", "extra_vit.heads.2."],
  ["residual.blocks.#.norm1.", "extra_vit.encoder.layers.encoder_layer_#.ln_1."],
  ["residual.blocks.#.norm2.", "extra_vit.encoder.layers.encoder_layer_#.ln_2."],
  ["residual.blocks.#.attention.qkv.", "extra_vit.encoder.layers.encoder_layer_#.self_attention.in_proj_"],
  ["residual.blocks.#.attention.proj.", "extra_vit.encoder.layers.encoder_layer_#.self_attention.out_proj."],
  ["residual.blocks.#.mlp.fc1.", "extra_vit.encoder.layers.encoder_layer_#.mlp.0."],
  ["residual.blocks.#.mlp.fc2.", "extra_vit.encoder.layers.encoder_layer_#.mlp.3."],
  ["decoder.convIn.", "decoder.conv_in."],
  ["decoder.normOut.", "decoder.norm_out."],
  ["decoder.convOut.", "decoder.conv_out."],
  ["decoder.mid.block#.", "decoder.mid.block_#."],
  ["decoder.mid.attention.", "decoder.mid.attn_1."],
  ["decoder.levels.#.upsample.", "decoder.up.#.upsample.conv."],
  ["decoder.levels.#.blocks.#.", "decoder.up.#.block.#."],
  ["decoder.levels.#.attentions.#.", "decoder.up.#.attn.#."],
];

/** Parts of residual blocks and attentions of the decoder. */
const PARTS: Readonly<Record<string, string>> = {
  shortcut: "nin_shortcut",
  query: "q",
  key: "k",
  value: "v",
  proj: "proj_out",
};

/**
 * The name of a weight in a checkpoint.
 *
 * @param path ours, e.g. `decoder.levels.0.blocks.1.conv1.weight`.
 * @param levels number of levels of the decoder, which latent diffusion counts from the image.
 * @throws RangeError if the released models have no such weight.
 */
export function publishedName(path: string, levels: number): string {
  for (const [ours, theirs] of RENAMINGS) {
    const pattern = ours.replaceAll(".", "\\.").replaceAll("#", "(\\d+)");
    const [matched, ...numbers] = new RegExp(`^${pattern}`).exec(path) ?? [];
    if (matched === undefined) continue;
    if (ours.startsWith("decoder.levels.")) numbers[0] = String(levels - 1 - Number(numbers[0]));
    const start = theirs.replaceAll("#", () => numbers.shift()!), rest = path.slice(matched.length);
    return start + (path.startsWith("decoder.") ? inDecoder(rest) : rest);
  }
  throw new RangeError(`Cannot name a weight of a released autoencoder: there is no ${path}`);
}

function inDecoder(rest: string): string {
  const [part, ...more] = rest.split(".");
  return [Object.hasOwn(PARTS, part) ? PARTS[part] : part, ...more].join(".");
}

/**
 * The shape of a weight in a checkpoint.
 *
 * @param path ours.
 * @param shape ours.
 */
export function publishedShape(path: string, shape: readonly number[]): readonly number[] {
  if (path === "residual.patch.weight") {
    const side = Math.sqrt(shape[0] / 3);
    return [shape[1], 3, side, side];
  }
  if (path === "residual.maskToken") return [1, shape[2], 1];
  if (shape.length === 4) return [shape[3], shape[2], shape[0], shape[1]];
  return shape.length === 2 ? shape.toReversed() : shape;
}

/**
 * A weight of a checkpoint in our layout.
 *
 * @param tensor of the shape of {@linkcode publishedShape}.
 * @param shape ours.
 */
export function fromPublished(tensor: HostTensor, shape: readonly number[]): HostTensor {
  const rank = tensor.shape.length;
  const turned = rank === 4 ? convFromPytorch(tensor) : rank === 2 ? linearFromPytorch(tensor) : tensor;
  return float32(turned.data as Float32Array, shape); // the patch's kernel becomes a map, the mask token lies down
}
