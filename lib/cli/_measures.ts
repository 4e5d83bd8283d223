import type { DeviceName } from "novae/engine/mod.ts";
import {
  type Lpips,
  LpipsMetric,
  type LpipsNetwork,
  type ReconstructionMeasures,
} from "novae/autoencoder/mod.ts";
import { FeatureClassifier } from "novae/evaluation/mod.ts";
import { reconstructionMeasures, shippedModel } from "novae/study/mod.ts";

/** What decides the measures of reconstructions. */
export interface MeasuresOptions {
  readonly data: string;
  readonly imageSize: number;
  readonly classifier?: string;
  /** Measured too if it is given. */
  readonly lpipsWeights?: Lpips;
  readonly device: DeviceName;
}

/** Hashes of the networks that measured; null for what was left out. */
export interface MeasuresRecord {
  readonly classifier: string | null;
  readonly lpips: { readonly network: LpipsNetwork; readonly hash: string } | null;
}

/** Measures with what they need open. */
export interface OpenedMeasures {
  readonly measures: ReconstructionMeasures;
  /** What measured, by name and hash, as records have it. */
  readonly record: MeasuresRecord;
  /** What a person should know, if a measure is left out. */
  readonly note: string | undefined;
  dispose(): Promise<void>;
}

/**
 * Opens the measures of reconstructions: PSNR, SSIM, LPIPS where it is given, and the Fréchet distance where there is a
 * classifier.
 *
 * @throws ConfigError if the classifier that was named takes images of another size, or they are too small for LPIPS;
 * WeightsError if the classifier cannot be read.
 */
export async function openMeasures(
  { data, imageSize, classifier: named, lpipsWeights, device }: MeasuresOptions,
): Promise<OpenedMeasures> {
  const path = named ?? usualClassifier(data, imageSize);
  const classifier = path === "" ? undefined : await FeatureClassifier.load(path, { device });
  const lpips = lpipsWeights && new LpipsMetric(lpipsWeights, { device });
  const dispose = async () => {
    await classifier?.dispose();
    await lpips?.dispose();
  };
  try {
    return {
      measures: reconstructionMeasures({ imageSize, classifier, lpips }),
      record: {
        classifier: classifier?.hash ?? null,
        lpips: lpips ? { network: lpips.network, hash: lpips.hash } : null,
      },
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
  const shipped = data === "solids" && imageSize === 64 || data === "cifar10" && imageSize === 32;
  return shipped ? shippedModel(`classifier-${data}.safetensors`) : "";
}
