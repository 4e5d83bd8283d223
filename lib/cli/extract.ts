/**
 * `novae extract`: features of a whole data set, in shards.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { ConfigError, sizeOf } from "novae/tensor/mod.ts";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import { type Dataset, type ImageFiles, loadDataset, loadSolids, openImageFolder } from "novae/data/mod.ts";
import {
  extractFeatures,
  type ExtractionProgress,
  type ExtractionSummary,
  loadEncoder,
  type TokenChoice,
} from "novae/dino/mod.ts";
import {
  BarDisplay,
  formatDuration,
  LineDisplay,
  type ProgressDisplay,
  RateClock,
} from "novae/experiment/mod.ts";
import { parseCount } from "./_options.ts";
import { ShownDownload } from "./_shown_download.ts";

interface ExtractOptions {
  data: string;
  path?: string;
  split: "train" | "test";
  count?: number;
  encoder: string;
  out: string;
  tokens: TokenChoice;
  lastBlocks: number;
  dtype: "fp16" | "fp32";
  size?: number;
  batchSize: number;
  rowsPerShard?: number;
  device: DeviceName;
  workers?: number;
  verify: "hash" | "header";
  json: boolean;
}

/** Images of `solids` if their number is not given. */
const SOLIDS = { train: 10_000, test: 2_000 } as const;

/** Adds the command to the program. */
export function registerExtract(program: Command): void {
  program.command("extract")
    .description("write the features of all images of a data set, in shards that are read at random")
    .requiredOption("--data <name or folder>", "solids, cifar10 or a folder of images (class/name.jpg)")
    .option("--path <path>", "where cifar10 lies")
    .addOption(
      new Option("--split <part>", "part of solids or cifar10").choices(["train", "test"]).default("train"),
    )
    .option(
      "--count <n>",
      "images of solids or cifar10, from the first; 10,000 or 2,000 of solids or all if omitted",
      parseCount,
    )
    .requiredOption(
      "--encoder <reference>",
      "repository of the hub, such as facebook/dinov2-small, @ and a revision if wanted; folder or file",
    )
    .requiredOption("--out <folder>", "folder of the shards; one that was begun is gone on with")
    .addOption(
      new Option("--tokens <which>", "tokens to keep").choices(["cls", "patches", "both"]).default("both"),
    )
    .option("--last-blocks <n>", "keep the tokens of the last n blocks instead of the final ones", Number, 0)
    .addOption(new Option("--dtype <type>", "storage").choices(["fp16", "fp32"]).default("fp16"))
    .option("--size <pixels>", "edge of the images that the encoder sees; its own if omitted", Number)
    .option("--batch-size <n>", "images at a time", parseCount, 64)
    .option("--rows-per-shard <n>", "images a file; about 64 MB, 1024 or fewer, if omitted", parseCount)
    .option("--device <name>", "where the encoder runs", "auto")
    .option("--workers <n>", "threads that decode images; one a core if omitted", parseCount)
    .addOption(
      new Option("--verify <how>", "check of shards that are there: all data or headers alone")
        .choices(["hash", "header"]).default("hash"),
    )
    .option("--json", "print the result as JSON", false)
    .action(extract);
}

async function extract(options: ExtractOptions): Promise<void> {
  const { device, reason } = await resolveDevice(options.device);
  const images = await openImages(options), encoder = await encoderOf(options.encoder);
  const shown = new ShownExtraction(images.name);
  try {
    const summary = await extractFeatures(options.out, {
      ...options,
      images,
      encoder,
      device,
      dtype: options.dtype === "fp16" ? "float16" : "float32",
      onProgress: (progress) => shown.update(progress),
    });
    shown.finish(summary);
    if (options.json) console.log(JSON.stringify({ folder: options.out, device, ...summary }));
    else console.log(describe(options, summary, `${device} (${reason})`));
  } finally {
    shown.clear();
  }
}

async function openImages({ data, path, split, count }: ExtractOptions): Promise<Dataset | ImageFiles> {
  if (data === "solids") return await loadSolids({ split, count: count ?? SOLIDS[split] });
  if (data === "cifar10") return (await loadDataset({ name: data, path, [split]: count }))[split];
  for (const [option, value] of [["--path", path], ["--count", count]]) {
    if (value === undefined) continue;
    throw new ConfigError(
      `Cannot extract features: ${option} is for solids and cifar10, got it with ${data}`,
    );
  }
  return await openImageFolder(data);
}

async function encoderOf(reference: string): Promise<Awaited<ReturnType<typeof loadEncoder>>> {
  const download = new ShownDownload(reference);
  try {
    const encoder = await loadEncoder(reference, { onProgress: (progress) => download.update(progress) });
    download.finish();
    return encoder;
  } finally {
    download.clear();
  }
}

function describe({ out, dtype }: ExtractOptions, summary: ExtractionSummary, where: string): string {
  const { count, made, tensors, imagesPerSec, wallSec } = summary, bytes = dtype === "fp16" ? 2 : 4;
  const forms = Object.entries(tensors).map(([name, shape]) => `${name} [${shape.join(", ")}]`);
  const numbers = Object.values(tensors).reduce((sum, shape) => sum + sizeOf(shape), 0);
  const rate = imagesPerSec === null ? "" : `, ${imagesPerSec.toFixed(1)} images/s`;
  return [
    `${count} images in ${out}: ${forms.join(", ")} in ${dtype}, ${
      (count * numbers * bytes / 1e6).toFixed(1)
    } MB`,
    `${made} of them encoded now on ${where} in ${wallSec.toFixed(1)} s${rate}`,
  ].join("\n");
}

/** An extraction on a display. */
class ShownExtraction {
  readonly #label: string;
  readonly #display: ProgressDisplay = Deno.stderr.isTerminal() ? new BarDisplay() : new LineDisplay();
  readonly #start = performance.now();
  readonly #clock = new RateClock(() => performance.now() / 1000);
  /** The first report with images that were encoded now. */
  #first: { readonly made: number; readonly at: number } | null = null;
  #begun = false;

  constructor(name: string) {
    this.#label = `Extract ${name}`;
  }

  update({ done, total, made, note }: ExtractionProgress): void {
    const now = performance.now(), began = this.#begun;
    let leftSec: number | null = null, rate = "";
    if (made > 0) {
      this.#first ??= { made, at: now };
      // What was there before says nothing of the rate.
      leftSec = this.#clock.leftSec(made, made + total - done);
      const gained = made - this.#first.made;
      if (gained > 0) rate = ` · ${(1000 * gained / (now - this.#first.at)).toFixed(1)} images/s`;
    }
    const view = {
      label: this.#label,
      fraction: done / total,
      elapsedSec: (now - this.#start) / 1000,
      leftSec,
      totalLeftSec: null,
      note: `${done} of ${total}${rate}`,
    };
    this.#begun = true;
    if (!began) this.#display.start(view);
    if (note !== undefined) {
      this.#display.finish(`${this.#label}: ${note}`);
      this.#display.start(view);
    } else this.#display.update(view);
  }

  finish({ made, wallSec }: ExtractionSummary): void {
    this.#display.finish(`${this.#label}: ${made} images encoded in ${formatDuration(wallSec)}`);
  }

  clear(): void {
    this.#display.clear();
  }
}
