/**
 * The feature extractor of the Fréchet distances: a trained classifier that shares no weights with any encoder.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type DeviceName, jit, type Jitted } from "novae/engine/mod.ts";
import {
  asMatrix,
  concatRows,
  expectShape,
  type HostTensor,
  isHostTensor,
  mapTree,
  type Matrix,
  rows,
} from "novae/tensor/mod.ts";
import { type ClassifierFile, hashClassifier, loadClassifier } from "./classifier_file.ts";
import { classifier, type ClassifierConfig, type ClassifierParams } from "./classifier_model.ts";

/** Options of {@linkcode FeatureClassifier}. */
export interface FeatureClassifierOptions {
  /** Where it runs. Default `auto`. */
  readonly device?: DeviceName;
  /** Images that run at once. Default 64. */
  readonly batchSize?: number;
}

type Forward = (imageUnitBHWC: tf.Tensor) => { featuresBD: tf.Tensor; probabilitiesBL: tf.Tensor };

/** A frozen classifier, compiled, which takes any number of images and runs them in batches. */
export class FeatureClassifier {
  /** Settings of the classifier. */
  readonly config: ClassifierConfig;
  /** SHA-256 of settings and weights, the `extractor` of results. */
  readonly hash: string;
  /** Share of held-out images that it classifies correctly, in [0, 1]; `null` if it is not known. */
  readonly accuracy: number | null;
  readonly #batchSize: number;
  readonly #forward: Jitted<Forward>;

  /**
   * Compiles on first use.
   *
   * @param content settings and weights that fit them, as `trainFeatureClassifier` or `loadClassifier` give them.
   * @throws RangeError if the batch size is not a positive integer.
   */
  constructor(
    content:
      & { readonly config: ClassifierConfig; readonly params: ClassifierParams<HostTensor> }
      & Partial<
        ClassifierFile
      >,
    options: FeatureClassifierOptions = {},
  ) {
    const { device = "auto", batchSize = 64 } = options, { config, params } = content;
    if (!Number.isInteger(batchSize) || batchSize < 1) {
      throw new RangeError(
        `Cannot classify in batches: batch size must be a positive integer, got ${batchSize}`,
      );
    }
    this.config = config;
    this.hash = hashClassifier(config, params);
    this.accuracy = content.record?.accuracy ?? null;
    this.#batchSize = batchSize;
    this.#forward = jit(
      ((imageUnitBHWC) => {
        // Weights are constants of the graph, so that the runtime can lay them out once.
        const weights = mapTree<ClassifierParams>(
          params,
          isHostTensor,
          (leaf) => constant(leaf as HostTensor),
        );
        const { featuresBD, logitsBL } = classifier(imageUnitBHWC, weights, config);
        return { featuresBD, probabilitiesBL: tf.softmax(logitsBL) };
      }) as Forward,
      { device, name: "feature-classifier" },
    );
  }

  /**
   * Reads a classifier from a file written by `saveClassifier`.
   *
   * @throws WeightsError as `loadClassifier` does.
   */
  static async load(path: string, options: FeatureClassifierOptions = {}): Promise<FeatureClassifier> {
    return new FeatureClassifier(await loadClassifier(path), options);
  }

  /** D, number of features. */
  get dims(): number {
    return this.config.widths.at(-1)!;
  }

  /**
   * The pooled features of images.
   *
   * @param imageUnitBHWC pixels in [0, 1], [B, S, S, 3] with B ≥ 1.
   * @returns shape [B, D].
   * @throws TypeError if the images do not have this shape.
   */
  async features(imageUnitBHWC: HostTensor): Promise<Matrix> {
    return (await this.run(imageUnitBHWC)).features;
  }

  /**
   * The class probabilities of images.
   *
   * @param imageUnitBHWC pixels in [0, 1], [B, S, S, 3] with B ≥ 1.
   * @returns shape [B, L], rows that sum to 1.
   * @throws TypeError if the images do not have this shape.
   */
  async classify(imageUnitBHWC: HostTensor): Promise<Matrix> {
    return (await this.run(imageUnitBHWC)).probabilities;
  }

  /** Features and class probabilities of images, in one pass. */
  async run(imageUnitBHWC: HostTensor): Promise<{ features: Matrix; probabilities: Matrix }> {
    const { imageSize } = this.config, count = imageUnitBHWC.shape[0];
    expectShape("Cannot classify images", imageUnitBHWC.shape, [null, imageSize, imageSize, 3]);
    if (count === 0) throw new TypeError("Cannot classify images: at least one is needed, got none");
    const features: HostTensor[] = [], probabilities: HostTensor[] = [];
    for (let start = 0; start < count; start += this.#batchSize) {
      const out = await this.#forward(rows(imageUnitBHWC, start, Math.min(start + this.#batchSize, count)));
      features.push(await out.featuresBD.read());
      probabilities.push(await out.probabilitiesBL.read());
      out.featuresBD.dispose();
      out.probabilitiesBL.dispose();
    }
    return { features: asMatrix(concatRows(features)), probabilities: asMatrix(concatRows(probabilities)) };
  }

  /** Releases the compiled graphs. */
  async dispose(): Promise<void> {
    await this.#forward.dispose();
  }
}

function constant({ data, shape, dtype }: HostTensor): tf.Tensor {
  return tf.tensor(data, [...shape], dtype);
}
