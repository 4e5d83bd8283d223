/**
 * Features of whole data sets, streamed through an encoder into shards.
 *
 * @module
 */
import { join } from "node:path";
import { ConfigError, type HostTensor } from "novae/tensor/mod.ts";
import { type DeviceName, type DeviceTensor, disposeTree, expectDevice, read } from "novae/engine/mod.ts";
import { pathExists, writeJson } from "novae/io/mod.ts";
import {
  type Dataset,
  type EncodeProgress,
  encodeShards,
  type EncodeShardsOptions,
  flipHorizontal,
  type ImageFiles,
  openImageBatches,
} from "novae/data/mod.ts";
import { countVitParams } from "./config.ts";
import { DinoEncoder, type DinoFeatures, hashEncoder } from "./encoder.ts";
import { type ExtractionSettings, type FeatureForm, planExtraction } from "./extraction_plan.ts";
import type { LoadedEncoder } from "./load_encoder.ts";
import { withoutFraming } from "./preprocessing.ts";

export type { ExtractionSettings, TokenChoice } from "./extraction_plan.ts";

/** How far an extraction is. */
export type ExtractionProgress = EncodeProgress;

/** Options of {@link extractFeatures}. */
export interface ExtractionOptions extends ExtractionSettings, EncodeShardsOptions {
  /** The images: a data set in memory, or files of any number. */
  readonly images: Dataset | ImageFiles;
  /** The encoder, from `loadEncoder`. */
  readonly encoder: Omit<LoadedEncoder, "metadata" | "ignored">;
  /**
   * Images that run at once, which changes features by rounding at most; 64 if omitted. Where processes share the work a
   * batch should take less than `staleSec`: a process gives no sign of life while the encoder runs.
   */
  readonly batchSize?: number;
  /** Where the encoder runs; `auto` if omitted. */
  readonly device?: DeviceName;
  /** Threads that decode image files; one a core, but at most 16, if omitted. */
  readonly workers?: number;
}

/** What an extraction came to. */
export interface ExtractionSummary {
  /** Images in all. */
  readonly count: number;
  /** Images that this call encoded. */
  readonly made: number;
  /** Shapes of the tensors of a row by name. */
  readonly tensors: Readonly<Record<string, readonly number[]>>;
  /** SHA-256 of the encoder's settings and weights. */
  readonly encoderHash: string;
  /** Time of the whole call. */
  readonly wallSec: number;
  /** Rate from the end of the first batch, during which the encoder was compiled; null if there was no second one. */
  readonly imagesPerSec: number | null;
}

/**
 * Encodes all images of a data set into a folder of shards, which `openShards` reads at random, with labels and with
 * the encoder, the data and the preparation in its `config`. `encoder.json` in the folder says where the encoder came
 * from.
 *
 * Images are decoded and resized in threads while the encoder runs on those before. Any number of processes may call
 * this for one folder at the same time, and a killed one is called again: what is there is kept, and on one device the
 * shards are the same byte for byte. Memory does not grow with the number of images but for their names.
 *
 * @example
 * ```ts
 * import { Rng } from "novae/tensor/mod.ts";
 * import { loadDataset, openShards } from "novae/data/mod.ts";
 * import { extractFeatures, initVit, loadEncoder, saveEncoder, VIT_SIZES } from "novae/dino/mod.ts";
 * const folder = await Deno.makeTempDir(), path = `${folder}/encoder.safetensors`;
 * await saveEncoder(path, VIT_SIZES.tiny, initVit(new Rng(0), VIT_SIZES.tiny));
 * const { train: images } = await loadDataset({ name: "solids", train: 12, test: 2, imageSize: 16, cacheDir: null });
 * await extractFeatures(`${folder}/features`, { images, encoder: await loadEncoder(path), device: "cpu" });
 * const shards = await openShards(`${folder}/features`), { cls } = await shards.rowsAt([11, 3], ["cls"]);
 * if (`${cls.shape}` !== "2,16") throw new Error("unexpected shape");
 * await shards.close();
 * ```
 * @throws ConfigError for settings that cannot be used, or a folder with features of another encoder, data set or form,
 * naming what differs; DataError if an image cannot be decoded, naming its file (finished shards stay); DeviceError if
 * the device cannot be used.
 */
export async function extractFeatures(
  folder: string,
  options: ExtractionOptions,
): Promise<ExtractionSummary> {
  const started = performance.now(), { images, encoder: loaded, batchSize = 64, device = "auto" } = options;
  expectBatchSize(batchSize);
  const hash = hashEncoder(loaded.config, loaded.params);
  const plan = planExtraction(images, { ...loaded, hash }, options), { count, rowsPerShard } = plan.shards;
  await expectDevice(device);
  using batches = openImageBatches(images, plan.preprocessing, {
    batchSize: Math.min(batchSize, rowsPerShard, count),
    workers: options.workers,
  });
  const preprocessing = batches.framed ? withoutFraming(plan.preprocessing) : plan.preprocessing;
  const encoder = new DinoEncoder(loaded.config, loaded.params, { device, preprocessing });
  try {
    const { made, imagesPerSec } = await encodeShards(folder, {
      plan: plan.shards,
      batches,
      tensors: plan.tensors,
      encode: (imageUnitBHWC) => encodeForms(encoder, imageUnitBHWC, plan.forms, options),
    }, options);
    await recordEncoder(folder, loaded, hash);
    const wallSec = (performance.now() - started) / 1000;
    return { count, made, tensors: plan.tensors, encoderHash: hash, wallSec, imagesPerSec };
  } finally {
    await encoder.dispose();
  }
}

function expectBatchSize(batchSize: number): void {
  if (Number.isSafeInteger(batchSize) && batchSize >= 1) return;
  throw new ConfigError(
    `Cannot extract features: batch size must be a positive whole number, got ${batchSize}`,
  );
}

async function recordEncoder(
  folder: string,
  loaded: ExtractionOptions["encoder"],
  hash: string,
): Promise<void> {
  const path = join(folder, "encoder.json"), { family, config, source } = loaded;
  if (await pathExists(path)) return;
  await writeJson(path, { hash, family, parameters: countVitParams(config), settings: config, source });
}

/** The tokens that are kept of a batch of images, and those of their mirror images. */
async function encodeForms(
  encoder: DinoEncoder,
  images: HostTensor,
  forms: readonly FeatureForm[],
  { lastBlocks = 0, norm }: ExtractionSettings,
): Promise<Record<string, HostTensor>> {
  const out: Record<string, HostTensor> = {};
  for (const mirrored of [false, true]) {
    const wanted = forms.filter((form) => form.mirrored === mirrored);
    if (wanted.length === 0) continue;
    const seen = mirrored ? flipHorizontal(images, new Uint8Array(images.shape[0]).fill(1)) : images;
    const features = await encoder.featuresOnDevice(seen, lastBlocks > 0 ? { lastBlocks, norm } : {});
    for (const form of wanted) out[form.name] = await read(tokensOf(features, form));
    disposeTree(features);
  }
  return out;
}

function tokensOf(features: DinoFeatures<DeviceTensor>, { block, kind }: FeatureForm): DeviceTensor {
  const { clsBD, patchesBND } = block === null ? features : features.lastBlocks![block];
  return kind === "cls" ? clsBD : patchesBND;
}
