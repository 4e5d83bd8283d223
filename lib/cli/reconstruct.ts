/**
 * `novae reconstruct`: how well autoencoders reconstruct held-out images, and what their latents tell of classes.
 *
 * @module
 */
import type { Command } from "commander";
import { ConfigError } from "novae/tensor/mod.ts";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import { writeJson, writePng } from "novae/io/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import { readAutoencoder } from "novae/autoencoder/mod.ts";
import { reconstructionGrid } from "novae/plot/mod.ts";
import {
  type AutoencoderQuality,
  LabelledImages,
  measureQuality,
  measuresTable,
  type PooledProbe,
  probeFeatures,
  spreadOf,
} from "novae/study/mod.ts";
import { autoencoderHash, openAutoencoder } from "./_autoencoder_file.ts";
import { addLpipsOptions, type LpipsOptions, openLpips } from "./_lpips.ts";
import { type OpenedMeasures, openMeasures } from "./_measures.ts";
import { parseCount } from "./_options.ts";
import { makeFolderOf } from "./_encoder_record.ts";
import { addSplitsOptions, openSplits, type SplitsOptions } from "./_splits.ts";

interface ReconstructOptions extends SplitsOptions, LpipsOptions {
  encoder?: string;
  classifier?: string;
  probes: boolean;
  neighbours: number;
  device: DeviceName;
  workers?: number;
  grid?: string;
  out?: string;
  json: boolean;
}

/** An autoencoder that was measured. */
interface Measured extends AutoencoderQuality {
  readonly file: string;
  readonly hash: string;
}

const WHAT = "Cannot measure reconstructions";

/** Adds the command to the program. */
export function registerReconstruct(program: Command): void {
  const command = program.command("reconstruct")
    .description("measure how well autoencoders reconstruct held-out images, and probe their latents")
    .argument("<files...>", "autoencoders, from `novae train autoencoder`");
  addLpipsOptions(addSplitsOptions(command), "measure LPIPS too")
    .option("--encoder <reference>", "the frozen encoder of the autoencoders; not needed for a vae")
    .option(
      "--classifier <file>",
      "whose features measure Fréchet distances; the shipped one if it fits, if omitted",
    )
    .option("--no-probes", "leave out the probes, which need labels and the training images")
    .option("--neighbours <k>", "neighbours that vote in the k-NN probe", parseCount, 20)
    .option("--device <name>", "where to run", "auto")
    .option("--workers <n>", "threads that decode image files; one a core if omitted", parseCount)
    .option("--grid <file>", "PNG of images, reconstructions and differences, of the first autoencoder")
    .option("--out <file>", "JSON to write")
    .option("--json", "print the result as JSON", false)
    .action(reconstruct);
}

async function reconstruct(files: string[], options: ReconstructOptions): Promise<void> {
  const { device } = await resolveDevice(options.device), imageSize = await sizeOfAll(files);
  const lpipsWeights = await openLpips(WHAT, options);
  const splits = await openSplits(WHAT, options, imageSize);
  const judge = await openMeasures({ ...options, imageSize, lpipsWeights, device });
  if (judge.note) console.error(judge.note);
  const encoder = options.encoder === undefined
    ? undefined
    : await DinoEncoder.load(options.encoder, { device });
  const seen = { imageSize, resize: options.resize, workers: options.workers, encoder };
  try {
    using test = new LabelledImages(splits.test, seen);
    using train = options.probes ? new LabelledImages(splits.train, seen) : undefined;
    const measured: Measured[] = [];
    for (const file of files) {
      measured.push(await measureFile(file, { train, test }, { ...options, device }, judge));
    }
    const features = train && encoder
      ? await probeFeatures({ train, test }, { k: options.neighbours })
      : null;
    const result = {
      data: { name: splits.test.name, hash: splits.test.hash, images: splits.test.size, imageSize },
      encoder: encoder?.hash ?? null,
      ...judge.record,
      features,
      autoencoders: measured,
    };
    if (options.out !== undefined) {
      await makeFolderOf(options.out);
      await writeJson(options.out, result);
    }
    console.log(options.json ? JSON.stringify(result) : tableOf(measured, features, splits.test.name));
  } finally {
    await judge.dispose();
    await encoder?.dispose();
  }
}

/** Rows and columns of the images that all autoencoders take. */
async function sizeOfAll(files: readonly string[]): Promise<number> {
  const sizes = new Map<number, string>();
  for (const file of files) sizes.set((await readAutoencoder(file)).config.imageSize, file);
  const [[size, file], ...others] = sizes;
  if (others.length === 0) return size;
  throw new ConfigError(
    `${WHAT}: all autoencoders must take images of one size, got ${size} (${file}) and ${others[0][0]} (${
      others[0][1]
    })`,
  );
}

async function measureFile(
  file: string,
  images: { train?: LabelledImages; test: LabelledImages },
  { encoder, device, neighbours: k, grid }: ReconstructOptions,
  { measures }: OpenedMeasures,
): Promise<Measured> {
  const { autoencoder, dispose } = await openAutoencoder(WHAT, file, encoder, device);
  try {
    console.error(`${file}: ${autoencoder.name}, ${images.test.size} images`);
    const { quality, shown } = await measureQuality(autoencoder, images, { measures, k });
    if (grid !== undefined && !drawn.has(grid)) {
      drawn.add(grid);
      await makeFolderOf(grid);
      await writePng(grid, reconstructionGrid(shown.images, shown.reconstructions));
    }
    return { file, hash: await autoencoderHash(file), ...quality };
  } finally {
    await dispose();
  }
}

/** Pictures that were drawn by this process. */
const drawn = new Set<string>();

function tableOf(measured: readonly Measured[], features: PooledProbe | null, name: string): string {
  const plain = (numbers: Readonly<Record<string, number>>) =>
    Object.fromEntries(Object.entries(numbers).map(([key, value]) => [key, spreadOf([value])]));
  const probed = (probe: PooledProbe | null): Record<string, number> =>
    probe ? { linear: probe.linear, knn: probe.knn } : {};
  const rows = measured.map(({ file, reconstruction, probe }) => ({
    label: file,
    metrics: plain({ ...reconstruction, ...probed(probe) }),
  }));
  const raw = features ? [{ label: "raw features", metrics: plain(probed(features)) }] : [];
  return `${measuresTable("autoencoder", [...raw, ...rows])}\n${
    measured[0].count
  } held-out images of ${name}`;
}
