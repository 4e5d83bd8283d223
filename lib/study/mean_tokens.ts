import type { HostTensor, Matrix } from "novae/tensor/mod.ts";

/** The mean over the tokens of each image: [B, N, C] to a matrix [B, C]. */
export function meanTokens({ shape: [count, tokens, channels], data }: HostTensor): Matrix {
  const mean = new Float32Array(count * channels);
  for (let b = 0; b < count; b++) {
    for (let n = 0; n < tokens; n++) {
      const from = (b * tokens + n) * channels;
      for (let c = 0; c < channels; c++) mean[b * channels + c] += data[from + c] / tokens;
    }
  }
  return { data: mean, rows: count, cols: channels };
}
