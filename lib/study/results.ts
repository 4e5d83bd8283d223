/**
 * What the comparison measures, as plain data: kept by stage, summed up in `summary.json` and drawn in the report.
 *
 * @module
 */
import type { SpaceName } from "novae/autoencoder/mod.ts";
import type { FrechetResult } from "novae/evaluation/mod.ts";

/** A model of a study. */
export interface ModelRecord {
  /** Its file, relative to the run folder if this run trained it. */
  readonly file: string;
  /** Whether this run trained it. */
  readonly trained: boolean;
  /** SHA-256 of its settings and weights. */
  readonly hash: string;
  /** Number of weights. */
  readonly parameters: number;
}

/** The images of a study. */
export interface DataRecord {
  /** Name of the data set. */
  readonly name: string;
  /** SHA-256 of the training images and labels. */
  readonly hash: string;
  /** SHA-256 of the held-out images and labels. */
  readonly testHash: string;
  /** Class names. */
  readonly classes: readonly string[];
  /** Edge in pixels. */
  readonly imageSize: number;
  /** Training images. */
  readonly train: number;
  /** Held-out images. */
  readonly test: number;
}

/** Fréchet distances of one set of images by two feature extractors. */
export interface FrechetPair {
  /** By the independent classifier's features. */
  readonly classifier: FrechetResult;
  /** By the class token of the DINO encoder, which favours the spaces that are built on it. */
  readonly dino: FrechetResult;
}

/** The classifier and the encoder that score, and what real held-out images score: no model is expected below. */
export interface JudgesRecord {
  /** Share of held-out images that the classifier classifies correctly. */
  readonly classifierAccuracy: number;
  /** Accuracy of cosine neighbours of the encoder's class tokens on held-out images. */
  readonly encoderKnn: number;
  /** Real held-out images against the training images. */
  readonly floor: FrechetPair;
}

/** Quality of reconstructions of held-out images. */
export interface ReconstructionRecord {
  /** Mean over images in dB. */
  readonly psnr: number;
  /** Mean over images. */
  readonly ssim: number;
  /** Reconstructions against the held-out images themselves. */
  readonly frechet: FrechetPair;
  /** Held-out images. */
  readonly n: number;
}

/** What simple classifiers read from latents, top-1 on held-out images. */
export interface ProbeRecord {
  /** Softmax regression on the mean token. */
  readonly linearPooled: number;
  /** Ridge regression on all tokens. */
  readonly linearTokens: number;
  /** Cosine neighbours of the mean token. */
  readonly knn: number;
  /** Neighbours that vote. */
  readonly k: number;
  /** Training images. */
  readonly train: number;
  /** Held-out images. */
  readonly n: number;
}

/** Latents of held-out images in the plane. */
export interface MapRecord {
  /** x0, y0, x1, y1, … */
  readonly xy: readonly number[];
  /** Class of each. */
  readonly labels: readonly number[];
}

/** Everything about a latent space before diffusion. */
export interface SpaceRecord {
  /** Which space. */
  readonly space: SpaceName;
  /** Latent channels Z. */
  readonly channels: number;
  /** Rows and columns of tokens. */
  readonly grid: number;
  /** Its autoencoder. */
  readonly autoencoder: ModelRecord;
  /** Parameters of its decoder. */
  readonly decoderParameters: number;
  /** Quality of reconstructions. */
  readonly reconstruction: ReconstructionRecord;
  /** What its latents tell of the class. */
  readonly probes: ProbeRecord;
  /** A map of its latents. */
  readonly umap: MapRecord;
}

/** The score of one set of samples. */
export interface SampleScore {
  /** Training images seen by the transformer. */
  readonly imagesSeen: number;
  /** Euler steps. */
  readonly steps: number;
  /** Guidance scale; 1 is none. */
  readonly cfgScale: number;
  /** Samples against the training images. */
  readonly frechet: FrechetPair;
  /** Share of the samples that the classifier gives the class they were asked for. */
  readonly accuracy: number;
  /** Seconds for sampling and decoding. */
  readonly wallSec: number;
}

/** A point of a training curve. */
export interface LossPoint {
  /** Training images seen. */
  readonly imagesSeen: number;
  /** Mean squared error of the velocity since the point before. */
  readonly loss: number;
}

/** Everything about the diffusion transformer of one space. */
export interface DiffusionRecord {
  /** Which space. */
  readonly space: SpaceName;
  /** Weights of the transformer. */
  readonly parameters: number;
  /** Training images seen. */
  readonly imagesSeen: number;
  /** Training speed, evaluations not counted. */
  readonly imagesPerSec: number;
  /** Loss over the training. */
  readonly losses: readonly LossPoint[];
  /** All scored samples. */
  readonly scores: readonly SampleScore[];
}

/** The whole comparison. */
export interface StudyResult {
  /** The images. */
  readonly data: DataRecord;
  /** The frozen encoder. */
  readonly encoder: ModelRecord;
  /** The classifier that scores. */
  readonly classifier: ModelRecord;
  /** How good the judges are. */
  readonly judges: JudgesRecord;
  /** The spaces. */
  readonly spaces: readonly SpaceRecord[];
  /** Their transformers. */
  readonly diffusion: readonly DiffusionRecord[];
}
