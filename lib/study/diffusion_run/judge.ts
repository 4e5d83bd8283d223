/**
 * The quick judge of a diffusion training: Fréchet distance of samples to reference images by one extractor.
 *
 * @module
 */
import type { HostTensor, Matrix } from "novae/tensor/mod.ts";
import { autoencoderFraming, denormalizeLatents } from "novae/autoencoder/mod.ts";
import { type Dataset, type ImageFiles, openImageViews } from "novae/data/mod.ts";
import { fidFromFeatures, FrechetReference, type FrechetResult } from "novae/evaluation/mod.ts";
import { hashValue } from "novae/io/mod.ts";
import { agreement, type FeatureExtractor, inChunks, joinFeatures, toBytes } from "../feature_extractor.ts";
import { shortDataName, type TrainingLatents } from "./latents.ts";
import type { SampleDecoder } from "./samples.ts";

/** Images that are in memory as floats at once. */
const CHUNK = 256;
/** Samples that the jackknife of the Fréchet distance needs. */
export const FEWEST_SCORED = 20;

/** Images that samples are compared with. */
export interface ReferenceImages {
  /** What they are, for people: "images of solids/train". */
  readonly name: string;
  /** Hash that identifies them. */
  readonly hash: string;
  /** How many. */
  readonly count: number;
  /** All of them, [B, H, W, 3] in [0, 1]. */
  batches(): AsyncIterable<HostTensor>;
}

/** What judged, as it is kept with each score. */
export interface JudgeRecord {
  /** Kind of the extractor. */
  readonly extractor: FeatureExtractor["name"];
  /** Hash of the extractor. */
  readonly extractorHash: string;
  /** What samples are compared with. */
  readonly reference: string;
  /** Hash of the reference images. */
  readonly referenceHash: string;
  /** Number of reference images. */
  readonly references: number;
}

/** The score of a set of samples. */
export interface JudgedSamples {
  /** Distance to the reference images. */
  readonly frechet: FrechetResult;
  /** Share of samples that the classifier gives the class they were asked for; null where classes are not the same. */
  readonly accuracy: number | null;
}

/** Images of a data set, spread evenly over it, as references. */
export function imageReference(
  source: Dataset | ImageFiles,
  { imageSize, count }: { readonly imageSize: number; readonly count: number },
): ReferenceImages {
  const indices = spread(source.size, count), whole = indices.length === source.size;
  return {
    name: `images of ${source.name}`,
    hash: whole ? source.hash : hashValue({ images: source.hash, count: indices.length }),
    count: indices.length,
    async *batches() {
      using views = openImageViews(source, { framing: autoencoderFraming(imageSize) });
      for (const chunk of chunksOf(indices)) {
        yield await views.load(chunk.map((index) => ({ index, mirrored: false, place: null })));
      }
    },
  };
}

/**
 * What the decoder makes of the training latents, as references where the images are not at hand: distances to them say
 * nothing of the autoencoder's own errors.
 */
export function decodedReference(
  { train, stats, record }: TrainingLatents,
  decoder: SampleDecoder,
  count: number,
): ReferenceImages {
  const indices = spread(train.shape[0], count);
  return {
    name: `decoded latents of ${shortDataName(record)}`,
    hash: hashValue({ ...record, decoder: decoder.hash, count: indices.length }),
    count: indices.length,
    async *batches() {
      for (const chunk of chunksOf(indices)) {
        const zBNZ = await train.read(Int32Array.from(chunk), new Uint8Array(chunk.length));
        yield await decoder.decode(denormalizeLatents(zBNZ, stats));
      }
    },
  };
}

/** Scores samples; the features of the reference images are extracted with the first score. */
export class SampleJudge {
  /** What judges. */
  readonly record: JudgeRecord;
  readonly #extractor: FeatureExtractor;
  readonly #images: ReferenceImages;
  #reference: Promise<FrechetReference> | undefined;

  /** The extractor is not disposed with the judge. */
  constructor(extractor: FeatureExtractor, images: ReferenceImages) {
    this.#extractor = extractor;
    this.#images = images;
    this.record = {
      extractor: extractor.name,
      extractorHash: extractor.hash,
      reference: images.name,
      referenceHash: images.hash,
      references: images.count,
    };
  }

  /**
   * Scores samples.
   *
   * @param imageUnitBHWC at least {@linkcode FEWEST_SCORED} images.
   * @param labels classes they were asked for.
   * @param classNames names of these classes; null where they are not known.
   */
  async score(
    imageUnitBHWC: HostTensor,
    labels: Int32Array,
    classNames: readonly string[] | null,
  ): Promise<JudgedSamples> {
    const features: Matrix[] = [], predictions: number[] = [];
    for (const chunk of inChunks(imageUnitBHWC, CHUNK)) {
      const extracted = await this.#extractor.extract(toBytes(chunk));
      features.push(extracted.features);
      predictions.push(...extracted.predictions ?? []);
    }
    const known = classNames !== null && this.#extractor.classes?.join() === classNames.join();
    return {
      frechet: fidFromFeatures(joinFeatures(features), await this.#referenceFeatures(), {
        extractor: this.record.extractorHash,
        reference: this.record.referenceHash,
      }),
      accuracy: known ? agreement(predictions, labels) : null,
    };
  }

  #referenceFeatures(): Promise<FrechetReference> {
    return this.#reference ??= (async () => {
      const features: Matrix[] = [];
      for await (const images of this.#images.batches()) {
        features.push((await this.#extractor.extract(toBytes(images))).features);
      }
      return FrechetReference.of(joinFeatures(features));
    })();
  }
}

/** At most `count` of `size` indices, evenly spread. */
function spread(size: number, count: number): number[] {
  const taken = Math.min(size, count);
  return Array.from({ length: taken }, (_, i) => Math.floor(i * size / taken));
}

function* chunksOf(indices: readonly number[]): Generator<number[]> {
  for (let start = 0; start < indices.length; start += CHUNK) yield indices.slice(start, start + CHUNK);
}
