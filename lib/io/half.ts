/**
 * 16-bit floating point numbers as bit patterns.
 *
 * @module
 */

/** The largest finite number of IEEE 754 binary16. */
export const FLOAT16_MAX = 65504;

/**
 * Rounds to binary16, to nearest with ties to even, subnormals included; beyond 65519.99 becomes infinity.
 *
 * @param values float32 numbers.
 * @returns the bit patterns, one a value.
 */
export function toFloat16Bits(values: Float32Array): Uint16Array<ArrayBuffer> {
  return new Uint16Array(new Float16Array(values).buffer);
}

/** Widens binary16 bit patterns; every value is exact. */
export function fromFloat16Bits(bits: Uint16Array): Float32Array<ArrayBuffer> {
  return new Float32Array(new Float16Array(bits.buffer as ArrayBuffer, bits.byteOffset, bits.length));
}

/** Widens bfloat16 bit patterns; every value is exact. */
export function fromBfloat16Bits(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i] << 16;
  return new Float32Array(words.buffer);
}
