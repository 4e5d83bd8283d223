/**
 * The networks of the latent spaces as pure functions over one tree of parameters.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { flattenTree, type HostTensor, isHostTensor, mapTree, type Rng, sizeOf } from "novae/tensor/mod.ts";
import { initConv } from "novae/nn/mod.ts";
import { type AutoencoderConfig, latentChannels, latentGrid } from "./config.ts";
import { decodeLatents, type DecoderParams, initDecoder } from "./decoder.ts";
import { initResidualEncoder, type ResidualEncoderParams } from "./svg/mod.ts";
import { type ConvEncoderParams, initConvEncoder, initProjection } from "./vae/mod.ts";

/** Parameters of an autoencoder: the decoder, and what the space has beside it. */
export interface AutoencoderParams<T = tf.Tensor> {
  /** The decoder, which all spaces have. */
  decoder: DecoderParams<T>;
  /** The encoder of `vae` and `va-vae`. */
  encoder?: ConvEncoderParams<T>;
  /** The residual encoder of `svg`, `svg-noalign` and `residual`. */
  residual?: ResidualEncoderParams<T>;
  /** `[Z, D]`: maps latents to the features' width in the training of the `va-vae`. */
  projection?: T;
}

/**
 * New parameters. The decoders of all spaces start with the same values, up to their first convolution.
 *
 * @param rng stream of the initial values.
 */
export function initAutoencoder(rng: Rng, config: AutoencoderConfig): AutoencoderParams<HostTensor> {
  const channels = latentChannels(config), grid = latentGrid(config);
  const params: AutoencoderParams<HostTensor> = {
    decoder: initDecoder(rng.split("decoder"), config.decoder, channels),
  };
  if (config.vae) {
    params.encoder = initConvEncoder(rng.split("encoder"), config.decoder, channels, config.vae);
    if (config.vae.quantConvs) {
      params.decoder.postQuantConv = initConv(rng.split("postQuantConv"), 1, channels, channels);
    }
    if (config.vae.featureMatching) {
      params.projection = initProjection(rng.split("projection"), channels, config.featureChannels);
    }
  }
  if (config.residual) {
    params.residual = initResidualEncoder(
      rng.split("residual"),
      config.residual,
      config.patchSize,
      grid ** 2,
    );
  }
  return params;
}

/** Number of values in a tree of parameters. */
export function countParameters(params: unknown): number {
  return flattenTree<HostTensor>(params, isHostTensor).reduce(
    (sum, { value }) => sum + sizeOf(value.shape),
    0,
  );
}

/** Parameters rounded to 16-bit floats, as a weight file holds them, so that what is measured is what is stored. */
export function roundToHalf<P>(params: P): P {
  return mapTree<P>(params, isHostTensor, (leaf) => {
    const { dtype, shape, data } = leaf as HostTensor;
    return { dtype, shape, data: new Float32Array(new Float16Array(data)) };
  });
}

/** Pixels in [0, 1] to [−1, 1], the range the networks see and give. */
export function imageSignedFromUnit(imageUnit: tf.Tensor): tf.Tensor {
  return tf.sub(tf.mul(imageUnit, 2), 1);
}

/** Pixels in [−1, 1] to [0, 1], clipped. */
export function imageUnitFromSigned(imageSigned: tf.Tensor): tf.Tensor {
  return tf.clipByValue(tf.mul(tf.add(imageSigned, 1), 0.5), 0, 1);
}

/**
 * Decodes latent tokens.
 *
 * @param zBNZ `[B, N, Z]`, N a square number.
 * @param groups of the decoder's normalisations, as in its settings.
 * @returns `imageSigned` `[B, H, W, 3]`, not clipped.
 */
export function decodeTokens(zBNZ: tf.Tensor, params: DecoderParams, groups?: number): tf.Tensor4D {
  return decodeLatents(tokenGrid(zBNZ), params, groups);
}

/** Latent tokens `[B, N, Z]` in their grid, `[B, I, J, Z]` with I = J = √N. */
export function tokenGrid(zBNZ: tf.Tensor): tf.Tensor {
  const [batch, tokens, channels] = zBNZ.shape;
  const grid = Math.sqrt(tokens);
  return tf.reshape(zBNZ, [batch, grid, grid, channels]);
}
