/**
 * Features in shards as the training of an autoencoder needs them.
 *
 * @module
 */
import { ConfigError } from "novae/tensor/mod.ts";
import { canonicalJson } from "novae/io/mod.ts";
import {
  type Dataset,
  type Framing,
  type ImageFiles,
  isImageFiles,
  planFrame,
  type ShardStore,
} from "novae/data/mod.ts";
import type { FrozenEncoder } from "./compiled.ts";
import { type AutoencoderConfig, latentGrid } from "./config.ts";

/** Names of the patch features of an image and of its mirror image. */
export const FEATURES = "patches", MIRRORED_FEATURES = "mirrored.patches";

/** What a training needs of shards. */
export interface WantedFeatures {
  /** The images. */
  readonly images: Dataset | ImageFiles;
  /** How image files are cut. */
  readonly framing: Framing;
  /** Settings of the autoencoder. */
  readonly config: AutoencoderConfig;
  /** Whose features. */
  readonly encoder: FrozenEncoder;
  /** Whether those of mirror images are needed. */
  readonly flip: boolean;
}

/** The part of the configuration of extracted features that is compared. */
interface FeatureConfig {
  readonly kind?: string;
  readonly encoder?: { readonly hash: string };
  readonly data?: { readonly name: string; readonly hash: string };
  readonly preprocessing?: Framing;
}

/**
 * Checks that shards hold the features that a training needs: of these images, cut like this, by this encoder.
 *
 * @throws ConfigError saying what differs and how to extract them.
 */
export function expectFeatureShards(store: ShardStore, wanted: WantedFeatures): void {
  const { images, encoder, config, flip } = wanted, found = store.config as FeatureConfig | null;
  const fail = (message: string) => new ConfigError(`Cannot train with these features: ${message}`);
  const short = (hash: string | undefined) => hash === undefined ? "none" : `${hash.slice(0, 12)}…`;
  if (found?.kind !== "dino-features") {
    throw fail(`a folder of \`novae extract\` is needed, got ${found?.kind ?? "other shards"}`);
  }
  if (found.encoder?.hash !== encoder.hash) {
    throw fail(`they must be of encoder ${short(encoder.hash)}, got ${short(found.encoder?.hash)}`);
  }
  if (found.data?.hash !== images.hash || store.count !== images.size) {
    throw fail(
      `they must be of ${images.size} images of ${images.name} (${
        short(images.hash)
      }), got ${store.count} of ${found.data?.name ?? "another data set"} (${short(found.data?.hash)})`,
    );
  }
  if (!sameFraming(found.preprocessing, wanted)) {
    throw fail(`the encoder must have seen the images at ${config.imageSize} pixels, cut as in the training`);
  }
  const shape = [latentGrid(config) ** 2, config.featureChannels].join(", ");
  for (const name of flip ? [FEATURES, MIRRORED_FEATURES] : [FEATURES]) {
    const got = store.tensors[name]?.shape.join(", ");
    if (got === shape) continue;
    const hint = got === undefined
      ? `none${name === MIRRORED_FEATURES ? "; extract with --flip" : ""}`
      : `[${got}]`;
    throw fail(`tensor "${name}" must be of shape [${shape}], got ${hint}`);
  }
}

function sameFraming(found: Framing | undefined, { images, framing, config }: WantedFeatures): boolean {
  if (found === undefined) return false;
  if (isImageFiles(images)) {
    const { resize, filter, bytes, crop } = found;
    return canonicalJson({ resize, filter, bytes, crop }) === canonicalJson(framing);
  }
  const side = config.imageSize, square = { height: images.imageSize, width: images.imageSize };
  if (images.imageSize !== side) return false;
  try {
    const { resized, crop } = planFrame(square, found);
    return [resized.height, resized.width, crop.height, crop.width].every((extent) => extent === side);
  } catch (error) {
    if (error instanceof RangeError) return false; // its crop is larger than these images
    throw error;
  }
}
