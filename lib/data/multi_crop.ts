/**
 * Multi-crop: the views of each image that self-distillation learns from.
 *
 * @module
 */
import { expectShape, type HostTensor, type Rng } from "novae/tensor/mod.ts";
import {
  changeColors,
  type ColorJitter,
  gaussianBlur,
  sampleColorChange,
  solarize,
} from "./color_transform.ts";
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
  /** Probability of a horizontal flip; 0.5 if omitted. */
  readonly flip?: number;
  /** Colour changes, key by key; DINO's (0.8; 0.4, 0.4, 0.2, 0.1; grey 0.2) for those omitted. */
  readonly jitter?: Partial<ColorJitter>;
  /** Probability of blur in the first global view, the other global views and the local ones; [1, 0.1, 0.5] if omitted. */
  readonly blur?: readonly [number, number, number];
  /** Standard deviation of the blur as a part of the view's side; [0.1, 2] / 224 if omitted. */
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
}

interface ViewRecipe {
  readonly name: string;
  readonly size: number;
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

/**
 * Makes the views of a batch: random resized crop, flip, colour jitter, grey, blur and solarisation.
 *
 * View v of image b depends on nothing but the stream and (v, b): give each training step its own stream,
 * `rng.split("views", step)`, and a resumed training sees the same views.
 *
 * *Source*: facebookresearch/dino `main_dino.py`, `DataAugmentationDINO`. *Differs*: colour changes are one matrix
 * (see {@link changeColors}); crops are bilinear instead of bicubic; the blur's radius scales with the view's side.
 *
 * @param imageUnitBHWC float32 [B, H, W, 3] in [0, 1]; not changed.
 * @returns new tensors.
 * @throws TypeError if the images have another shape.
 */
export function multiCrop(imageUnitBHWC: HostTensor, rng: Rng, options: MultiCropOptions): MultiCropViews {
  expectShape("Cannot make views", imageUnitBHWC.shape, [null, null, null, 3]);
  const { globalSize, localSize, globals = 2, locals = 4 } = options;
  const { globalScale = [0.4, 1], localScale = [0.05, 0.4], blur = [1, 0.1, 0.5] } = options;
  const shared = { flip: 0.5, blurSigma: [0.1 / 224, 2 / 224] as const, ...options };
  const jitter = { ...DINO_JITTER, ...options.jitter };
  const view = (recipe: ViewRecipe) => makeView(imageUnitBHWC, rng, recipe, jitter, shared);
  return {
    globals: Array.from({ length: globals }, (_, v) =>
      view({
        name: `global ${v}`,
        size: globalSize,
        scale: globalScale,
        blur: v === 0 ? blur[0] : blur[1],
        solarize: v === 0 ? 0 : options.solarize ?? 0.2,
      })),
    locals: Array.from(
      { length: locals },
      (_, v) => view({ name: `local ${v}`, size: localSize, scale: localScale, blur: blur[2], solarize: 0 }),
    ),
  };
}

/** One view of every image. */
function makeView(
  images: HostTensor,
  rng: Rng,
  { name, size, scale, blur, solarize: inverted }: ViewRecipe,
  jitter: ColorJitter,
  { flip, blurSigma }: { flip: number; blurSigma: readonly [number, number] },
): HostTensor {
  const [count, height, width] = images.shape, stride = size * size * 3;
  const data = new Float32Array(count * stride), stream = rng.split(name);
  for (let b = 0; b < count; b++) {
    const draws = stream.split(b), view = data.subarray(b * stride, (b + 1) * stride);
    const box = sampleCropBox(draws, height, width, scale), flipped = draws.next() < flip;
    cropInto(images.data, b * height * width * 3, width, box, size, flipped, view);
    changeColors(view, sampleColorChange(draws, jitter));
    const blurred = draws.next() < blur, sigma = size * draws.range(blurSigma[0], blurSigma[1]);
    if (blurred) gaussianBlur(view, size, size, sigma);
    if (draws.next() < inverted) solarize(view);
  }
  return { dtype: "float32", shape: [count, size, size, 3], data };
}
