import type { DeviceName } from "novae/engine/mod.ts";
import type { ReconstructionMeasures } from "novae/autoencoder/mod.ts";
import { FeatureClassifier } from "novae/evaluation/mod.ts";
import { reconstructionMeasures, shippedModel } from "novae/study/mod.ts";

/** What decides the measures of reconstructions. */
export interface MeasuresOptions {
  readonly data: string;
  readonly imageSize: number;
  readonly classifier?: string;
  readonly device: DeviceName;
}

/** Measures with what they need open. */
export interface OpenedMeasures {
  readonly measures: ReconstructionMeasures;
  readonly classifier: FeatureClassifier | undefined;
  /** What a person should know, if a measure is left out. */
  readonly note: string | undefined;
  dispose(): Promise<void>;
}

/**
 * Opens the measures of reconstructions: PSNR, SSIM, and the Fréchet distance where there is a classifier.
 *
 * @throws ConfigError if the classifier that was named takes images of another size; WeightsError if it cannot be read.
 */
export async function openMeasures(
  { data, imageSize, classifier: named, device }: MeasuresOptions,
): Promise<OpenedMeasures> {
  const path = named ?? usualClassifier(data, imageSize);
  const classifier = path === "" ? undefined : await FeatureClassifier.load(path, { device });
  const dispose = async () => await classifier?.dispose();
  try {
    return {
      measures: reconstructionMeasures({ imageSize, classifier }),
      classifier,
      note: classifier
        ? undefined
        : `no classifier of ${data} at ${imageSize} pixels: Fréchet distances are left out (--classifier names one)`,
      dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** The shipped classifier of a data set; empty if there is none. */
export function usualClassifier(data: string, imageSize: number): string {
  return data === "solids" && imageSize === 64 ? shippedModel("classifier-solids.safetensors") : "";
}
