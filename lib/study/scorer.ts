/**
 * Scores sets of images by two feature extractors: a classifier that shares no weights with any latent space, and
 * the DINO encoder.
 *
 * @module
 */
import { asMatrix, concatRows, type HostTensor, type Matrix } from "novae/tensor/mod.ts";
import type { DinoEncoder, DinoFeatures } from "novae/dino/mod.ts";
import { type FeatureClassifier, fidFromFeatures, FrechetReference } from "novae/evaluation/mod.ts";
import { CHUNK, type EncodedImages } from "./encoded_images.ts";
import {
  classifierExtractor,
  type FeatureExtractor,
  inChunks,
  joinFeatures,
  toBytes,
} from "./feature_extractor.ts";
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
  readonly #classifier: FeatureExtractor;
  readonly #encoder: DinoEncoder;

  /** The extractors are not disposed with the scorer. */
  constructor(classifier: FeatureClassifier, encoder: DinoEncoder) {
    this.#classifier = classifierExtractor(classifier);
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
      let start = 0;
      for (const chunk of inChunks(imageUnitBHWC, CHUNK)) {
        const images = toBytes(chunk);
        yield { start, images, features: () => encoder.features(images) };
        start += images.shape[0];
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
    const classifier: Matrix[] = [], dino: HostTensor[] = [], predictions = new Int32Array(count);
    for (const chunk of chunks) {
      const extracted = await this.#classifier.extract(chunk.images);
      classifier.push(extracted.features);
      predictions.set(extracted.predictions!, chunk.start);
      dino.push((await chunk.features()).clsBD);
    }
    return { classifier: joinFeatures(classifier), dino: asMatrix(concatRows(dino)), predictions };
  }
}
