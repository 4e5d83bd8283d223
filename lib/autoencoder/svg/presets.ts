/**
 * The paper's autoencoder with every published setting, as plain data.
 *
 * *Source*: shiml20/SVG at fd69855 (`autoencoder/configs/example_svg_autoencoder_vitsp.yaml`, `ldm/models/dino_decoder.py`,
 * `ldm/modules/losses/contperceptual_decoder.py`) and the parts of taming-transformers and torchvision it uses.
 *
 * @module
 */
import { ConfigError } from "novae/tensor/mod.ts";
import type { VitSize } from "novae/dino/mod.ts";
import type { AutoencoderConfig } from "../config.ts";
import { namedAutoencoder } from "../sizes.ts";

/** A discriminator of image patches, and when and how it takes part. */
export interface PublishedDiscriminator {
  /** Channels of its first layer. */
  readonly channels: number;
  /** Its layers of stride 2. */
  readonly layers: number;
  /** Rows and columns of its kernels. */
  readonly kernel: number;
  /** Normalisation between its layers. */
  readonly normalization: "batch";
  /** Slope of its activations below 0. */
  readonly leak: number;
  /** Standard deviation of its initial kernels. */
  readonly initStd: number;
  /** Its own loss; that of the decoder is the negative mean of its verdicts. */
  readonly loss: "hinge";
  /** Weight of the decoder's adversarial loss, beside the adaptive one. */
  readonly weight: number;
  /** Added to the gradient's norm in the adaptive weight, which is the ratio of norms at the last convolution. */
  readonly adaptiveEps: number;
  /** Largest adaptive weight. */
  readonly adaptiveLimit: number;
  /** Training images after which the discriminator learns. */
  readonly startImages: number;
  /** Training images after which the decoder heeds it. */
  readonly decoderStartImages: number;
}

/** How the published autoencoder was trained. */
export interface PublishedTraining {
  /** Images an update, over all devices. */
  readonly batchSize: number;
  /** Devices; the alignment's statistics are those of each device's own images. */
  readonly devices: number;
  /** Runs through the data that the settings allow. */
  readonly epochs: number;
  /** The epoch, counted from 0, whose weights the published diffusion transformers were trained on. */
  readonly releasedEpoch: number;
  /** Number format of the computation. */
  readonly precision: "float32";
  /** Of decoder, residual encoder and mask token together, and once more of the discriminator. */
  readonly optimizer: {
    readonly kind: "adam";
    readonly learningRate: number;
    readonly beta1: number;
    readonly beta2: number;
    readonly eps: number;
    readonly weightDecay: number;
  };
  /** The step size stays as it is, whatever the batch size. */
  readonly schedule: "constant";
  /** Largest norm of the gradients; null: they are not clipped. */
  readonly maxGradientNorm: number | null;
  /** Decay of a moving average of the weights; null: there is none. */
  readonly emaDecay: number | null;
  /** What happens to training images; validation takes the centre instead of a random crop. */
  readonly augmentation: { readonly smallestSide: number; readonly crop: "random"; readonly flip: boolean };
  /** Weight of the absolute difference, summed over an image's values. */
  readonly l1Weight: number;
  /** Weight of LPIPS, which is added to the difference of every value and so summed as often as they are. */
  readonly lpipsWeight: number;
  /** Network of LPIPS. */
  readonly lpipsTrunk: "vgg16";
  /** The adversarial part. */
  readonly discriminator: PublishedDiscriminator;
}

/** A published autoencoder: its frozen encoder, its settings, how it was trained. */
export interface SvgPreset {
  /** The frozen encoder's repository on the model hub, to which access must be asked for. */
  readonly encoder: string;
  /** The frozen encoder's size. */
  readonly encoderSize: VitSize;
  /** Networks and latents. */
  readonly model: AutoencoderConfig;
  /** Training. */
  readonly training: PublishedTraining;
}

const BATCH_SIZE = 512;

/** Names of {@linkcode SVG_PRESETS}. */
export type SvgPresetName = "svg-vits16plus-256";

/**
 * The published autoencoders by name.
 *
 * *Differs* from what SVG's settings seem to say:
 * - the discriminator is to start at step 5001, but the steps of both optimisers are counted: it learns from update
 *   2,500 on and the decoder heeds it from update 2,501 on, both counted from 0;
 * - a logarithm of the variance divides the reconstruction loss, but no optimiser has it: it stays 0, and is left out;
 * - `embed_dim: 32` serves a normalisation that nothing uses and `double_z: true` nothing at all: both are left out.
 */
export const SVG_PRESETS: Readonly<Record<SvgPresetName, SvgPreset>> = {
  "svg-vits16plus-256": {
    encoder: "facebook/dinov3-vits16plus-pretrain-lvd1689m",
    encoderSize: "dinov3-vits16plus",
    model: namedAutoencoder("published", {
      space: "svg",
      imageSize: 256,
      patchSize: 16,
      featureChannels: 384,
    }),
    training: {
      batchSize: BATCH_SIZE,
      devices: 8,
      epochs: 1000,
      releasedEpoch: 40,
      precision: "float32",
      optimizer: { kind: "adam", learningRate: 1e-4, beta1: 0.5, beta2: 0.9, eps: 1e-8, weightDecay: 0 },
      schedule: "constant",
      maxGradientNorm: null,
      emaDecay: null,
      augmentation: { smallestSide: 256, crop: "random", flip: false },
      l1Weight: 1,
      lpipsWeight: 1,
      lpipsTrunk: "vgg16",
      discriminator: {
        channels: 64,
        layers: 3,
        kernel: 4,
        normalization: "batch",
        leak: 0.2,
        initStd: 0.02,
        loss: "hinge",
        weight: 0.5,
        adaptiveEps: 1e-4,
        adaptiveLimit: 1e4,
        startImages: 2500 * BATCH_SIZE,
        decoderStartImages: 2501 * BATCH_SIZE,
      },
    },
  },
};

/**
 * A published autoencoder.
 *
 * @throws ConfigError if there is none of this name, listing those that there are.
 */
export function svgPreset(name: string): SvgPreset {
  if (Object.hasOwn(SVG_PRESETS, name)) return SVG_PRESETS[name as SvgPresetName];
  throw new ConfigError(
    `Cannot find autoencoder: preset must be one of ${Object.keys(SVG_PRESETS).join(", ")}, got ${name}`,
  );
}
