/**
 * Colour transforms of one image in host memory: jitter, grey and solarisation. All work in place on float32
 * [H, W, 3] in [0, 1].
 *
 * @module
 */
import type { Rng } from "novae/tensor/mod.ts";

/** Ranges that {@link sampleColorChange} draws from. */
export interface ColorJitter {
  /** Probability that brightness, contrast, saturation and hue change at all. */
  readonly probability: number;
  /** Factors are uniform in 1 ± this. */
  readonly brightness: number;
  /** Factors are uniform in 1 ± this. */
  readonly contrast: number;
  /** Factors are uniform in 1 ± this. */
  readonly saturation: number;
  /** Turns of the colour circle are uniform in ± this. */
  readonly hue: number;
  /** Probability that the image becomes grey. */
  readonly grayscale: number;
}

/** One change of colours. */
export interface ColorChange {
  /** Factor on all channels; 1 changes nothing. */
  readonly brightness: number;
  /** Factor on the distance from the image's mean grey; 1 changes nothing. */
  readonly contrast: number;
  /** Factor on the distance from the pixel's grey; 1 changes nothing, 0 leaves a grey image. */
  readonly saturation: number;
  /** Turn of the colours about the grey axis as a fraction of a circle; 0 changes nothing. */
  readonly hue: number;
}

/** ITU-R 601 luma, as Pillow converts to grey. */
export const LUMA: readonly [number, number, number] = [0.299, 0.587, 0.114];

/** Draws a change of colours. */
export function sampleColorChange(rng: Rng, jitter: ColorJitter): ColorChange {
  const around = (spread: number) => Math.max(0, rng.range(1 - spread, 1 + spread));
  const jittered = rng.next() < jitter.probability;
  const brightness = around(jitter.brightness), contrast = around(jitter.contrast);
  const saturation = around(jitter.saturation), hue = rng.range(-jitter.hue, jitter.hue);
  const gray = rng.next() < jitter.grayscale;
  if (!jittered) return { brightness: 1, contrast: 1, saturation: gray ? 0 : 1, hue: 0 };
  return { brightness, contrast, saturation: gray ? 0 : saturation, hue };
}

/**
 * Changes brightness, contrast, saturation and hue, then clamps to [0, 1].
 *
 *     out = S · H · (c · b · in + (1 − c) · b · mean grey)
 *
 * with H the rotation about the grey axis and S = s·1 + (1 − s)·(luma in each row).
 *
 * *Source*: torchvision `ColorJitter`, `RandomGrayscale`. *Differs*: always in this order and clamped once, so that it
 * is one matrix (`jitterColors` has its form); hue turns about the grey axis of RGB instead of the circle of HSV, equal at thirds of a turn.
 *
 * @param pixels float32 [H, W, 3]; changed in place.
 */
export function changeColors(pixels: Float32Array, change: ColorChange): void {
  const { brightness, contrast, saturation } = change;
  let meanR = 0, meanG = 0, meanB = 0;
  for (let i = 0; i < pixels.length; i += 3) {
    meanR += pixels[i];
    meanG += pixels[i + 1];
    meanB += pixels[i + 2];
  }
  const gray = 3 * (LUMA[0] * meanR + LUMA[1] * meanG + LUMA[2] * meanB) / pixels.length;
  // A grey offset passes through rotation and saturation unchanged.
  const offset = (1 - contrast) * brightness * gray;
  const m = hueRotation(change.hue).map((row, i, rows) =>
    row.map((_, j) => {
      const luma = LUMA[0] * rows[0][j] + LUMA[1] * rows[1][j] + LUMA[2] * rows[2][j];
      return contrast * brightness * (saturation * rows[i][j] + (1 - saturation) * luma);
    })
  );
  const [[rr, rg, rb], [gr, gg, gb], [br, bg, bb]] = m;
  for (let i = 0; i < pixels.length; i += 3) {
    const r = pixels[i], g = pixels[i + 1], b = pixels[i + 2];
    pixels[i] = clamp(rr * r + rg * g + rb * b + offset);
    pixels[i + 1] = clamp(gr * r + gg * g + gb * b + offset);
    pixels[i + 2] = clamp(br * r + bg * g + bb * b + offset);
  }
}

function clamp(value: number): number {
  return value < 0 ? 0 : value > 1 ? 1 : value;
}

/** Rotation by a fraction of a turn about (1, 1, 1), red to green to blue (Rodrigues' formula). */
function hueRotation(turn: number): number[][] {
  const cos = Math.cos(2 * Math.PI * turn), sin = Math.sin(2 * Math.PI * turn) / Math.sqrt(3);
  const same = (1 + 2 * cos) / 3, next = (1 - cos) / 3 - sin, previous = (1 - cos) / 3 + sin;
  return [[same, next, previous], [previous, same, next], [next, previous, same]];
}

/**
 * Inverts what is at or above the threshold.
 *
 *     out = in < threshold ? in : 1 − in
 *
 * *Source*: Pillow's `ImageOps.solarize`, whose threshold is the byte 128.
 *
 * @param pixels float32, changed in place.
 */
export function solarize(pixels: Float32Array, threshold: number = 128 / 255): void {
  for (let i = 0; i < pixels.length; i++) if (pixels[i] >= threshold) pixels[i] = 1 - pixels[i];
}
