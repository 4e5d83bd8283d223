/**
 * What an extraction of features writes: decided from its options alone, before anything is computed.
 *
 * @module
 */
import { ConfigError } from "novae/tensor/mod.ts";
import type { PixelSize } from "novae/io/mod.ts";
import {
  type Dataset,
  framedSize,
  type ImageFiles,
  isImageFiles,
  planFrame,
  type ShardPlan,
  usualShardRows,
} from "novae/data/mod.ts";
import type { VitConfig } from "./config.ts";
import { type Preprocessing, preprocessingAt } from "./preprocessing.ts";

/** Which tokens are kept. */
export type TokenChoice = "cls" | "patches" | "both";

/** What is extracted, and how it is stored. */
export interface ExtractionSettings {
  /** Which tokens are kept; both if omitted. */
  readonly tokens?: TokenChoice;
  /** Whether the tokens of the mirror images are kept beside them, as `mirrored.cls` and so on; false if omitted. */
  readonly flip?: boolean;
  /**
   * Number of last blocks whose tokens are kept, as `block10.cls`, `block10.patches`, `block11.cls` …; 0, the default,
   * keeps the tokens behind the last block as `cls` and `patches`.
   */
  readonly lastBlocks?: number;
  /** Whether the tokens of the last blocks pass the final normalisation; true if omitted. */
  readonly norm?: boolean;
  /** Storage; float16 if omitted. */
  readonly dtype?: "float16" | "float32";
  /** Height and width of the images that the encoder sees; that of its preprocessing if omitted. */
  readonly size?: number;
  /** Rows a shard; if omitted a power of two that makes at most 64 MB, 1024 or fewer. */
  readonly rowsPerShard?: number;
}

/** One tensor of each row. */
export interface FeatureForm {
  /** Name in the shards. */
  readonly name: string;
  /** Which of the encoder's outputs it is: the number of one of the last blocks asked for, or null for the final one. */
  readonly block: number | null;
  /** Which tokens. */
  readonly kind: "cls" | "patches";
  /** Whether it is of the mirror images. */
  readonly mirrored: boolean;
  /** Shape of one row. */
  readonly shape: readonly number[];
}

/** An extraction with everything decided. */
export interface ExtractionPlan {
  /** What the shards are told. */
  readonly shards: ShardPlan;
  /** How images are prepared. */
  readonly preprocessing: Preprocessing;
  /** Extents of the images that the encoder sees. */
  readonly size: PixelSize;
  /** Tensors of each row. */
  readonly forms: readonly FeatureForm[];
  /** Their shapes by name. */
  readonly tensors: Readonly<Record<string, readonly number[]>>;
}

/**
 * Decides what an extraction writes.
 *
 * @param encoder settings, hash and preparation of the encoder.
 * @throws ConfigError for settings that cannot be used with this encoder and these images.
 */
export function planExtraction(
  images: Dataset | ImageFiles,
  encoder: {
    readonly config: VitConfig;
    readonly hash: string;
    readonly family: string;
    readonly preprocessing: Preprocessing;
  },
  settings: ExtractionSettings,
): ExtractionPlan {
  const { tokens = "both", lastBlocks = 0, norm = true, dtype = "float16" } = settings;
  expectSettings(settings, encoder.config);
  const preprocessing = settings.size === undefined
    ? encoder.preprocessing
    : preprocessingAt(encoder.preprocessing, settings.size);
  const size = sizeOfImages(images, preprocessing), grid = gridOf(size, encoder.config);
  const plain = featureForms(tokens, lastBlocks, encoder.config, grid[0] * grid[1]);
  const forms = settings.flip ? [...plain, ...plain.map(mirroredForm)] : plain;
  const shapes = Object.fromEntries(forms.map(({ name, shape }) => [name, shape]));
  const config = {
    kind: "dino-features",
    encoder: { hash: encoder.hash, family: encoder.family, settings: encoder.config },
    data: { name: images.name, hash: images.hash, classes: images.classes },
    preprocessing,
    size,
    grid,
    tokens,
    lastBlocks,
    norm,
    ...(settings.flip && { flip: true }),
  };
  const rowsPerShard = settings.rowsPerShard ?? usualShardRows(shapes, dtype);
  const shards = { config, count: images.size, rowsPerShard, dtype };
  return { shards, preprocessing, size, forms, tensors: shapes };
}

function mirroredForm(form: FeatureForm): FeatureForm {
  return { ...form, name: `mirrored.${form.name}`, mirrored: true };
}

function gridOf({ height, width }: PixelSize, { patchSize }: VitConfig): [number, number] {
  if (height % patchSize === 0 && width % patchSize === 0) return [height / patchSize, width / patchSize];
  throw new ConfigError(
    `Cannot extract features: size must be a multiple of the encoder's patch, ${patchSize}, got ${width} × ${height}`,
  );
}

function expectSettings(
  { tokens, lastBlocks = 0, dtype, size, rowsPerShard = 1 }: ExtractionSettings,
  config: VitConfig,
) {
  const fail = (what: string, got: unknown) =>
    new ConfigError(`Cannot extract features: ${what}, got ${got}`);
  const whole = (value: number, least: number) => Number.isSafeInteger(value) && value >= least;
  if (!["cls", "patches", "both", undefined].includes(tokens)) {
    throw fail("tokens must be cls, patches or both", tokens);
  }
  if (!["float16", "float32", undefined].includes(dtype)) {
    throw fail("dtype must be float16 or float32", dtype);
  }
  if (!whole(lastBlocks, 0) || lastBlocks > config.depth) {
    throw fail(`the number of last blocks must be 0 to ${config.depth}`, lastBlocks);
  }
  if (size !== undefined && !whole(size, 1)) throw fail("size must be a positive whole number", size);
  if (!whole(rowsPerShard, 1)) throw fail("rows per shard must be a positive whole number", rowsPerShard);
}

function sizeOfImages(images: Dataset | ImageFiles, preprocessing: Preprocessing): PixelSize {
  if (isImageFiles(images)) {
    const size = framedSize(preprocessing);
    if (size !== null) return size;
    throw new ConfigError(
      "Cannot extract features: the encoder's preprocessing leaves images at different sizes; give a size",
    );
  }
  try {
    const { height, width } =
      planFrame({ height: images.imageSize, width: images.imageSize }, preprocessing).crop;
    return { height, width };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ConfigError(error.message, { cause: error });
  }
}

function featureForms(
  tokens: TokenChoice,
  lastBlocks: number,
  { width, depth }: VitConfig,
  patches: number,
): FeatureForm[] {
  const kinds = tokens === "both" ? ["cls", "patches"] as const : [tokens];
  const shapes = { cls: [width], patches: [patches, width] };
  const mirrored = false;
  if (lastBlocks === 0) {
    return kinds.map((kind) => ({ name: kind, block: null, kind, mirrored, shape: shapes[kind] }));
  }
  return Array.from({ length: lastBlocks }, (_, block) => {
    const number = String(depth - lastBlocks + block).padStart(2, "0");
    return kinds.map((kind) => ({
      name: `block${number}.${kind}`,
      block,
      kind,
      mirrored,
      shape: shapes[kind],
    }));
  }).flat();
}
