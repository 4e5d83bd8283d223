/**
 * Convolutions in PyTorch's layout and in ours.
 *
 * @module
 */

/**
 * The shape in PyTorch of a weight of ours: of a kernel [rows, columns, in, out] or a map [in, out] that of a
 * convolution, [out, in, rows, columns]; vectors stay as they are.
 *
 * @param rank in the file, where a 1×1 convolution may be a linear map [out, in], of rank 2.
 */
export function torchConvShape(shape: readonly number[], rank?: number): readonly number[] {
  if (shape.length === 1) return shape;
  const [inChannels, outChannels] = shape.slice(-2), kernel = shape.length === 4 ? shape[0] : 1;
  if (rank === 2 && kernel === 1) return [outChannels, inChannels];
  return [outChannels, inChannels, kernel, kernel];
}

/**
 * Values [out, in, rows, columns] as [rows, columns, in, out], in strips that fit the cache.
 *
 * @param shape ours.
 */
export function convFromTorch(data: Float32Array, shape: readonly number[]): Float32Array {
  if (shape.length === 1) return data;
  const [inChannels, outChannels] = shape.slice(-2), taps = data.length / (inChannels * outChannels);
  const result = new Float32Array(data.length), side = 32;
  for (let left = 0; left < inChannels; left += side) {
    const right = Math.min(left + side, inChannels);
    for (let tap = 0; tap < taps; tap++) {
      for (let o = 0; o < outChannels; o++) {
        for (let i = left; i < right; i++) {
          result[(tap * inChannels + i) * outChannels + o] = data[(o * inChannels + i) * taps + tap];
        }
      }
    }
  }
  return result;
}
