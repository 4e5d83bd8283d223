/**
 * What turns images into the features that Fréchet distances compare: a classifier, or a DINO encoder.
 *
 * @module
 */
import { asMatrix, concatRows, type HostTensor, type Matrix, rows } from "novae/tensor/mod.ts";
import type { DinoEncoder } from "novae/dino/mod.ts";
import type { FeatureClassifier } from "novae/evaluation/mod.ts";

/** Features of images, and their classes where the extractor knows classes. */
export interface ExtractedFeatures {
  /** One row an image. */
  readonly features: Matrix;
  /** Most probable class of each; null of an encoder. */
  readonly predictions: Int32Array | null;
}

/** A network whose features are compared. */
export interface FeatureExtractor {
  /** Which kind it is: pooled features of a classifier, or the class token of a DINO encoder. */
  readonly name: "classifier" | "dino";
  /** SHA-256 of settings and weights. */
  readonly hash: string;
  /** Names of the classes that it predicts; null of an encoder. */
  readonly classes: readonly string[] | null;
  /**
   * Extracts features.
   *
   * @param imageUnitBHWC pixels in [0, 1] as they are to be seen; round them with `toBytes` first.
   */
  extract(imageUnitBHWC: HostTensor): Promise<ExtractedFeatures>;
}

/** The pooled features of a classifier, which is not disposed of. */
export function classifierExtractor(classifier: FeatureClassifier): FeatureExtractor {
  return {
    name: "classifier",
    hash: classifier.hash,
    classes: classifier.config.classes,
    extract: async (imageUnitBHWC) => {
      const { features, probabilities } = await classifier.run(imageUnitBHWC);
      return { features, predictions: argmaxRows(probabilities) };
    },
  };
}

/** The class token of an encoder, which is not disposed of. */
export function encoderExtractor(encoder: DinoEncoder): FeatureExtractor {
  return {
    name: "dino",
    hash: encoder.hash,
    classes: null,
    extract: async (imageUnitBHWC) => {
      const { clsBD } = await encoder.features(imageUnitBHWC);
      return { features: asMatrix(clsBD), predictions: null };
    },
  };
}

/** Pixels as an 8-bit file would hold them. */
export function toBytes(imageUnit: HostTensor): HostTensor {
  const data = new Float32Array(imageUnit.data.length);
  for (let i = 0; i < data.length; i++) {
    data[i] = Math.round(255 * Math.min(Math.max(imageUnit.data[i], 0), 1)) / 255;
  }
  return { ...imageUnit, data };
}

/** Share of predictions that equal the labels. */
export function agreement(predictions: ArrayLike<number>, labels: ArrayLike<number>): number {
  let same = 0;
  for (let i = 0; i < predictions.length; i++) if (predictions[i] === labels[i]) same++;
  return same / predictions.length;
}

/** Images in chunks of at most `size`. */
export function* inChunks(images: HostTensor, size: number): Generator<HostTensor> {
  const count = images.shape[0];
  for (let start = 0; start < count; start += size) yield rows(images, start, Math.min(start + size, count));
}

/** The features of several sets of images as one. */
export function joinFeatures(parts: readonly Matrix[]): Matrix {
  return asMatrix(concatRows(parts.map(asTensor)));
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
