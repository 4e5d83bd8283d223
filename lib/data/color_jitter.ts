/**
 * Colour jitter and grey as torchvision makes them, of one image in host memory: in place on float32 [H, W, 3] in
 * [0, 1].
 *
 * @module
 */
import type { Rng } from "novae/tensor/mod.ts";
import { type ColorChange, type ColorJitter, LUMA, sampleColorChange } from "./color_transform.ts";

/** The four changes of {@link jitterColors}. */
export type ColorStep = "brightness" | "contrast" | "saturation" | "hue";

const STEPS: readonly ColorStep[] = ["brightness", "contrast", "saturation", "hue"];

/** A change of colours step by step. */
export interface OrderedColorChange extends ColorChange {
  /** In which order its steps are made. */
  readonly order: readonly ColorStep[];
}

/** Draws a change of colours in a random order; `saturation` is 0 where the image becomes grey, which comes last. */
export function sampleOrderedColorChange(
  rng: Rng,
  jitter: ColorJitter,
): OrderedColorChange & { gray: boolean } {
  const change = sampleColorChange(rng, { ...jitter, grayscale: 0 });
  return {
    ...change,
    order: Array.from(rng.permutation(4), (step) => STEPS[step]),
    gray: rng.next() < jitter.grayscale,
  };
}

/**
 * Changes brightness, contrast, saturation and hue one after another, each clamped to [0, 1].
 *
 *     brightness  out = b · in
 *     contrast    out = c · in + (1 − c) · mean grey of the image
 *     saturation  out = s · in + (1 − s) · grey of the pixel
 *     hue         out = in with its hue in HSV turned by h of a circle
 *
 * *Source*: `ColorJitter` of torchvision. *Differs*: no rounding to bytes between the steps.
 *
 * @param pixels float32 [H, W, 3]; changed in place.
 */
export function jitterColors(pixels: Float32Array, change: OrderedColorChange): void {
  for (const step of change.order) {
    const amount = change[step];
    if (step === "hue") turnHue(pixels, amount);
    else if (amount !== 1) BLENDS[step](pixels, amount);
  }
}

const BLENDS: Readonly<Record<Exclude<ColorStep, "hue">, (pixels: Float32Array, amount: number) => void>> = {
  brightness(pixels, b) {
    for (let i = 0; i < pixels.length; i++) pixels[i] = clamp(b * pixels[i]);
  },
  contrast(pixels, c) {
    let sum = 0;
    for (let i = 0; i < pixels.length; i += 3) sum += grayOf(pixels, i);
    const offset = (1 - c) * 3 * sum / pixels.length;
    for (let i = 0; i < pixels.length; i++) pixels[i] = clamp(c * pixels[i] + offset);
  },
  saturation(pixels, s) {
    for (let i = 0; i < pixels.length; i += 3) {
      const offset = (1 - s) * grayOf(pixels, i);
      for (let c = i; c < i + 3; c++) pixels[c] = clamp(s * pixels[c] + offset);
    }
  },
};

/** Makes every pixel grey, in place. */
export function makeGray(pixels: Float32Array): void {
  for (let i = 0; i < pixels.length; i += 3) pixels.fill(grayOf(pixels, i), i, i + 3);
}

function grayOf(pixels: Float32Array, i: number): number {
  return LUMA[0] * pixels[i] + LUMA[1] * pixels[i + 1] + LUMA[2] * pixels[i + 2];
}

/** Turns hues by a part of the circle of HSV; lightest and darkest channel of each pixel stay as they are. */
function turnHue(pixels: Float32Array, turn: number): void {
  if (turn === 0) return;
  for (let i = 0; i < pixels.length; i += 3) {
    const r = pixels[i], g = pixels[i + 1], b = pixels[i + 2];
    const light = Math.max(r, g, b), range = light - Math.min(r, g, b);
    if (range === 0) continue;
    let sixth = light === r ? (g - b) / range : light === g ? 2 + (b - r) / range : 4 + (r - g) / range;
    sixth = (sixth + 6 * turn + 12) % 6;
    pixels[i] = light - range * distance(sixth, 5);
    pixels[i + 1] = light - range * distance(sixth, 3);
    pixels[i + 2] = light - range * distance(sixth, 1);
  }
}

/** How far a channel lies below the lightest, as a part of the range: 0 near its own hue, 1 on the other side. */
function distance(sixth: number, offset: number): number {
  const k = (offset + sixth) % 6;
  return Math.max(0, Math.min(k, 4 - k, 1));
}

function clamp(value: number): number {
  return value < 0 ? 0 : value > 1 ? 1 : value;
}
