/**
 * What the content of a file may need in memory. Hostile files claim much with little: a deflated run of zeros, a list
 * that holds itself many times, a tensor that repeats one element.
 *
 * @module
 */

const FACTOR = 8, LEAST_BYTES = 1 << 20;

/**
 * The most bytes that the content of a file is given: eight times the file, at least 1 MiB. With the file itself and
 * what a conversion needs in passing, memory stays below ten times the file's size.
 */
export function memoryLimit(fileBytes: number): number {
  return Math.max(LEAST_BYTES, FACTOR * fileBytes);
}

/** Memory that is counted before it is taken. */
export class MemoryBudget {
  /** The most that may be taken. */
  readonly limit: number;
  #taken = 0;
  readonly #fail: (limit: number) => Error;

  /** @param fail makes the error for more than the limit. */
  constructor(limit: number, fail: (limit: number) => Error) {
    this.limit = limit;
    this.#fail = fail;
  }

  /** Bytes that may still be taken. */
  get left(): number {
    return this.limit - this.#taken;
  }

  /** Counts bytes; throws if they are more than are left. */
  take(bytes: number): void {
    this.#taken += bytes;
    if (!(this.#taken <= this.limit)) throw this.#fail(this.limit);
  }
}
