/**
 * Multi-crop: the views of each image that self-distillation learns from.
 *
 * @module
 */
import { expectShape, type HostTensor, type Rng } from "novae/tensor/mod.ts";
import { resizeFloats } from "novae/io/mod.ts";
import { jitterColors, makeGray, sampleOrderedColorChange } from "./color_jitter.ts";
import { changeColors, type ColorJitter, sampleColorChange, solarize } from "./color_transform.ts";
import { gaussianBlur, pillowBlur } from "./gaussian_blur.ts";
import { cropInto, sampleCropBox } from "./resized_crop.ts";

/** How views are made; probabilities are in [0, 1]. */
export interface MultiCropOptions {
  /** Side of the global views in pixels. */
  readonly globalSize: number;
  /** Side of the local views in pixels. */
  readonly localSize: number;
  /** Number of global views; 2 if omitted. */
  readonly globals?: number;
  /** Number of local views; 4 if omitted. */
  readonly locals?: number;
  /** Part of the image's area that a global view shows; [0.4, 1] if omitted. */
  readonly globalScale?: readonly [number, number];
  /** The same for local views; [0.05, 0.4] if omitted. */
  readonly localScale?: readonly [number, number];
  /** How crops are resized; bicubic if omitted. */
  readonly filter?: "bilinear" | "bicubic";
  /**
   * Side of undistorted versions of the global views, of which the global views are then made; none if omitted.
   */
  readonly baseSize?: number;
  /** Probability of a horizontal flip; 0.5 if omitted. */
  readonly flip?: number;
  /** Colour changes, key by key; DINO's (0.8; 0.4, 0.4, 0.2, 0.1; grey 0.2) for those omitted. */
  readonly jitter?: Partial<ColorJitter>;
  /**
   * How colours change: in steps of random order as torchvision does (`torchvision`), or by one matrix (`matrix`, see
   * {@link changeColors}); `torchvision` if omitted.
   */
  readonly colors?: "torchvision" | "matrix";
  /** Probability of blur in the first global view, the other global views and the local ones; [1, 0.1, 0.5] if omitted. */
  readonly blur?: readonly [number, number, number];
  /**
   * Kernel of the blur: Pillow's boxes (`pillow`, DINO), nine pixels of a Gaussian (`torchvision`, DINOv2) or a
   * Gaussian that scales with the view (`relative`); `pillow` if omitted.
   */
  readonly blurKernel?: "pillow" | "torchvision" | "relative";
  /**
   * Standard deviation of the blur, in pixels or, for `relative`, as a part of the view's side; [0.1, 2] if omitted.
   */
  readonly blurSigma?: readonly [number, number];
  /** Probability that a global view but the first is solarised; 0.2 if omitted. */
  readonly solarize?: number;
}

/** Views of a batch: each entry holds one view of every image. */
export interface MultiCropViews {
  /** float32 `imageUnit` [B, globalSize, globalSize, 3], one tensor a global view. */
  readonly globals: HostTensor[];
  /** float32 `imageUnit` [B, localSize, localSize, 3], one tensor a local view. */
  readonly locals: HostTensor[];
  /** Undistorted global views [B, baseSize, baseSize, 3], one tensor a global view; empty unless asked for. */
  readonly bases: HostTensor[];
}

interface ViewRecipe {
  readonly name: string;
  readonly size: number;
  readonly baseSize?: number;
  readonly scale: readonly [number, number];
  readonly blur: number;
  readonly solarize: number;
}

const DINO_JITTER: ColorJitter = {
  probability: 0.8,
  brightness: 0.4,
  contrast: 0.4,
  saturation: 0.2,
  hue: 0.1,
  grayscale: 0.2,
};

const DEFAULTS = {
  globals: 2,
  locals: 4,
  globalScale: [0.4, 1],
  localScale: [0.05, 0.4],
  filter: "bicubic",
  flip: 0.5,
  colors: "torchvision",
  blur: [1, 0.1, 0.5],
  blurKernel: "pillow",
  blurSigma: [0.1, 2],
  solarize: 0.2,
} as const;

type Distortion =
  & Required<Pick<MultiCropOptions, "filter" | "flip" | "colors" | "blurKernel" | "blurSigma">>
  & {
    readonly jitter: ColorJitter;
  };

/**
 * Makes the views of a batch: random resized crop, flip, colour jitter, grey, blur and solarisation.
 *
 * View v of image b depends on nothing but the stream and (v, b): give each training step its own stream,
 * `rng.split("views", step)`, and a resumed training sees the same views.
 *
 * *Source*: `DataAugmentationDINO` of facebookresearch/dino, whose numbers are the defaults, dinov2 and dinov3 (for
 * `baseSize`, its `gram_teacher_no_distortions`). *Differs*: no rounding to bytes between the steps; bicubic crops are
 * clamped to [0, 1] once.
 *
 * @param images float32 [B, H, W, 3] in [0, 1], not changed: one tensor that all views are taken from, or one for each
 * view, e.g. other pictures of the same things, global views first.
 * @returns new tensors.
 * @throws TypeError if the images have another shape, or there is another number of tensors.
 */
