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
  const values = new Float32Array(bits.length);
  widenFloat16(bits, values);
  return values;
}

/** Widens bfloat16 bit patterns; every value is exact. */
export function fromBfloat16Bits(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const values = new Float32Array(bits.length);
  widenBfloat16(bits, values);
  return values;
}

/**
 * {@link fromFloat16Bits} into memory that is there. The bits may be the second half of that memory: each is read
 * before anything is written over it.
 */
export function widenFloat16(bits: Uint16Array, values: Float32Array): void {
  // Integers, since V8 makes an object of each float until it has compiled the loop.
  const words = new Int32Array(values.buffer, values.byteOffset, values.length), table = float16Words();
  for (let i = 0; i < bits.length; i++) words[i] = table[bits[i]];
}

/** {@link fromBfloat16Bits} into memory that is there, as {@link widenFloat16} does. */
export function widenBfloat16(bits: Uint16Array, values: Float32Array): void {
  const words = new Int32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i] << 16;
}

let knownWords: Int32Array | undefined;

/** The bits of every binary16 number as float32, 256 KiB, made when they are first wanted. */
function float16Words(): Int32Array {
  if (knownWords === undefined) {
    const all = Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits);
    knownWords = new Int32Array(new Float32Array(new Float16Array(all.buffer)).buffer);
  }
  return knownWords;
}
