/**
 * Compiled functions over any number of images, and their results joined.
 *
 * @module
 */
import { concatRows, float32, type HostTensor, rows, sizeOf } from "novae/tensor/mod.ts";

/** A compiled function of one tensor. */
type Run = (batch: HostTensor) => Promise<{ read(): Promise<HostTensor>; dispose(): void }>;

/** Pixels of a batch of images: 64 images of 64 × 64 or 4 of 256 × 256. */
const BATCH_PIXELS = 2 ** 18;

/** Images at once, so that a map of 128 channels at full resolution stays within 128 MiB. */
export function imagesAtOnce(imageSize: number): number {
  return Math.min(Math.max(Math.floor(BATCH_PIXELS / imageSize ** 2), 1), 64);
}

/**
 * Runs a compiled function over any number of rows. A rest is filled up with zeros to a power of two, so that few
 * sizes are ever compiled.
 */
export async function inBatches(
  input: HostTensor,
  batchSize: number,
  run: Run,
): Promise<HostTensor> {
  const count = input.shape[0], outputs: HostTensor[] = [];
  if (count === 0) throw new TypeError("Cannot run an autoencoder: at least one image is needed, got none");
  for (let start = 0; start < count; start += batchSize) {
    const wanted = Math.min(batchSize, count - start);
    const size = Math.min(2 ** Math.ceil(Math.log2(wanted)), batchSize);
    const output = await run(filledUp(rows(input, start, start + wanted), size));
    outputs.push(rows(await output.read(), 0, wanted));
    output.dispose();
  }
  return concatRows(outputs);
}

function filledUp(batch: HostTensor, size: number): HostTensor {
  if (batch.shape[0] === size) return batch;
  const shape = [size, ...batch.shape.slice(1)];
  const data = new Float32Array(sizeOf(shape));
  data.set(batch.data);
  return float32(data, shape);
}

/** Joins two tensors `[B, N, …]` along their channels. */
export function concatChannels(a: HostTensor, b: HostTensor): HostTensor {
  const [batch, tokens, left] = a.shape, right = b.shape[2], channels = left + right;
  const data = new Float32Array(batch * tokens * channels);
  for (let i = 0; i < batch * tokens; i++) {
    data.set(a.data.subarray(i * left, (i + 1) * left), i * channels);
    data.set(b.data.subarray(i * right, (i + 1) * right), i * channels + left);
  }
  return float32(data, [batch, tokens, channels]);
}
