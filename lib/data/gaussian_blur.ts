/**
 * Gaussian blur of one image in host memory, true and as Pillow approximates it: in place on float32 [H, W, 3].
 *
 * @module
 */

let blurred = new Float32Array(0);

/**
 * Blurs with a Gaussian of standard deviation `sigma` pixels; the image goes on mirrored beyond its edges.
 *
 * *Source*: torchvision's `GaussianBlur` with a kernel of 2 · `radius` + 1.
 *
 * @param pixels float32 [height, width, 3]; changed in place.
 * @param sigma above 0.
 * @param radius where the Gaussian is cut, in pixels; below height and width. ⌈3 σ⌉ if omitted.
 */
export function gaussianBlur(
  pixels: Float32Array,
  height: number,
  width: number,
  sigma: number,
  radius: number = Math.ceil(3 * sigma),
): void {
  if (!(sigma > 0) || radius >= Math.min(height, width)) {
    throw new RangeError(
      `Cannot blur: sigma must be above 0 and its radius below ${
        Math.min(height, width)
      }, got ${sigma} and ${radius}`,
    );
  }
  const kernel = Float32Array.from(
    { length: radius + 1 },
    (_, k) => Math.exp(-(k * k) / (2 * sigma * sigma)),
  );
  const sum = kernel.reduce((total, w, k) => total + (k === 0 ? w : 2 * w), 0);
  for (let k = 0; k <= radius; k++) kernel[k] /= sum;
  if (blurred.length < pixels.length) blurred = new Float32Array(pixels.length);
  blurAlong(pixels, blurred, height, width, width * 3, 3, kernel);
  blurAlong(blurred, pixels, width, height, 3, width * 3, kernel);
}

/** Filters along the places that lie `step` apart, on each of `lines` lines that lie `lineStep` apart. */
function blurAlong(
  from: Float32Array,
  to: Float32Array,
  lines: number,
  places: number,
  lineStep: number,
  step: number,
  kernel: Float32Array,
): void {
  const last = places - 1;
  for (let line = 0; line < lines; line++) {
    for (let place = 0; place < places; place++) {
      const at = line * lineStep + place * step;
      let r = kernel[0] * from[at], g = kernel[0] * from[at + 1], b = kernel[0] * from[at + 2];
      for (let k = 1; k < kernel.length; k++) {
        const before = place - k < 0 ? k - place : place - k;
        const after = place + k > last ? 2 * last - place - k : place + k;
        const i = line * lineStep + before * step, j = line * lineStep + after * step, weight = kernel[k];
        r += weight * (from[i] + from[j]);
        g += weight * (from[i + 1] + from[j + 1]);
        b += weight * (from[i + 2] + from[j + 2]);
      }
      to[at] = r;
      to[at + 1] = g;
      to[at + 2] = b;
    }
  }
}

const PILLOW_PASSES = 3;

/**
 * Blurs as Pillow's `GaussianBlur` does: three box filters along each axis whose variances add up to σ², their ends
 * weighted by the part of a pixel that they cover; the image goes on with its outermost pixels.
 *
 *     width of a box: L = √(12 σ² / 3 + 1)
 *
 * *Source*: `ImagingGaussianBlur` of Pillow's `BoxBlur.c`. *Differs*: no rounding to bytes after each box.
 *
 * @param pixels float32 [height, width, 3]; changed in place.
 * @param sigma above 0.
 */
export function pillowBlur(pixels: Float32Array, height: number, width: number, sigma: number): void {
  if (!(sigma > 0)) throw new RangeError(`Cannot blur: sigma must be above 0, got ${sigma}`);
  const radius = boxRadius(sigma);
  if (blurred.length < pixels.length) blurred = new Float32Array(pixels.length);
  let from: Float32Array = pixels, to: Float32Array = blurred;
  for (
    const [lines, places, lineStep, step] of [[height, width, width * 3, 3], [width, height, 3, width * 3]]
  ) {
    for (let pass = 0; pass < PILLOW_PASSES; pass++) {
      for (let line = 0; line < lines; line++) boxAlong(from, to, line * lineStep, places, step, radius);
      [from, to] = [to, from];
    }
  }
}

/** Radius of each box, whole pixels and the part of one more on each side. */
function boxRadius(sigma: number): number {
  const variance = sigma * sigma / PILLOW_PASSES;
  const whole = Math.floor((Math.sqrt(12 * variance + 1) - 1) / 2), next = whole + 1;
  return whole + (2 * whole + 1) * (whole * next - 3 * variance) / (6 * (variance - next * next));
}

/** One box filter along a line of pixels, as a running sum. */
function boxAlong(
  from: Float32Array,
  to: Float32Array,
  start: number,
  places: number,
  step: number,
  radius: number,
): void {
  const whole = Math.floor(radius), inner = 1 / (2 * radius + 1), outer = (1 - (2 * whole + 1) * inner) / 2;
  const last = places - 1, at = (place: number) => start + Math.min(Math.max(place, 0), last) * step;
  for (let channel = 0; channel < 3; channel++) {
    let sum = 0;
    for (let k = -whole; k <= whole; k++) sum += from[at(k) + channel];
    for (let place = 0; place < places; place++) {
      const before = from[at(place - whole - 1) + channel], after = from[at(place + whole + 1) + channel];
      to[start + place * step + channel] = inner * sum + outer * (before + after);
      sum += after - from[at(place - whole) + channel];
    }
  }
}
