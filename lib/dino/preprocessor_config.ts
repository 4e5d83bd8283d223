/**
 * Hugging Face's `preprocessor_config.json` as the data that `preprocess` takes.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError, oneLine } from "novae/tensor/mod.ts";
import type { PixelSize, ResizeFilter } from "novae/io/mod.ts";
import type { Preprocessing } from "./preprocessing.ts";

const side = z.int().positive();
const rectangle = z.object({ height: side, width: side });
const channels = z.array(z.number(), "three numbers").length(3, "three numbers");
const flag = z.boolean("true or false");

/** The keys that say what happens to pixels; others, such as those about containers and devices, are let pass. */
const schema = z.object({
  image_processor_type: z.string("text").optional(),
  feature_extractor_type: z.string("text").optional(),
  do_resize: flag.default(true),
  size: z.union([rectangle, z.strictObject({ shortest_edge: side }), side], {
    error: "height and width, shortest_edge or a whole number",
  }).nullish(),
  resample: z.int("a whole number").nullish(),
  do_center_crop: flag.nullish(),
  crop_size: z.union([rectangle, side], { error: "height and width or a whole number" }).nullish(),
  do_rescale: flag.default(true),
  rescale_factor: z.number("a number").positive("positive").default(1 / 255),
  do_normalize: flag.default(true),
  image_mean: channels.nullish(),
  image_std: channels.nullish(),
  do_pad: z.literal(false, "false").nullish(),
}, "an object");
type Given = z.output<typeof schema>;
type Fail = (problem: string) => never;

/** Pillow's numbers of its filters; 0 is nearest, 5 Hamming. */
const FILTERS: Readonly<Record<number, ResizeFilter>> = {
  1: "lanczos3",
  2: "bilinear",
  3: "bicubic",
  4: "box",
};

/**
 * Reads the preparation of images from the value of a `preprocessor_config.json`.
 *
 * The resize works on numbers where the processor is DINOv3's and on bytes otherwise; half a pixel in the middle crop
 * is rounded to the even side as torchvision does. *Differs*: Hugging Face's processors that are not "fast" round it
 * down, which moves the crop by one pixel where the number of pixels left over is 3, 7, 11 …
 *
 * @param input the parsed JSON.
 * @param source the file, for errors.
 * @throws ConfigError naming the key that is missing, wrong or asks for something else.
 */
export function parsePreprocessorConfig(input: unknown, source = "preprocessor_config.json"): Preprocessing {
  const fail: Fail = (problem) => {
    throw new ConfigError(`Cannot use ${source}: ${problem}`);
  };
  const parsed = schema.safeParse(input);
  if (!parsed.success) {
    const [{ path, message }] = parsed.error.issues;
    return fail(`${path.length > 0 ? `"${path.join(".")}"` : "it"} must be ${message}`);
  }
  const given = parsed.data;
  return {
    ...resizeOf(given, fail),
    bytes: !processorOf(given).startsWith("DINOv3"),
    crop: cropOf(given, fail),
    scale: given.do_rescale ? asUnit(given.rescale_factor) : 255,
    ...normalizationOf(given, fail),
  };
}

function processorOf(given: Given): string {
  return given.image_processor_type ?? given.feature_extractor_type ?? "";
}

function resizeOf(given: Given, fail: Fail): Pick<Preprocessing, "resize" | "filter"> {
  if (!given.do_resize) return { resize: null, filter: "bilinear" };
  const { size, resample } = given, processor = processorOf(given);
  const filter = FILTERS[resample ?? -1];
  if (filter === undefined) return fail(`"resample" must be 1, 2, 3 or 4, got ${resample ?? "nothing"}`);
  if (size === undefined || size === null) return fail('"size" must be given, as "do_resize" is true');
  if (typeof size !== "number") {
    return { resize: "shortest_edge" in size ? { shortestEdge: size.shortest_edge } : size, filter };
  }
  // Files of before 2022 have a number, whose meaning is the processor's.
  if (/^(Bit|CLIP)/.test(processor)) return { resize: { shortestEdge: size }, filter };
  if (/^(ViT|DINOv3ViT)/.test(processor)) return { resize: { height: size, width: size }, filter };
  return fail(`"size" must say height and width or shortest_edge, got ${size} for "${oneLine(processor)}"`);
}

function normalizationOf(given: Given, fail: Fail): Pick<Preprocessing, "mean" | "std"> {
  if (!given.do_normalize) return { mean: [0, 0, 0], std: [1, 1, 1] };
  const { image_mean: mean, image_std: std } = given;
  if (!mean || !std) return fail('"image_mean" and "image_std" must be given, as "do_normalize" is true');
  if (std.some((value) => value <= 0)) fail(`"image_std" must be positive, got ${std.join(", ")}`);
  return { mean, std };
}

function cropOf(given: Given, fail: Fail): PixelSize | null {
  if (!given.do_center_crop) return null;
  const { crop_size: crop } = given;
  if (crop === undefined || crop === null) {
    return fail('"crop_size" must be given, as "do_center_crop" is true');
  }
  return typeof crop === "number" ? { height: crop, width: crop } : crop;
}

/** The factor for pixels in [0, 1] of one for bytes; files have 1 / 255 with 16 digits or fewer. */
function asUnit(factor: number): number {
  const scale = 255 * factor;
  return Math.abs(scale - 1) < 1e-9 ? 1 : scale;
}
