/**
 * Weights of PyTorch's modules in the layout of ours: maps are transposed, convolutions have their channels last.
 *
 * @module
 */
import { expectShape, float32, type HostTensor } from "novae/tensor/mod.ts";

/**
 * The weight of a linear map: `[out, in]` as PyTorch has it to `[in, out]`.
 *
 * @throws TypeError if it is no matrix.
 */
export function linearFromPytorch(weight: HostTensor): HostTensor {
  expectShape("Cannot turn a linear map of PyTorch", weight.shape, [null, null]);
  const [outDim, inDim] = weight.shape;
  const data = permuted(weight.data as Float32Array, outDim, inDim, 1);
  return float32(data, [inDim, outDim]);
}

/**
 * The kernel of a convolution: `[out, in, height, width]` as PyTorch has it to `[height, width, in, out]`.
 *
 * @throws TypeError if it is not of rank 4.
 */
export function convFromPytorch(weight: HostTensor): HostTensor {
  expectShape("Cannot turn a convolution of PyTorch", weight.shape, [null, null, null, null]);
  const [outDim, inDim, height, width] = weight.shape;
  const data = permuted(weight.data as Float32Array, outDim, inDim, height * width);
  return float32(data, [height, width, inDim, outDim]);
}

/** `[out, in, places]` to `[places, in, out]`. */
function permuted(data: Float32Array, outDim: number, inDim: number, places: number): Float32Array {
  const result = new Float32Array(data.length);
  let from = 0;
  for (let o = 0; o < outDim; o++) {
    for (let i = 0; i < inDim; i++) {
      for (let place = 0; place < places; place++) {
        result[(place * inDim + i) * outDim + o] = data[from++];
      }
    }
  }
  return result;
}
