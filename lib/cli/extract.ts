/**
 * `novae extract`: features of a whole data set, in shards.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { sizeOf } from "novae/tensor/mod.ts";
import { resolveDevice } from "novae/engine/mod.ts";
import { extractFeatures, type ExtractionSummary, loadEncoder, type TokenChoice } from "novae/dino/mod.ts";
import { addImagesOptions, type ImagesOptions, openImages } from "./_images.ts";
import { addShardOptions, encodedLine, type ShardOptions, storageOf } from "./_shard_options.ts";
import { ShownDownload } from "./_shown_download.ts";
import { ShownImages } from "./_shown_images.ts";

interface ExtractOptions extends ImagesOptions, ShardOptions {
  encoder: string;
  tokens: TokenChoice;
  flip: boolean;
  lastBlocks: number;
  size?: number;
}

/** Adds the command to the program. */
export function registerExtract(program: Command): void {
  const command = program.command("extract")
    .description("write the features of all images of a data set, in shards that are read at random");
  addShardOptions(addImagesOptions(command))
    .requiredOption(
      "--encoder <reference>",
      "repository of the hub, such as facebook/dinov2-small, @ and a revision if wanted; folder or file",
    )
    .addOption(
      new Option("--tokens <which>", "tokens to keep").choices(["cls", "patches", "both"]).default("both"),
    )
    .option("--flip", "keep the tokens of the mirror images too", false)
    .option("--last-blocks <n>", "keep the tokens of the last n blocks instead of the final ones", Number, 0)
    .option("--size <pixels>", "edge of the images that the encoder sees; its own if omitted", Number)
    .action(extract);
}

async function extract(options: ExtractOptions): Promise<void> {
  const { device, reason } = await resolveDevice(options.device);
  const images = await openImages("Cannot extract features", options),
    encoder = await encoderOf(options.encoder);
  const shown = new ShownImages(`Extract ${images.name}`);
  try {
    const summary = await extractFeatures(options.out, {
      ...options,
      images,
      encoder,
      device,
      dtype: storageOf(options),
      onProgress: (progress) => shown.update(progress),
    });
    shown.finish(summary);
    if (options.json) console.log(JSON.stringify({ folder: options.out, device, ...summary }));
    else console.log(describe(options, summary, `${device} (${reason})`));
  } finally {
    shown.clear();
  }
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
  const { count, tensors } = summary, bytes = dtype === "fp16" ? 2 : 4;
  const forms = Object.entries(tensors).map(([name, shape]) => `${name} [${shape.join(", ")}]`);
  const numbers = Object.values(tensors).reduce((sum, shape) => sum + sizeOf(shape), 0);
  return [
    `${count} images in ${out}: ${forms.join(", ")} in ${dtype}, ${
      (count * numbers * bytes / 1e6).toFixed(1)
    } MB`,
    encodedLine(summary, where),
  ].join("\n");
}
