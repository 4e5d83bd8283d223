/**
 * What an autoencoder is given: checks of images and latents.
 *
 * @module
 */
import { expectShape, type HostTensor } from "novae/tensor/mod.ts";

/** What resizing with floats may leave the range by. */
const UNIT_SLACK = 1e-3;

/** @throws RangeError for images in [−1, 1] or in bytes, which would be encoded to what looks like latents. */
export function expectUnit(what: string, { data }: HostTensor): void {
  const wrong = (data as Float32Array).findIndex((v) => !(v >= -UNIT_SLACK && v <= 1 + UNIT_SLACK));
  if (wrong < 0) return;
  throw new RangeError(`${what}: values must be in [0, 1], got ${data[wrong]}`);
}

/**
 * Checks latents, which come from samplers and other programs.
 *
 * @throws TypeError for another layout; RangeError for values that are not finite.
 */
export function expectLatents(
  what: string,
  { shape, data }: HostTensor,
  tokens: number,
  channels: number,
): void {
  if (shape[1] === channels && (shape.length === 4 || shape[2] === tokens) && channels !== tokens) {
    throw new TypeError(
      `${what}: shape must be [any, ${tokens}, ${channels}], channels last, got channels first, [${
        shape.join(", ")
      }]`,
    );
  }
  expectShape(what, shape, [null, tokens, channels]);
  const wrong = (data as Float32Array).findIndex((value) => !Number.isFinite(value));
  if (wrong < 0) return;
  const at = [
    Math.floor(wrong / (tokens * channels)),
    Math.floor(wrong / channels) % tokens,
    wrong % channels,
  ];
  throw new RangeError(`${what}: values must be finite, got ${data[wrong]} at [${at.join(", ")}]`);
}