export function multiCrop(
  images: HostTensor | readonly HostTensor[],
  rng: Rng,
  options: MultiCropOptions,
): MultiCropViews {
  const sources = "shape" in images ? [images] : images;
  for (const { shape } of sources) {
    expectShape("Cannot make views", shape, [sources[0].shape[0], null, null, 3]);
  }
  const given = Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== undefined),
  ) as unknown as MultiCropOptions;
  const all = {
    ...DEFAULTS,
    ...given,
  };
  const distortion: Distortion = { ...all, jitter: { ...DINO_JITTER, ...options.jitter } };
  const views = all.globals + all.locals;
  if (sources.length !== 1 && sources.length !== views) {
    throw new TypeError(
      `Cannot make views: images must be given once or for each of ${views} views, got ${sources.length} times`,
    );
  }
  const view = (recipe: ViewRecipe, index: number) =>
    makeView(sources[sources.length === 1 ? 0 : index], rng, recipe, distortion);
  const globals = Array.from({ length: all.globals }, (_, v) =>
    view({
      name: `global ${v}`,
      size: all.globalSize,
      baseSize: options.baseSize,
      scale: all.globalScale,
      blur: v === 0 ? all.blur[0] : all.blur[1],
      solarize: v === 0 ? 0 : all.solarize,
    }, v));
  const locals = Array.from(
    { length: all.locals },
    (_, v) =>
      view({
        name: `local ${v}`,
        size: all.localSize,
        scale: all.localScale,
        blur: all.blur[2],
        solarize: 0,
      }, all.globals + v),
  );
  return {
    globals: globals.map(({ views }) => views),
    locals: locals.map(({ views }) => views),
    bases: globals.flatMap(({ bases }) => bases ?? []),
  };
}

/** One view of every image. */
function makeView(
  images: HostTensor,
  rng: Rng,
  { name, size, baseSize, scale, blur, solarize: inverted }: ViewRecipe,
  distortion: Distortion,
): { views: HostTensor; bases?: HostTensor } {
  const [count, height, width] = images.shape, views = emptyViews(count, size), stream = rng.split(name);
  const bases = baseSize === undefined ? undefined : emptyViews(count, baseSize);
  const { flip, filter, blurSigma: [smallest, largest], blurKernel } = distortion;
  for (let b = 0; b < count; b++) {
    const draws = stream.split(b), view = imageOf(views, b);
    const box = sampleCropBox(draws, height, width, scale), flipped = draws.next() < flip;
    const cropped = bases ? imageOf(bases, b) : view, side = baseSize ?? size;
    cropInto(images.data, b * height * width * 3, width, box, side, flipped, cropped, filter);
    if (filter === "bicubic") clampUnit(cropped);
    if (bases) shrink(cropped, side, size, view);
    distortColors(view, draws, distortion);
    const blurred = draws.next() < blur, sigma = draws.range(smallest, largest);
    if (blurred) blurView(view, size, sigma, blurKernel);
    if (draws.next() < inverted) solarize(view);
  }
  return { views, ...(bases && { bases }) };
}

function distortColors(view: Float32Array, draws: Rng, { colors, jitter }: Distortion): void {
  if (colors === "matrix") return changeColors(view, sampleColorChange(draws, jitter));
  const change = sampleOrderedColorChange(draws, jitter);
  jitterColors(view, change);
  if (change.gray) makeGray(view);
}

/** Half the kernel of nine pixels that DINOv2 asks torchvision for. */
const TORCHVISION_RADIUS = 4;

function blurView(
  view: Float32Array,
  size: number,
  sigma: number,
  kernel: NonNullable<MultiCropOptions["blurKernel"]>,
): void {
  if (kernel === "relative") return gaussianBlur(view, size, size, size * sigma);
  if (kernel === "pillow") return pillowBlur(view, size, size, sigma);
  gaussianBlur(view, size, size, sigma, TORCHVISION_RADIUS);
}

/** Makes a global view of its larger undistorted version. */
function shrink(from: Float32Array, side: number, size: number, to: Float32Array): void {
  const area = { offset: 0, stride: side * 3, height: side, width: side, channels: 3 };
  resizeFloats(from, area, { height: size, width: size }, "bicubic", to);
  clampUnit(to);
}

function clampUnit(pixels: Float32Array): void {
  for (let i = 0; i < pixels.length; i++) pixels[i] = pixels[i] < 0 ? 0 : pixels[i] > 1 ? 1 : pixels[i];
}

function emptyViews(count: number, size: number): HostTensor & { data: Float32Array } {
  const data = new Float32Array(count * size * size * 3);
  return { dtype: "float32", shape: [count, size, size, 3], data };
}

function imageOf({ shape, data }: HostTensor & { data: Float32Array }, index: number): Float32Array {
  const stride = shape[1] * shape[2] * 3;
  return data.subarray(index * stride, (index + 1) * stride);
}
