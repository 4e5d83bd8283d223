/**
 * Scores sets of images by two feature extractors: a classifier that shares no weights with any latent space, and
 * the DINO encoder.
 *
 * @module
 */
import { asMatrix, concatRows, type HostTensor, type Matrix, rows } from "novae/tensor/mod.ts";
import type { DinoEncoder, DinoFeatures } from "novae/dino/mod.ts";
import { type FeatureClassifier, fidFromFeatures, FrechetReference } from "novae/evaluation/mod.ts";
import { CHUNK, type EncodedImages } from "./encoded_images.ts";
import type { FrechetPair } from "./results.ts";

/** Images with a way to their DINO features. */
interface Chunk {
  readonly start: number;
  readonly images: HostTensor;
  features(): Promise<DinoFeatures>;
}

/** Features and class probabilities of a set of images. */
export interface ImageFeatures {
  /** Pooled features of the classifier [n, d]. */
  readonly classifier: Matrix;
  /** Class tokens of the encoder [n, D]. */
  readonly dino: Matrix;
  /** Most probable class of each by the classifier. */
  readonly predictions: Int32Array;
}

/** Features of real images to compare with, prepared for many comparisons. */
export interface ScoreReference {
  /** By the classifier. */
  readonly classifier: FrechetReference;
  /** By the encoder. */
  readonly dino: FrechetReference;
  /** Hash of the images. */
  readonly hash: string;
}

/** Extracts features of images and compares them with those of real ones. */
export class Scorer {
  readonly #classifier: FeatureClassifier;
  readonly #encoder: DinoEncoder;

  /** The extractors are not disposed with the scorer. */
  constructor(classifier: FeatureClassifier, encoder: DinoEncoder) {
    this.#classifier = classifier;
    this.#encoder = encoder;
  }

  /**
   * Features of images in memory.
   *
   * @param imageUnitBHWC pixels in [0, 1]; they are rounded to 8 bits, as a file would hold them.
   */
  async features(imageUnitBHWC: HostTensor): Promise<ImageFeatures> {
    const count = imageUnitBHWC.shape[0], encoder = this.#encoder;
    function* chunks(): Generator<Chunk> {
      for (let start = 0; start < count; start += CHUNK) {
        const images = toBytes(rows(imageUnitBHWC, start, Math.min(start + CHUNK, count)));
        yield { start, images, features: () => encoder.features(images) };
      }
    }
    return await this.#collect(count, chunks());
  }

  /** Features of a whole data set. */
  async datasetFeatures(encoded: EncodedImages): Promise<ImageFeatures> {
    return await this.#collect(encoded.dataset.size, encoded.chunks());
  }

  /** Prepares features as a reference. */
  reference(features: ImageFeatures, hash: string): ScoreReference {
    return {
      classifier: FrechetReference.of(features.classifier),
      dino: FrechetReference.of(features.dino),
      hash,
    };
  }

  /** Fréchet distances of images to a reference. */
  frechet(features: ImageFeatures, reference: ScoreReference): FrechetPair {
    return {
      classifier: fidFromFeatures(features.classifier, reference.classifier, {
        extractor: this.#classifier.hash,
        reference: reference.hash,
      }),
      dino: fidFromFeatures(features.dino, reference.dino, {
        extractor: this.#encoder.hash,
        reference: reference.hash,
      }),
    };
  }

  async #collect(count: number, chunks: Iterable<Chunk>): Promise<ImageFeatures> {
    const classifier: HostTensor[] = [], dino: HostTensor[] = [], predictions = new Int32Array(count);
    for (const chunk of chunks) {
      const { features, probabilities } = await this.#classifier.run(chunk.images);
      classifier.push(asTensor(features));
      predictions.set(argmaxRows(probabilities), chunk.start);
      dino.push((await chunk.features()).clsBD);
    }
    return { classifier: asMatrix(concatRows(classifier)), dino: asMatrix(concatRows(dino)), predictions };
  }
}

/** Share of predictions that equal the labels. */
export function agreement(predictions: ArrayLike<number>, labels: ArrayLike<number>): number {
  let same = 0;
  for (let i = 0; i < predictions.length; i++) if (predictions[i] === labels[i]) same++;
  return same / predictions.length;
}

function asTensor({ data, rows, cols }: Matrix): HostTensor {
  return { dtype: "float32", shape: [rows, cols], data: Float32Array.from(data) };
}

function argmaxRows({ data, rows, cols }: Matrix): Int32Array {
  return Int32Array.from({ length: rows }, (_, r) => {
    let best = 0;
    for (let c = 1; c < cols; c++) if (data[r * cols + c] > data[r * cols + best]) best = c;
    return best;
  });
}

/** Pixels as an 8-bit file would hold them. */
export function toBytes(imageUnit: HostTensor): HostTensor {
  const data = new Float32Array(imageUnit.data.length);
  for (let i = 0; i < data.length; i++) {
    data[i] = Math.round(255 * Math.min(Math.max(imageUnit.data[i], 0), 1)) / 255;
  }
  return { ...imageUnit, data };
}
