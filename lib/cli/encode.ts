/**
 * `novae encode`: latents of a whole data set, in shards that a diffusion transformer is trained on.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import { type EncodedLatents, encodeLatents } from "novae/autoencoder/mod.ts";
import { openAutoencoder } from "./_autoencoder_file.ts";
import { addImagesOptions, type ImagesOptions, openImages } from "./_images.ts";
import { parseCount } from "./_options.ts";
import { ShownEncoding } from "./_shown_encoding.ts";

interface EncodeOptions extends ImagesOptions {
  autoencoder: string;
  encoder?: string;
  out: string;
  flip: boolean;
  dtype: "fp16" | "fp32";
  batchSize: number;
  rowsPerShard?: number;
  device: DeviceName;
  workers?: number;
  verify: "hash" | "header";
  json: boolean;
}

const WHAT = "Cannot encode latents";

/** Adds the command to the program. */
export function registerEncode(program: Command): void {
  const command = program.command("encode")
    .description("write the latents of all images of a data set, in shards for `novae train diffusion`");
  addImagesOptions(command)
    .requiredOption("--autoencoder <file>", "what encodes them, from `novae train autoencoder`")
    .option(
      "--encoder <reference>",
      "its frozen encoder: file, folder or repository of the hub; not for a vae",
    )
    .requiredOption("--out <folder>", "folder of the shards; one that was begun is gone on with")
    .option("--no-flip", "leave out the latents of the mirror images")
    .addOption(new Option("--dtype <type>", "storage").choices(["fp16", "fp32"]).default("fp16"))
    .option("--batch-size <n>", "images at a time", parseCount, 64)
    .option("--rows-per-shard <n>", "images a file; about 64 MB, 1024 or fewer, if omitted", parseCount)
    .option("--device <name>", "where to run", "auto")
    .option("--workers <n>", "threads that decode images; one a core if omitted", parseCount)
    .addOption(
      new Option("--verify <how>", "check of shards that are there: all data or headers alone")
        .choices(["hash", "header"]).default("hash"),
    )
    .option("--json", "print the result as JSON", false)
    .action(encode);
}

async function encode(options: EncodeOptions): Promise<void> {
  const { device, reason } = await resolveDevice(options.device);
  const opened = await openAutoencoder(WHAT, options.autoencoder, options.encoder, device);
  const { autoencoder } = opened;
  let shown: ShownEncoding | undefined;
  try {
    const images = await openImages(WHAT, options, autoencoder.imageSize);
    const shows = shown = new ShownEncoding(`Encode ${images.name}`);
    const summary = await encodeLatents(options.out, {
      ...options,
      images,
      autoencoder,
      dtype: options.dtype === "fp16" ? "float16" : "float32",
      onProgress: (progress) => shows.update(progress),
    });
    shown.finish(summary);
    const { name: space } = autoencoder;
    if (options.json) console.log(JSON.stringify({ folder: options.out, device, space, ...summary }));
    else console.log(describe(options, space, summary, `${device} (${reason})`));
  } finally {
    shown?.clear();
    await opened.dispose();
  }
}

function describe(
  { out, dtype, flip }: EncodeOptions,
  space: string,
  { count, shape: [tokens, channels], made, wallSec, imagesPerSec }: EncodedLatents,
  where: string,
): string {
  const bytes = count * tokens * channels * (dtype === "fp16" ? 2 : 4) * (flip ? 2 : 1);
  const rate = imagesPerSec === null ? "" : `, ${imagesPerSec.toFixed(1)} images/s`;
  return [
    `${count} images in ${out}: ${space} latents [${tokens}, ${channels}]${
      flip ? ", also mirrored," : ""
    } in ${dtype}, ${(bytes / 1e6).toFixed(1)} MB`,
    `${made} of them encoded now on ${where} in ${wallSec.toFixed(1)} s${rate}`,
  ].join("\n");
}
