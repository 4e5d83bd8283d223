import { concatRows, ConfigError, type HostTensor } from "novae/tensor/mod.ts";
import type { CompiledAutoencoder } from "novae/autoencoder/mod.ts";
import type { Dataset, ImageFiles } from "novae/data/mod.ts";
import { writeLatents } from "novae/diffusion/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import { FeatureClassifier } from "novae/evaluation/mod.ts";
import { pathExists } from "novae/io/mod.ts";
import {
  classifierExtractor,
  decodedReference,
  encoderExtractor,
  type FeatureExtractor,
  FEWEST_SCORED,
  imageReference,
  LabelledImages,
  openDecoder,
  openTrainingLatents,
  SampleJudge,
  shippedModel,
  shortDataName,
  type TrainingLatents,
} from "novae/study/mod.ts";
import { autoencoderHash, openAutoencoder } from "./_autoencoder_file.ts";
import type { DiffusionFlags } from "./_diffusion_flags.ts";
import { validationOf } from "./_diffusion_settings.ts";
import { openImages } from "./_images.ts";
import { usualClassifier } from "./_measures.ts";

const WHAT = "Cannot train a diffusion transformer";

/** Latents and what decodes them, open. */
export interface Sources {
  readonly latents: TrainingLatents;
  readonly decoder: CompiledAutoencoder | undefined;
  /** The images, where they are at hand. */
  readonly images: Dataset | ImageFiles | undefined;
}

/** Collects what must be disposed of, last opened first. */
export class Opened {
  readonly #all: (() => Promise<void>)[] = [];

  /** Keeps it until `dispose`. */
  keep<T extends { dispose(): Promise<void> }>(part: T): T {
    this.#all.push(() => part.dispose());
    return part;
  }

  async dispose(): Promise<void> {
    for (const close of this.#all.reverse()) await close();
  }
}

/**
 * Opens latents, or encodes images, and the autoencoder that decodes samples, if there is one.
 *
 * @throws ConfigError if neither is named or they do not fit each other; DataError if they cannot be read.
 */
export async function openSources(
  flags: DiffusionFlags,
  device: DeviceName,
  opened: Opened,
): Promise<Sources> {
  if (flags.latents !== undefined) return await openStored(flags, flags.latents, device, opened);
  if (flags.autoencoder === undefined) {
    throw new ConfigError(
      "Cannot train: wanted --latents or an --autoencoder to encode images with, got none",
    );
  }
  return await encodeSources(flags, flags.autoencoder, device, opened);
}

async function openStored(
  flags: DiffusionFlags,
  path: string,
  device: DeviceName,
  opened: Opened,
): Promise<Sources> {
  const { space, classes, seed } = flags;
  const given = flags.autoencoder === undefined
    ? undefined
    : opened.keep(await openDecoder(flags.autoencoder, device));
  const latents = await openTrainingLatents(path, {
    ...{ space: space ?? given?.name, classes, seed, validation: validationOf(flags) },
    autoencoder: given?.hash,
  });
  opened.keep({ dispose: () => latents.close() });
  const shipped = given ? null : await shippedAutoencoder(latents);
  const decoder = given ?? (shipped === null ? undefined : opened.keep(await openDecoder(shipped, device)));
  if (decoder) expectShape(latents, decoder);
  const { data, path: where, count } = flags;
  const images = data === undefined || !decoder
    ? undefined
    : await openImages(WHAT, { data, path: where, count, split: "train" }, decoder.imageSize);
  return { latents, decoder, images };
}

/** The shipped autoencoder that made latents; null if none did. */
async function shippedAutoencoder({ record }: TrainingLatents): Promise<string | null> {
  const path = shippedModel(`ae-${record.space}-${shortDataName(record)}.safetensors`);
  if (record.autoencoder === null || !await pathExists(path)) return null;
  return await autoencoderHash(path) === record.autoencoder ? path : null;
}

function expectShape({ record }: TrainingLatents, { name, grid, channels }: CompiledAutoencoder): void {
  const [wanted, got] = [[name, grid ** 2, channels], [record.space, record.tokens, record.channels]];
  if (wanted.join() === got.join()) return;
  throw new ConfigError(
    `${WHAT}: space, tokens and channels of the latents must be ${
      wanted.join(", ")
    } as the autoencoder's, got ` +
      got.join(", "),
  );
}

/** Encodes all images into memory. */
async function encodeSources(
  flags: DiffusionFlags,
  path: string,
  device: DeviceName,
  opened: Opened,
): Promise<Sources> {
  const { autoencoder: decoder } = opened.keep(await openAutoencoder(WHAT, path, flags.encoder, device));
  const { data = "solids", path: where, count, classes, seed } = flags, { imageSize } = decoder;
  const images = await openImages(WHAT, { data, path: where, count, split: "train" }, imageSize);
  const parts: HostTensor[] = [];
  using labelled = new LabelledImages(images, { imageSize });
  for await (const batch of labelled.batches()) parts.push(await decoder.encode(batch.images));
  const encoded = { latents: concatRows(parts), labels: labelled.labels(), space: decoder.name };
  if (flags.saveLatents !== undefined) await writeLatents(flags.saveLatents, encoded);
  const latents = await openTrainingLatents(encoded, {
    ...{ classes, seed, validation: validationOf(flags), autoencoder: decoder.hash },
    images: { name: images.name, classes: images.classes },
  });
  return { latents, decoder, images };
}

/**
 * Opens what scores samples: a classifier, or the frozen encoder; undefined if there is neither, or nothing to score.
 *
 * @param settings samples of an evaluation, and reference images at most.
 * @throws ConfigError if the classifier takes images of another size; WeightsError if a file cannot be read.
 */
export async function openJudge(
  flags: DiffusionFlags,
  { latents, decoder, images }: Sources,
  { samples, references }: { readonly samples: number; readonly references: number },
  device: DeviceName,
  opened: Opened,
): Promise<SampleJudge | undefined> {
  if (!decoder || samples < FEWEST_SCORED) return undefined;
  const extractor = await openExtractor(flags, latents, decoder.imageSize, device, opened);
  if (!extractor) return undefined;
  const reference = images
    ? imageReference(images, { imageSize: decoder.imageSize, count: references })
    : decodedReference(latents, decoder, references);
  return new SampleJudge(extractor, reference);
}

async function openExtractor(
  { classifier: named, encoder }: DiffusionFlags,
  { record }: TrainingLatents,
  imageSize: number,
  device: DeviceName,
  opened: Opened,
): Promise<FeatureExtractor | undefined> {
  const path = named ?? usualClassifier(shortDataName(record), imageSize);
  if (path !== "") {
    const classifier = opened.keep(await FeatureClassifier.load(path, { device }));
    if (classifier.config.imageSize === imageSize) return classifierExtractor(classifier);
    throw new ConfigError(
      `Cannot score samples: the classifier must take images of ${imageSize} pixels, got one of ` +
        `${classifier.config.imageSize}`,
    );
  }
  if (encoder === undefined) return undefined;
  return encoderExtractor(opened.keep(await DinoEncoder.load(encoder, { device })));
}
