/** Small images, encoders and comparisons that the tests of the autoencoders share. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { type AutoencoderConfig, namedAutoencoder, type SpaceName } from "novae/autoencoder/mod.ts";
import type { Dataset } from "novae/data/mod.ts";
import { DinoEncoder, initVit, VIT_SIZES } from "novae/dino/mod.ts";
import { hashBytes } from "novae/io/mod.ts";
import {
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  mapTree,
  Rng,
  sizeOf,
} from "novae/tensor/mod.ts";

export const IMAGE_SIZE = 16;

/** Settings of the size for tests: 16×16 images, 4×4 tokens. */
export function tinyConfig(space: SpaceName): AutoencoderConfig {
  return namedAutoencoder("tiny", { space, imageSize: IMAGE_SIZE, patchSize: 4, featureChannels: 16 });
}

/** An encoder with random weights, gains and shifts included; the same for the same seed. */
export function tinyEncoder(seed = 5): DinoEncoder {
  const params = jiggled(initVit(new Rng(seed), VIT_SIZES.tiny), new Rng(seed), 0.2);
  return new DinoEncoder(VIT_SIZES.tiny, params, { device: "cpu" });
}

/** Adds noise to all weights, so that none is zero or one any more. */
export function jiggled<P>(params: P, rng: Rng, amount: number): P {
  return mapTree<P>(params, isHostTensor, (leaf, path) => {
    const { data, shape } = leaf as HostTensor, noise = rng.split(path).normal(data.length);
    return float32(Float32Array.from(data, (v, i) => v + amount * noise[i]), shape);
  });
}

/** Discs of random place, size and colour on a random ground. */
export class DiscImages implements Dataset {
  readonly name = "discs";
  readonly classes = ["disc"];
  readonly imageSize = IMAGE_SIZE;
  readonly hash: string;
  readonly #pixels: Float32Array;

  constructor(readonly size: number, seed = 1) {
    const stride = IMAGE_SIZE * IMAGE_SIZE * 3;
    this.#pixels = new Float32Array(size * stride);
    for (let n = 0; n < size; n++) {
      const rng = new Rng(seed).split(n);
      const ground = rng.uniform(3), colour = rng.uniform(3);
      const [y, x, radius] = [rng.range(4, 12), rng.range(4, 12), rng.range(2, 6)];
      for (let i = 0; i < stride; i++) {
        const pixel = Math.floor(i / 3);
        const inside = Math.hypot(Math.floor(pixel / IMAGE_SIZE) - y, pixel % IMAGE_SIZE - x) < radius;
        this.#pixels[n * stride + i] = (inside ? colour : ground)[i % 3];
      }
    }
    this.hash = hashBytes(this.#pixels);
  }

  images(indices: ArrayLike<number>): HostTensor {
    const stride = IMAGE_SIZE * IMAGE_SIZE * 3;
    const data = new Float32Array(indices.length * stride);
    for (let b = 0; b < indices.length; b++) {
      data.set(this.#pixels.subarray(indices[b] * stride, (indices[b] + 1) * stride), b * stride);
    }
    return float32(data, [indices.length, IMAGE_SIZE, IMAGE_SIZE, 3]);
  }

  labels(indices: ArrayLike<number>): Int32Array {
    return new Int32Array(indices.length);
  }
}

/** The integers from 0. */
export function upTo(count: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => i);
}

/** The chirp of tests/golden/autoencoder.py. */
export function wave(shape: readonly number[], name: string, amplitude = 1, base = 0): HostTensor {
  const phase = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
  const data = Float32Array.from(
    { length: sizeOf(shape) },
    (_, i) => base + amplitude * Math.sin(0.37 * i * i + i + phase),
  );
  return float32(data, shape);
}

/** Fills parameters as tests/golden/autoencoder.py does. */
export function waveParams<P>(params: P): P {
  return mapTree<P>(params, isHostTensor, (leaf, path) => {
    const { shape } = leaf as HostTensor;
    if (shape.length === 1) return wave(shape, path, 0.3, path.endsWith("weight") ? 1 : 0);
    const token = shape.length === 3 && shape[0] === 1;
    return wave(shape, path, token ? 1.4 : 1.4 * sizeOf(shape.slice(0, -1)) ** -0.5);
  });
}

/** Turns a tree of host tensors into tfjs tensors. */
export function toTensors<R>(tree: unknown): R {
  return mapTree<R>(tree, isHostTensor, (leaf) => {
    const { data, shape } = leaf as HostTensor;
    return tf.tensor(data, [...shape]);
  });
}

/**
 * Compares numbers, relative to the largest wanted one so that values near zero are not asked for more digits.
 *
 * @param least what the largest counts as if it is smaller.
 */
export function assertClose(
  got: ArrayLike<number>,
  wanted: ArrayLike<number>,
  tolerance: number,
  what = "",
  least = 0,
): void {
  assert.equal(got.length, wanted.length, what);
  let scale = least;
  for (let i = 0; i < wanted.length; i++) scale = Math.max(scale, Math.abs(wanted[i]));
  for (let i = 0; i < got.length; i++) {
    const close = Math.abs(got[i] - wanted[i]) <= tolerance * scale;
    assert.ok(close, `${what}[${i}]: got ${got[i]}, wanted ${wanted[i]} (largest ${scale})`);
  }
}

/** Asserts that two trees hold the same bits. */
export function assertSameBits(a: unknown, b: unknown): void {
  const left = flattenTree<HostTensor>(a, isHostTensor), right = flattenTree<HostTensor>(b, isHostTensor);
  assert.deepEqual(left.map((l) => l.path), right.map((l) => l.path));
  left.forEach((leaf, i) => assert.deepEqual(leaf.value.data, right[i].value.data, leaf.path));
}
