/**
 * The real images that samples are compared with: what they are, their features, and how they score themselves.
 *
 * @module
 */
import type { DatasetSplits } from "novae/data/mod.ts";
import { knnClassify } from "novae/analysis/mod.ts";
import type { EncodedImages } from "./encoded_images.ts";
import { allLabels } from "./latent_space.ts";
import type { DataRecord, JudgesRecord } from "./results.ts";
import { agreement } from "./feature_extractor.ts";
import type { Scorer, ScoreReference } from "./scorer.ts";

/**
 * Features of the training and of the held-out images.
 *
 * @param neighbours how many vote in the probe of the encoder.
 */
export async function measureReferences(
  neighbours: number,
  scorer: Scorer,
  encoded: { readonly train: EncodedImages; readonly test: EncodedImages },
): Promise<{ train: ScoreReference; test: ScoreReference; judges: JudgesRecord }> {
  const train = await scorer.datasetFeatures(encoded.train),
    test = await scorer.datasetFeatures(encoded.test);
  const data = { train: encoded.train.dataset, test: encoded.test.dataset };
  const reference = scorer.reference(train, data.train.hash), labels = allLabels(data.test);
  const knn = await knnClassify(
    { features: train.dino, labels: allLabels(data.train) },
    { features: test.dino, labels },
    { k: neighbours },
  );
  const judges: JudgesRecord = {
    classifierAccuracy: agreement(test.predictions, labels),
    encoderKnn: knn.accuracy,
    floor: scorer.frechet(test, reference),
  };
  return { train: reference, test: scorer.reference(test, data.test.hash), judges };
}

/** What the record of a run has of its images. */
export function describeData({ train, test }: DatasetSplits): DataRecord {
  return {
    name: train.name,
    hash: train.hash,
    testHash: test.hash,
    classes: [...train.classes],
    imageSize: train.imageSize,
    train: train.size,
    test: test.size,
  };
}
