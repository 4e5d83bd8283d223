/**
 * `novae encode`: latents of a whole data set, in shards that a diffusion transformer is trained on.
 *
 * @module
 */
import type { Command } from "commander";
import { resolveDevice } from "novae/engine/mod.ts";
import { type EncodedLatents, encodeLatents } from "novae/autoencoder/mod.ts";
import { openAutoencoder } from "./_autoencoder_file.ts";
import { addImagesOptions, type ImagesOptions, openImages } from "./_images.ts";
import { addShardOptions, encodedLine, type ShardOptions, storageOf } from "./_shard_options.ts";
import { ShownImages } from "./_shown_images.ts";

interface EncodeOptions extends ImagesOptions, ShardOptions {
  autoencoder: string;
  encoder?: string;
  flip: boolean;
}

const WHAT = "Cannot encode latents";

/** Adds the command to the program. */
export function registerEncode(program: Command): void {
  const command = program.command("encode")
    .description("write the latents of all images of a data set, in shards for `novae train diffusion`");
  addShardOptions(addImagesOptions(command))
    .requiredOption("--autoencoder <file>", "what encodes them, from `novae train autoencoder`")
    .option(
      "--encoder <reference>",
      "its frozen encoder: file, folder or repository of the hub; not for a vae",
    )
    .option("--no-flip", "leave out the latents of the mirror images")
    .action(encode);
}

async function encode(options: EncodeOptions): Promise<void> {
  const { device, reason } = await resolveDevice(options.device);
  const opened = await openAutoencoder(WHAT, options.autoencoder, options.encoder, device);
  const { autoencoder } = opened;
  let shown: ShownImages | undefined;
  try {
    const images = await openImages(WHAT, options, autoencoder.imageSize);
    const shows = shown = new ShownImages(`Encode ${images.name}`);
    const summary = await encodeLatents(options.out, {
      ...options,
      images,
      autoencoder,
      dtype: storageOf(options),
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
  latents: EncodedLatents,
  where: string,
): string {
  const { count, shape: [tokens, channels] } = latents;
  const bytes = count * tokens * channels * (dtype === "fp16" ? 2 : 4) * (flip ? 2 : 1);
  return [
    `${count} images in ${out}: ${space} latents [${tokens}, ${channels}]${
      flip ? ", also mirrored," : ""
    } in ${dtype}, ${(bytes / 1e6).toFixed(1)} MB`,
    encodedLine(latents, where),
  ].join("\n");
}
