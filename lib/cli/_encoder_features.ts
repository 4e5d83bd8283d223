import { asMatrix, concatRows, float32, type HostTensor } from "novae/tensor/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import { resizeFloats } from "novae/io/mod.ts";
import type { Dataset, DatasetSplits } from "novae/data/mod.ts";
import { DinoEncoder, standardiseFeatures, type VitConfig, type VitParams } from "novae/dino/mod.ts";
import { knnClassify, type LabelledMatrix } from "novae/analysis/mod.ts";

/** k-NN accuracy (cosine, k = 20, T = 0.07) on held-out images. */
export interface KnnScores {
  /** On class tokens. */
  clsAccuracy: number;
  /** On the mean of the patch tokens. */
  patchAccuracy: number;
  references: number;
  samples: number;
}

/** The scores at one point of a training. */
export interface KnnPoint extends KnnScores {
  step: number;
  imagesSeen: number;
}

/** Scores as the log tells them. */
export function knnLine({ clsAccuracy, patchAccuracy }: KnnScores): string {
  return `k-NN accuracy ${clsAccuracy.toFixed(3)} (class), ${patchAccuracy.toFixed(3)} (patches)`;
}

/** Neighbours are looked for among this many training images, so that scoring stays cheap beside training. */
const REFERENCES = 5000;
const CHUNK = 500;
/** Training images whose patch tokens are brought to mean 0 and standard deviation 1. */
const STANDARDISED_IMAGES = 2000;

/** The encoder with its features standardised on training images, see {@linkcode standardiseFeatures}. */
export async function standardised(
  config: VitConfig,
  params: VitParams<HostTensor>,
  { train }: DatasetSplits,
  device: DeviceName,
): Promise<VitParams<HostTensor>> {
  const count = Math.min(train.size, STANDARDISED_IMAGES);
  function* batches() {
    for (const indices of chunks(count)) yield fitted(train.images(indices), config.patchSize);
  }
  return await standardiseFeatures(config, params, batches(), { device });
}

/** Scores an encoder by the neighbours of held-out images among training images. */
export async function knnOfEncoder(
  config: VitConfig,
  params: VitParams<HostTensor>,
  splits: DatasetSplits,
  device: DeviceName,
): Promise<KnnScores> {
  const encoder = new DinoEncoder(config, params, { device, batchSize: 100 });
  try {
    const train = await features(encoder, splits.train, Math.min(splits.train.size, REFERENCES));
    const test = await features(encoder, splits.test, splits.test.size);
    const cls = await knnClassify(train.cls, test.cls),
      patches = await knnClassify(train.patches, test.patches);
    return {
      clsAccuracy: cls.accuracy,
      patchAccuracy: patches.accuracy,
      references: cls.references,
      samples: cls.samples,
    };
  } finally {
    await encoder.dispose();
  }
}

/** The same score for the pixels themselves, the level that an encoder must leave behind. */
export async function knnOfPixels({ train, test }: DatasetSplits): Promise<number> {
  const flat = (dataset: Dataset, count: number): LabelledMatrix => {
    const indices = Array.from({ length: count }, (_, i) => i);
    return { features: asMatrix(dataset.images(indices), 3), labels: dataset.labels(indices) };
  };
  const { accuracy } = await knnClassify(
    flat(train, Math.min(train.size, REFERENCES)),
    flat(test, Math.min(test.size, 1000)),
  );
  return accuracy;
}

async function features(
  encoder: DinoEncoder,
  dataset: Dataset,
  count: number,
): Promise<{ cls: LabelledMatrix; patches: LabelledMatrix }> {
  const cls: HostTensor[] = [], patches: HostTensor[] = [];
  for (const indices of chunks(count)) {
    const { clsBD, patchesBND } = await encoder.features(
      fitted(dataset.images(indices), encoder.config.patchSize),
    );
    cls.push(clsBD);
    patches.push(meanOverTokens(patchesBND));
  }
  const labels = dataset.labels(Array.from({ length: count }, (_, i) => i));
  return {
    cls: { features: asMatrix(concatRows(cls)), labels },
    patches: { features: asMatrix(concatRows(patches)), labels },
  };
}

/** Indices from 0 to `count`, as many at once as fit into memory well. */
function chunks(count: number): number[][] {
  return Array.from(
    { length: Math.ceil(count / CHUNK) },
    (_, chunk) => Array.from({ length: Math.min(CHUNK, count - chunk * CHUNK) }, (_, i) => chunk * CHUNK + i),
  );
}

/** Images resized to the nearest multiple of the patch, where their side is none. */
function fitted(images: HostTensor, patchSize: number): HostTensor {
  const [count, height, width] = images.shape,
    [rows, cols] = [height, width].map((side) => nearest(side, patchSize));
  if (rows === height && cols === width) return images;
  const out = new Float32Array(count * rows * cols * 3);
  for (let b = 0; b < count; b++) {
    const area = { offset: b * height * width * 3, stride: width * 3, height, width, channels: 3 };
    const image = out.subarray(b * rows * cols * 3, (b + 1) * rows * cols * 3);
    resizeFloats(images.data, area, { height: rows, width: cols }, "bicubic", image);
  }
  return float32(out, [count, rows, cols, 3]);
}

function nearest(side: number, patchSize: number): number {
  return patchSize * Math.max(1, Math.round(side / patchSize));
}

function meanOverTokens({ shape: [batch, tokens, dim], data }: HostTensor): HostTensor {
  const mean = new Float32Array(batch * dim);
  for (let b = 0; b < batch; b++) {
    for (let n = 0; n < tokens; n++) {
      for (let d = 0; d < dim; d++) mean[b * dim + d] += data[(b * tokens + n) * dim + d] / tokens;
    }
  }
  return float32(mean, [batch, dim]);
}
