/**
 * Seeded counter-based random numbers: value `i` of stream `(seed, label…)` is a pure function of these, so that
 * work can be split, repeated and resumed at any place.
 *
 * @module
 */

const M0 = 0xd2511f53, M1 = 0xcd9e8d57, W0 = 0x9e3779b9, W1 = 0xbb67ae85;
const INV_2_32 = 2 ** -32;

/**
 * A stream of random numbers from Philox4x32-10.
 *
 * *Source*: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
 *
 * @example
 * ```ts
 * import { Rng } from "novae/tensor/mod.ts";
 * const a = new Rng(7).split("noise").normal(4), b = new Rng(7).split("noise").normal(4);
 * if (a.some((v, i) => v !== b[i])) throw new Error("streams differ");
 * ```
 */
export class Rng {
  readonly #key0: number;
  readonly #key1: number;
  #counter = 0;
  #buffer = new Uint32Array(4);
  #left = 0;

  /**
   * Starts the stream of a seed.
   *
   * @param seed any integer from 0 to 2^53 − 1.
   */
  constructor(seed: number) {
    this.#key0 = seed >>> 0;
    this.#key1 = Math.floor(seed / 2 ** 32) >>> 0;
  }

  /** An independent stream for a purpose or an index; splitting does not disturb this stream. */
  split(...labels: (string | number)[]): Rng {
    let key0 = this.#key0, key1 = this.#key1;
    for (const label of labels) {
      const text = typeof label === "number" ? `#${label}` : label;
      let hash0 = 0x811c9dc5, hash1 = 0x1b873593;
      for (let i = 0; i < text.length; i++) {
        hash0 = Math.imul(hash0 ^ text.charCodeAt(i), 0x01000193);
        hash1 = Math.imul(hash1 ^ text.charCodeAt(i), 0x85ebca6b) ^ (hash1 >>> 13);
      }
      const mixed = new Uint32Array(4);
      philox(key0, key1, hash0 >>> 0, hash1 >>> 0, mixed, 0x5eed);
      key0 = mixed[0];
      key1 = mixed[1];
    }
    const child = new Rng(0);
    return child.#withKey(key0, key1);
  }

  /** The next 32 random bits as an unsigned integer. */
  uint32(): number {
    if (this.#left === 0) {
      philox(
        this.#key0,
        this.#key1,
        this.#counter >>> 0,
        Math.floor(this.#counter / 2 ** 32) >>> 0,
        this.#buffer,
        0,
      );
      this.#counter++;
      this.#left = 4;
    }
    return this.#buffer[4 - this.#left--];
  }

  /** The next number in [0, 1), with 32 random bits. */
  next(): number {
    return this.uint32() * INV_2_32;
  }

  /** The next number in [low, high). */
  range(low: number, high: number): number {
    return low + (high - low) * this.next();
  }

  /** The next integer in [0, bound). */
  int(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  /** `count` numbers uniform in [0, 1). */
  uniform(count: number): Float32Array {
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = (this.uint32() >>> 8) * 2 ** -24;
    return values;
  }

  /** `count` standard normal numbers (Box-Muller). */
  normal(count: number): Float32Array {
    const values = new Float32Array(count);
    for (let i = 0; i < count; i += 2) {
      const radius = Math.sqrt(-2 * Math.log((this.uint32() + 1) * INV_2_32));
      const angle = 2 * Math.PI * this.next();
      values[i] = radius * Math.cos(angle);
      if (i + 1 < count) values[i + 1] = radius * Math.sin(angle);
    }
    return values;
  }

  /** A random order of 0 … count − 1 (Fisher-Yates). */
  permutation(count: number): Int32Array {
    const order = Int32Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = this.int(i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  #withKey(key0: number, key1: number): Rng {
    return new Rng(key1 * 2 ** 32 + key0);
  }
}

/** Ten rounds of Philox4x32 on the counter (c0, c1, c2, 0), written to `out`. */
function philox(key0: number, key1: number, c0: number, c1: number, out: Uint32Array, c2: number): void {
  let x0 = c0, x1 = c1, x2 = c2, x3 = 0, k0 = key0, k1 = key1;
  for (let round = 0; round < 10; round++) {
    const hi0 = mulHigh(M0, x0), lo0 = Math.imul(M0, x0) >>> 0;
    const hi1 = mulHigh(M1, x2), lo1 = Math.imul(M1, x2) >>> 0;
    x0 = (hi1 ^ x1 ^ k0) >>> 0;
    x1 = lo1;
    x2 = (hi0 ^ x3 ^ k1) >>> 0;
    x3 = lo0;
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  out[0] = x0;
  out[1] = x1;
  out[2] = x2;
  out[3] = x3;
}

/** The upper 32 bits of a 32 × 32 bit product. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff, aHigh = a >>> 16, bLow = b & 0xffff, bHigh = b >>> 16;
  const low = aLow * bLow, mid1 = aHigh * bLow + (low >>> 16), mid2 = aLow * bHigh + (mid1 & 0xffff);
  return (aHigh * bHigh + Math.floor(mid1 / 0x10000) + Math.floor(mid2 / 0x10000)) >>> 0;
}
